"""ResNet-20 and ResNet-18 as tables of their residual blocks, and the options of the space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from search_spaces.base import Shape

Map = tuple[int, ...]
Shortcut = Literal["identity", "pool_pad", "strided_conv", "conv", "conv_pool"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A depth: the most channels of each group, and the stem (`stem_pool`: a max pool ends it)."""

    in_shape: Shape
    num_classes: int
    widths: tuple[int, ...]
    blocks_per_group: int
    stem_kernel: int
    stem_stride: int
    stem_pool: bool


LAYOUTS: Mapping[int, Layout] = {
    20: Layout((3, 32, 32), 10, (16, 32, 64), 3, stem_kernel=3, stem_stride=1, stem_pool=False),
    18: Layout(
        (3, 224, 224), 1000, (64, 128, 256, 512), 2, stem_kernel=7, stem_stride=2, stem_pool=True
    ),
}


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes default to the depth's, or follow the data set.

    `width_mult` scales the most channels of every convolution, rounded to the nearest number and
    at least 1. A choice offers the multiples of `channel_multiple` below the most, and the most.
    """

    depth: Literal[20, 18] = 20
    shortcut: Literal["identity", "conv1x1"] = "identity"
    width_mult: float = 1.0
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    channel_multiple: int = 1

    def __post_init__(self) -> None:
        """Refuse depths and shortcuts that do not exist, and impossible sizes.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        if self.depth not in LAYOUTS:
            raise ValueError(f"depth: {self.depth} is unknown; allowed: {sorted(LAYOUTS)}")
        if self.shortcut not in ("identity", "conv1x1"):
            raise ValueError(
                f"shortcut: {self.shortcut!r} is unknown; allowed: ['identity', 'conv1x1']"
            )
        if not 0 < self.width_mult < math.inf:
            raise ValueError(f"width_mult: {self.width_mult} is not a positive number")
        for name in ("num_classes", "channel_multiple"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {self.in_shape} has a dimension below 1")
        widest = scaled(max(LAYOUTS[self.depth].widths), self.width_mult)
        if 1 < widest <= self.channel_multiple:
            raise ValueError(
                f"channel_multiple: {self.channel_multiple} leaves one width to every layer, the"
                f" widest of which has {widest} channels; allowed: below {widest}"
            )


@dataclass(frozen=True, slots=True)
class ResidualSpec:
    """One residual block: two 3x3 convolutions, the first with `stride`, and a shortcut.

    `first`, `second` and `shortcut` name its modules. `reads`, `first` and `writes` name the
    choices that give the channels of its input, of its first and of its second convolution.
    """

    first: str
    second: str
    shortcut: str
    kind: Shortcut
    stride: int
    in_map: Map
    out_map: Map
    reads: str
    writes: str


def residual_specs(config: Config, in_map: Map) -> Iterator[ResidualSpec]:
    """Yield the residual blocks in order; the first reads a map of this size, the stem's."""
    layout = LAYOUTS[config.depth]
    free = config.shortcut == "conv1x1"
    number, writes = 1, "conv1"
    for group in range(len(layout.widths)):
        for position in range(layout.blocks_per_group):
            number += 2
            stride = 2 if group > 0 and position == 0 else 1
            reads = writes
            if free or stride == 2:
                writes = f"conv{number}"
            out_map = strided(in_map, stride)
            yield ResidualSpec(
                first=f"conv{number - 1}",
                second=f"conv{number}",
                shortcut=f"shortcut{number}",
                kind=_shortcut(config, stride),
                stride=stride,
                in_map=in_map,
                out_map=out_map,
                reads=reads,
                writes=writes,
            )
            in_map = out_map


def strided(in_map: Map, stride: int) -> Map:
    """Return the size of a map after a padded convolution or a pool with this stride."""
    return tuple(math.ceil(size / stride) for size in in_map)


def scaled(width: int, width_mult: float) -> int:
    """Return a multiple of a width: the nearest number, a half upwards, and at least 1."""
    return max(1, math.floor(width * width_mult + 0.5))


def _shortcut(config: Config, stride: int) -> Shortcut:
    if config.shortcut == "conv1x1":
        return "conv" if stride == 1 else "conv_pool"
    if stride == 1:
        return "identity"
    return "pool_pad" if config.depth == 20 else "strided_conv"
