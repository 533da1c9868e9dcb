"""The space itself: its choices, and what becomes of an architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from search_spaces.ofa_mobilenet_v3 import presets
from search_spaces.ofa_mobilenet_v3.names import own_name
from search_spaces.ofa_mobilenet_v3.parts import BlockPart, HeadPart, StemPart
from search_spaces.ofa_mobilenet_v3.presets import PRESETS, Preset, rows

Offered = Mapping[str, tuple[Any, ...]]


class OFAMobileNetV3:
    """The space itself; see the package's page for the form of an architecture."""

    name = "ofa_mobilenet_v3"
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
        self.rows = tuple(rows(self.preset))
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
        """Return the lists of an architecture; entries of blocks beyond the depth become None.

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
        return own_name(public, self.preset.depths[-1])

    def _parts(self, offered: Offered) -> Iterator[Part]:
        """Yield the parts of all networks that have the offered entries, by resolution."""
        for resolution in offered["r"]:
            yield from self._parts_at(resolution, offered)

    def _parts_at(self, resolution: int, offered: Offered) -> Iterator[Part]:
        preset = self.preset
        shape: Shape = (self.in_shape[0], resolution, resolution)
        if shape != self.in_shape:
            yield ResizePart(self.in_shape, resolution)
        width = preset.scaled(preset.stem_channels)
        stem = StemPart("stem", shape, width, preset.stem_stride)
        yield stem
        # Its expand ratio is 1: it has as many hidden channels as it reads.
        yield BlockPart("first", stem.out_shape, width, width, 3, 1, "relu", se=False)
        shape = stem.out_shape
        for index, row in enumerate(self.rows):
            for kernel_size, ratio in product(offered[f"ks.{index}"], offered[f"e.{index}"]):
                yield BlockPart(
                    name=row.name,
                    in_shape=shape,
                    channels=row.channels,
                    hidden=make_div8(shape[0] * ratio),
                    kernel_size=kernel_size,
                    stride=row.stride,
                    activation=row.activation,
                    se=row.se,
                )
            shape = row.out_shape(shape)
        channels, mixed = preset.scaled(preset.head_channels), preset.scaled(preset.mix_channels)
        yield HeadPart(shape, channels, mixed, self.num_classes)


def _encoding(preset: Preset) -> Encoding:
    stages, deepest = range(len(preset.stages)), preset.depths[-1]
    choices = (
        *list_choices("ks", preset.kernel_sizes, len(stages) * deepest),
        *list_choices("e", preset.expand_ratios, len(stages) * deepest),
        *list_choices("d", preset.depths, len(stages)),
        Choice("r", preset.resolutions),
    )
    inactive = {
        f"d.{stage}": {
            depth: frozenset(
                f"{key}.{stage * deepest + position}"
                for key in ("ks", "e")
                for position in range(depth, deepest)
            )
            for depth in preset.depths
        }
        for stage in stages
    }
    return Encoding(choices, inactive)
