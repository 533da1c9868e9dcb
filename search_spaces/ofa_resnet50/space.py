"""The space itself: its choices, and what becomes of an architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from torch import nn

from search_spaces.base import Architecture, Block, Choice, Layer, Shape
from search_spaces.elastic.chain import (
    Part,
    ResizePart,
    chain_blocks,
    chain_layers,
    chain_network,
    distinct_blocks,
)
from search_spaces.elastic.encoding import Encoding, list_choices
from search_spaces.elastic.modules import make_div8
from search_spaces.elastic.records import strided
from search_spaces.ofa_resnet50 import presets
from search_spaces.ofa_resnet50.names import own_name
from search_spaces.ofa_resnet50.parts import BlockPart, HeadPart, PoolPart, StemPart
from search_spaces.ofa_resnet50.presets import PRESETS, Preset

STEM_DEPTHS = (0, 2)  # without and with its residual convolution
Offered = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """A block of the supernet: what no choice changes."""

    name: str
    stage: int
    stride: int
    is_first: bool


class OFAResNet50:
    """The space itself; see the package's page for the form of an architecture."""

    name = "ofa_resnet50"
    Config = presets.Config

    def __init__(self, config: presets.Config | None = None) -> None:
        config = config or presets.Config()
        changed = {
            key: getattr(config, key)
            for key in ("resolutions", "in_shape", "num_classes")
            if getattr(config, key) is not None
        }
        self.preset = replace(PRESETS[config.preset], **changed)
        self.in_shape: Shape = self.preset.in_shape
        self.num_classes = self.preset.num_classes
        self.rows = tuple(_rows(self.preset))
        self.encoding = _encoding(self.preset)
        self.choices = self.encoding.choices
        self.presets: Mapping[str, Architecture] = {
            "min": self.canonical({choice.name: min(choice.options) for choice in self.choices}),
            "max": self.canonical({choice.name: max(choice.options) for choice in self.choices}),
        }

    def size(self) -> int:
        """Return the exact number of architectures."""
        return self.encoding.size()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the lists of an architecture; entries of blocks that do not run become None.

        Raises:
            ValueError: an entry is missing, unknown, or has an option that it does not offer.
        """
        return self.encoding.canonical(architecture)

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order, at its own resolution."""
        return chain_layers(self._parts(self.encoding.offered(architecture)))

    def build(self, architecture: Architecture) -> nn.Sequential:
        """Return the stand-alone network, freshly initialised."""
        return chain_network(self._parts(self.encoding.offered(architecture)))

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return resizing, stem, blocks and head as blocks whose latencies add up."""
        return chain_blocks(self._parts(self.encoding.offered(architecture)))

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the space once."""
        return distinct_blocks(self._parts({c.name: c.options for c in self.choices}))

    def own_name(self, public: str) -> str:
        """Return our name of a tensor in a checkpoint of the authors."""
        return own_name(public, [row.name for row in self.rows])

    def _parts(self, offered: Offered) -> Iterator[Part]:
        """Yield the parts of all networks that have the offered entries, by resolution."""
        for resolution in offered["r"]:
            shape: Shape = (self.in_shape[0], resolution, resolution)
            if shape != self.in_shape:
                yield ResizePart(self.in_shape, resolution)
            yield from self._stem(shape, offered)
            yield from self._stages(shape, offered)

    def _stem(self, shape: Shape, offered: Offered) -> Iterator[Part]:
        stem = self.preset.scaled(self.preset.stem_channels)
        outs = [stem[index] for index in offered["w.1"]]
        for index in offered["w.0"]:
            first = StemPart("stem_in", shape, make_div8(stem[index] // 2), 2)
            yield first
            if STEM_DEPTHS[-1] in offered["d.0"]:
                yield StemPart("stem_mid", first.out_shape, first.channels, residual=True)
            for channels in outs:
                yield StemPart("stem_out", first.out_shape, channels)
        if self.preset.stem_pool:
            for channels in outs:
                yield PoolPart("stem_pool", (channels, *strided(shape, 2)[1:]))

    def _stages(self, shape: Shape, offered: Offered) -> Iterator[Part]:
        preset = self.preset
        stem = preset.scaled(preset.stem_channels)
        in_widths = [stem[index] for index in offered["w.1"]]
        shape = strided(shape, 4 if preset.stem_pool else 2)
        for index, row in enumerate(self.rows):
            offered_widths = preset.scaled(preset.stages[row.stage].channels)
            widths = [offered_widths[option] for option in offered[f"w.{row.stage + 2}"]]
            for ratio, width in product(offered[f"e.{index}"], widths):
                for in_width in in_widths if row.is_first else [width]:
                    yield BlockPart(
                        name=row.name,
                        in_shape=(in_width, *shape[1:]),
                        channels=width,
                        hidden=make_div8(round(width * ratio)),
                        stride=row.stride,
                        projects=row.is_first,
                    )
            in_widths, shape = widths, strided(shape, row.stride)
        for width in in_widths:
            yield HeadPart((width, *shape[1:]), self.num_classes)


def _rows(preset: Preset) -> Iterator[Row]:
    for number, stage in enumerate(preset.stages):
        for position in range(stage.depth + preset.extra_depths[-1]):
            first = position == 0
            yield Row(
                name=f"stage{number + 1}_block{position}",
                stage=number,
                stride=stage.stride if first else 1,
                is_first=first,
            )


def _encoding(preset: Preset) -> Encoding:
    stages = [stage.depth for stage in preset.stages]
    deepest = preset.extra_depths[-1]
    choices = (
        Choice("d.0", STEM_DEPTHS),
        *(Choice(f"d.{number}", preset.extra_depths) for number in range(1, len(stages) + 1)),
        *list_choices("e", preset.expand_ratios, sum(stages) + len(stages) * deepest),
        *list_choices("w", tuple(range(len(preset.width_mults))), len(stages) + 2),
        Choice("r", preset.resolutions),
    )
    inactive: dict[str, dict[int, frozenset[str]]] = {}
    end = 0
    for number, depth in enumerate(stages, 1):
        end += depth + deepest
        inactive[f"d.{number}"] = {
            extra: frozenset(f"e.{index}" for index in range(end - deepest + extra, end))
            for extra in preset.extra_depths
        }
    return Encoding(choices, inactive)
