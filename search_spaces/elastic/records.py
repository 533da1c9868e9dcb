"""Layer records of a network's parts."""

from __future__ import annotations

import math
from typing import Any

from search_spaces.base import Layer, LayerKind, Shape


class Trace:
    """Collects the records of one module; each reads the one before, the first layer `source`.

    `shape` and `last` are what the next layer reads; a branch sets them back.
    """

    def __init__(self, module: str, shape: Shape, source: str | None) -> None:
        self.layers: list[Layer] = []
        self.module = module
        self.shape = shape
        self.last: tuple[str, ...] = () if source is None else (source,)

    def add(self, name: str, kind: LayerKind, out_shape: Shape | None = None, **more: Any) -> None:
        """Add a layer; it keeps the shape unless another is given."""
        out_shape = out_shape or self.shape
        more.setdefault("inputs", self.last)
        name = f"{self.module}.{name}"
        self.layers.append(Layer(name, kind, self.shape, out_shape, module=self.module, **more))
        self.shape, self.last = out_shape, (name,)

    def conv(
        self, name: str, channels: int, kernel_size: int = 1, stride: int = 1, **more: Any
    ) -> None:
        """Add a convolution that is padded by half its kernel."""
        out_shape = strided((channels, *self.shape[1:]), stride)
        geometry = {"kernel_size": (kernel_size, kernel_size), "stride": (stride, stride)}
        self.add(name, "conv", out_shape, **geometry, **more)

    def conv_norm(
        self,
        prefix: str,
        channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        """Add the records of a `ConvNorm` whose names begin with `prefix`."""
        self.conv(f"{prefix}conv", channels, kernel_size, stride, groups=groups)
        self.add(f"{prefix}norm", "norm")
        if act:
            self.add(f"{prefix}act", "activation")


def strided(shape: Shape, stride: int) -> Shape:
    """Return the shape of a map after a padded convolution or pool with this stride."""
    return (shape[0], *(math.ceil(size / stride) for size in shape[1:]))
