"""Table 1 of the PruNet paper as a preset, and smaller ones for images of 8, 28 and 32 pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from search_spaces.base import Shape

StageKind = Literal["conv", "fused_irb", "irb"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of Table 1: `depth` layers of one kind, the first with `stride`."""

    kind: StageKind
    channels: int
    depth: int
    stride: int
    activation: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A supernet: stem, stages and head, and the options that every searched block has."""

    in_shape: tuple[int, int, int]
    num_classes: int
    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_channels: int
    max_expand_ratio: int
    granularity: int
    baseline_expand_ratios: tuple[tuple[int, ...], ...]
    baseline_se: tuple[bool, ...]
    kernel_sizes: tuple[int, ...] = (3, 5)


_GPUNET1_SUPERNET = Preset(
    in_shape=(3, 288, 288),
    num_classes=1000,
    stem_channels=24,
    stem_stride=2,
    stages=(
        Stage("conv", 24, 2, 1, "relu"),
        Stage("fused_irb", 64, 3, 2, "swish"),
        Stage("fused_irb", 96, 3, 2, "swish"),
        Stage("irb", 160, 2, 2, "swish"),
        Stage("irb", 288, 5, 1, "relu"),
        Stage("irb", 448, 5, 2, "relu"),
    ),
    head_channels=1280,
    max_expand_ratio=8,
    granularity=32,
    baseline_expand_ratios=((1,), (4, 4), (4, 4), (2,), (5, 5, 5, 5), (4, 4, 4, 4)),
    baseline_se=(False, False, False, True, False, True),
)

PRESETS: Mapping[str, Preset] = {
    "gpunet1_supernet": _GPUNET1_SUPERNET,
    # Section 3.1's product of options, 1.7e39, has one Fused-IRB fewer in stage 2 than Table 5.
    "gpunet1_printed": replace(
        _GPUNET1_SUPERNET,
        stages=(
            *_GPUNET1_SUPERNET.stages[:1],
            replace(_GPUNET1_SUPERNET.stages[1], depth=2),
            *_GPUNET1_SUPERNET.stages[2:],
        ),
    ),
    "gpunet_8": Preset(
        in_shape=(1, 8, 8),
        num_classes=10,
        stem_channels=8,
        stem_stride=1,
        stages=(
            Stage("conv", 8, 1, 1, "relu"),
            Stage("fused_irb", 16, 2, 2, "swish"),
            Stage("irb", 32, 3, 2, "relu"),
        ),
        head_channels=64,
        max_expand_ratio=8,
        granularity=16,
        baseline_expand_ratios=((), (4,), (4, 4)),
        baseline_se=(False, False, True),
    ),
    "gpunet_28": Preset(
        in_shape=(1, 28, 28),
        num_classes=10,
        stem_channels=16,
        stem_stride=2,
        stages=(
            Stage("conv", 16, 1, 1, "relu"),
            Stage("fused_irb", 24, 2, 2, "swish"),
            Stage("irb", 40, 3, 1, "relu"),
            Stage("irb", 64, 3, 2, "relu"),
        ),
        head_channels=192,
        max_expand_ratio=6,
        granularity=16,
        baseline_expand_ratios=((), (4,), (4, 4), (4, 4)),
        baseline_se=(False, False, False, True),
    ),
    "gpunet_32": Preset(
        in_shape=(3, 32, 32),
        num_classes=10,
        stem_channels=24,
        stem_stride=1,
        stages=(
            Stage("conv", 24, 2, 1, "relu"),
            Stage("fused_irb", 32, 3, 2, "swish"),
            Stage("fused_irb", 48, 2, 1, "swish"),
            Stage("irb", 80, 4, 2, "relu"),
            Stage("irb", 128, 3, 2, "relu"),
        ),
        head_channels=512,
        max_expand_ratio=8,
        granularity=16,
        baseline_expand_ratios=((1,), (4, 4), (4,), (4, 4, 4), (4, 4)),
        baseline_se=(False, False, False, False, True),
    ),
}


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes default to the preset's, or follow the data set.

    `max_expand_ratio` and `granularity` (hidden channels) override the preset's.
    """

    preset: str = "gpunet_28"
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    max_expand_ratio: int | None = None
    granularity: int | None = None

    def __post_init__(self) -> None:
        """Refuse unknown presets and impossible sizes."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset: {self.preset!r} is unknown; allowed: {sorted(PRESETS)}")
        for name in ("num_classes", "max_expand_ratio", "granularity"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {self.in_shape} has a dimension below 1")


def strided(shape: Shape, channels: int, stride: int) -> Shape:
    """Return the shape after a "same"-padded convolution of that many channels."""
    return (channels, *(math.ceil(size / stride) for size in shape[1:]))
