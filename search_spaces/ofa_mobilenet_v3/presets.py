"""The paper's space as presets, and smaller ones for images of 28, 32 and 64 pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from search_spaces.base import Shape
from search_spaces.elastic.modules import Activation, make_div8
from search_spaces.elastic.records import strided


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of the table: blocks of one width, the first with `stride`."""

    channels: int
    stride: int
    activation: Activation
    se: bool


@dataclass(frozen=True, slots=True)
class Preset:
    """A supernet: stem, stages and head, and what every block or stage may choose from.

    Channels are multiplied by `width_mult` and rounded by `make_div8`. Depths, expand ratios and
    kernel sizes rise.
    """

    in_shape: tuple[int, int, int]
    num_classes: int
    resolutions: tuple[int, ...]
    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_channels: int
    mix_channels: int
    width_mult: float = 1.0
    depths: tuple[int, ...] = (2, 3, 4)
    expand_ratios: tuple[int, ...] = (3, 4, 6)
    kernel_sizes: tuple[int, ...] = (3, 5, 7)

    def scaled(self, channels: int) -> int:
        """Return a number of channels at this preset's width."""
        return make_div8(channels * self.width_mult)


@dataclass(frozen=True, slots=True)
class Row:
    """A block of the supernet: what no choice changes."""

    name: str
    channels: int
    stride: int
    activation: Activation
    se: bool

    def out_shape(self, in_shape: Shape) -> Shape:
        """Return what the block makes of a map."""
        return strided((self.channels, *in_shape[1:]), self.stride)


_PAPER = Preset(
    in_shape=(3, 224, 224),
    num_classes=1000,
    resolutions=tuple(range(128, 225, 4)),
    stem_channels=16,
    stem_stride=2,
    stages=(
        Stage(24, 2, "relu", se=False),
        Stage(40, 2, "relu", se=True),
        Stage(80, 2, "h_swish", se=False),
        Stage(112, 1, "h_swish", se=True),
        Stage(160, 2, "h_swish", se=True),
    ),
    head_channels=960,
    mix_channels=1280,
)

PRESETS: Mapping[str, Preset] = {
    "paper_w1.0": _PAPER,
    "paper_w1.2": replace(_PAPER, width_mult=1.2, resolutions=tuple(range(160, 225, 4))),
    "mbv3_64": replace(
        _PAPER, in_shape=(3, 64, 64), num_classes=10, resolutions=(48, 56, 64), width_mult=0.5
    ),
    "mbv3_32": Preset(
        in_shape=(3, 32, 32),
        num_classes=10,
        resolutions=(24, 28, 32),
        stem_channels=16,
        stem_stride=1,
        stages=(
            Stage(16, 2, "relu", se=False),
            Stage(24, 2, "relu", se=True),
            Stage(40, 1, "h_swish", se=False),
            Stage(64, 2, "h_swish", se=True),
        ),
        head_channels=384,
        mix_channels=512,
    ),
    "mbv3_28": Preset(
        in_shape=(1, 28, 28),
        num_classes=10,
        resolutions=(20, 24, 28),
        stem_channels=16,
        stem_stride=2,
        stages=(
            Stage(16, 2, "relu", se=False),
            Stage(24, 1, "h_swish", se=False),
            Stage(40, 2, "h_swish", se=True),
        ),
        head_channels=240,
        mix_channels=320,
    ),
}


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes default to the preset's, or follow the data set.

    `resolutions` are the sizes that a network may choose to see images in, instead of the preset's.
    """

    preset: str = "mbv3_28"
    resolutions: tuple[int, ...] | None = None
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None

    def __post_init__(self) -> None:
        """Refuse unknown presets and impossible sizes."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset: {self.preset!r} is unknown; allowed: {sorted(PRESETS)}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes: {self.num_classes} is not positive")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {self.in_shape} has a dimension below 1")
        given = self.resolutions
        if given is not None and (not given or min(given) < 1 or len(set(given)) < len(given)):
            raise ValueError(
                f"resolutions: {list(given)}; allowed: one or more positive numbers, each once"
            )


def rows(preset: Preset) -> Iterator[Row]:
    """Yield the elastic blocks in order, as many per stage as the deepest network has."""
    for number, stage in enumerate(preset.stages, 1):
        for position in range(preset.depths[-1]):
            yield Row(
                name=f"stage{number}_block{position}",
                channels=preset.scaled(stage.channels),
                stride=stage.stride if position == 0 else 1,
                activation=stage.activation,
                se=stage.se,
            )
