"""The layers of a network as Layer records, from which its modules are built too."""

from __future__ import annotations

import functools
import math
from typing import Any

from search_spaces.base import Layer, LayerKind, Shape
from search_spaces.keyword_nets.networks import LayerSpec


@functools.lru_cache(maxsize=1 << 14)
def records(
    spec: LayerSpec, in_width: int, width: int, source: str | None = None
) -> tuple[Layer, ...]:
    """Return a layer's records; the first reads record `source`, or the network's input.

    Networks share the records of equal layers. `in_width` and `width` are channels or units.
    """
    trace = _Trace(spec, (in_width, *spec.in_map), source)
    if spec.kind == "linear":
        trace.linear(width)
    elif spec.kind == "conv":
        trace.conv("conv", (width, *spec.out_map), spec.kernel_size, spec.stride)
    else:
        middle, end = (in_width, *spec.out_map), (width, *spec.out_map)
        trace.conv("depthwise", middle, spec.kernel_size, spec.stride, in_width)
        trace.conv("pointwise", end)
    return tuple(trace.layers)


class _Trace:
    """Collects a layer's records, each of which reads the one before."""

    def __init__(self, spec: LayerSpec, shape: Shape, source: str | None) -> None:
        self.layers: list[Layer] = []
        self.spec = spec
        self.shape = shape
        self.last: tuple[str, ...] = () if source is None else (source,)

    def add(self, name: str, kind: LayerKind, out_shape: Shape, **more: Any) -> None:
        own = self.spec.name
        name = f"{own}.{name}"
        self.layers.append(
            Layer(name, kind, self.shape, out_shape, inputs=self.last, module=own, **more)
        )
        self.shape, self.last = out_shape, (name,)

    def conv(
        self,
        name: str,
        out_shape: Shape,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> None:
        geometry = {"kernel_size": kernel_size, "stride": stride, "groups": groups, "bias": True}
        self.add(name, "conv", out_shape, **geometry)
        self.follow("" if name == "conv" else f"{name}_")

    def linear(self, units: int) -> None:
        if self.spec.pool is not None:
            sizes = zip(self.spec.in_map, self.spec.pool, strict=True)
            pooled = (self.shape[0], *(size - kernel + 1 for size, kernel in sizes))
            self.add("pool", "avg_pool", pooled, kernel_size=self.spec.pool)
        if self.spec.in_map:
            self.add("flatten", "flatten", (math.prod(self.shape),))
        self.add("linear", "linear", (units,), bias=True)
        self.follow("")

    def follow(self, prefix: str) -> None:
        if self.spec.norm:
            self.add(f"{prefix}norm", "norm", self.shape)
        if self.spec.activation is not None:
            self.add(f"{prefix}act", "activation", self.shape)
