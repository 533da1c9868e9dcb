"""The paper's space as a preset, and smaller ones for images of 28, 32 and 64 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.elastic.modules import make_div8


@dataclass(frozen=True, slots=True)
class Stage:
    """A group of blocks of one width: `depth` of them always run, the first with `stride`."""

    channels: int
    depth: int
    stride: int


@dataclass(frozen=True, slots=True)
class Preset:
    """A supernet: stem, stages and head, and what every block or stage may choose from.

    `extra_depths`, `expand_ratios` and `width_mults` rise. `stem_pool`: a max pool ends the stem.
    """

    in_shape: tuple[int, int, int]
    num_classes: int
    resolutions: tuple[int, ...]
    stages: tuple[Stage, ...]
    stem_pool: bool
    expand_ratios: tuple[float, ...]
    width_mults: tuple[float, ...]
    stem_channels: int = 64
    extra_depths: tuple[int, ...] = (0, 1, 2)

    def scaled(self, channels: int) -> tuple[int, ...]:
        """Return a number of channels at every width that a choice offers."""
        return tuple(make_div8(channels * width_mult) for width_mult in self.width_mults)


PRESETS: Mapping[str, Preset] = {
    "paper": Preset(
        in_shape=(3, 224, 224),
        num_classes=1000,
        resolutions=tuple(range(128, 225, 4)),
        stages=(Stage(256, 2, 1), Stage(512, 2, 2), Stage(1024, 4, 2), Stage(2048, 2, 2)),
        stem_pool=True,
        expand_ratios=(0.2, 0.25, 0.35),
        width_mults=(0.65, 0.8, 1.0),
    ),
    "resnet_64": Preset(
        in_shape=(3, 64, 64),
        num_classes=10,
        resolutions=(48, 56, 64),
        stages=(Stage(64, 1, 1), Stage(128, 1, 2), Stage(256, 2, 2), Stage(512, 1, 2)),
        stem_pool=True,
        expand_ratios=(0.25, 0.5, 0.75),
        width_mults=(0.5, 0.75, 1.0),
    ),
    "resnet_32": Preset(
        in_shape=(3, 32, 32),
        num_classes=10,
        resolutions=(24, 28, 32),
        stages=(Stage(64, 1, 1), Stage(128, 2, 2), Stage(256, 1, 2)),
        stem_pool=False,
        expand_ratios=(0.25, 0.5, 0.75),
        width_mults=(0.5, 0.75, 1.0),
    ),
    "resnet_28": Preset(
        in_shape=(1, 28, 28),
        num_classes=10,
        resolutions=(20, 24, 28),
        stages=(Stage(64, 1, 1), Stage(128, 2, 2), Stage(256, 1, 2)),
        stem_pool=True,
        expand_ratios=(0.25, 0.5, 0.75),
        width_mults=(0.5, 0.75, 1.0),
    ),
}


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes default to the preset's, or follow the data set.

    `resolutions` are the sizes that a network may choose to see images in, instead of the preset's.
    """

    preset: str = "resnet_28"
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
