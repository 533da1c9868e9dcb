"""The space itself: a width for every free convolution, and what becomes of an architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from torch import nn

from search_spaces.base import Architecture, Block, Layer, Shape, distinct
from search_spaces.free_widths import FreeWidths, widths_up_to
from search_spaces.slimmable_resnet import networks
from search_spaces.slimmable_resnet.blocks import (
    first_block,
    head_block,
    second_block,
    shortcut_block,
    stem_block,
)
from search_spaces.slimmable_resnet.modules import (
    ConvNorm,
    SlimmableNetwork,
    build_head,
    build_shortcut,
    build_stem,
)
from search_spaces.slimmable_resnet.networks import (
    LAYOUTS,
    residual_specs,
    scaled,
    strided,
)
from search_spaces.slimmable_resnet.records import (
    first_layers,
    head_layers,
    second_layers,
    shortcut_layers,
    stem_layers,
)


class SlimmableResNet:
    """The space itself; see the package's page for the form of an architecture."""

    name = "slimmable_resnet"
    Config = networks.Config

    def __init__(self, config: networks.Config | None = None) -> None:
        config = config or networks.Config()
        self.layout = LAYOUTS[config.depth]
        self.in_shape: Shape = config.in_shape or self.layout.in_shape
        self.num_classes = config.num_classes or self.layout.num_classes
        stem_stride = self.layout.stem_stride * (2 if self.layout.stem_pool else 1)
        self.specs = tuple(residual_specs(config, strided(self.in_shape[1:], stem_stride)))
        self.widths = FreeWidths(
            (name, widths_up_to(scaled(most, config.width_mult), config.channel_multiple))
            for name, most in self._most_channels()
        )
        self.choices, self.presets = self.widths.choices, self.widths.presets

    def size(self) -> int:
        """Return the exact number of architectures."""
        return self.widths.size()

    def uniform(self, width_mult: float) -> Architecture:
        """Return the network whose every width is this share of its most, as S-NN's are.

        Raises:
            ValueError: the share is outside (0, 1].
        """
        if not 0 < width_mult <= 1:
            raise ValueError(f"width_mult: {width_mult} is outside (0, 1]")
        return {
            choice.name: _nearest(choice.options, scaled(choice.options[-1], width_mult))
            for choice in self.choices
        }

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with its convolutions in order; nothing is ever inactive here.

        Raises:
            ValueError: a convolution is missing, unknown, or has a width that it does not offer.
        """
        return self.widths.canonical(architecture)

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order."""
        widths = self.canonical(architecture)
        layers = list(stem_layers(self.layout, self.in_shape, widths["conv1"]))
        for spec in self.specs:
            source, width = layers[-1].name, widths[spec.writes]
            layers += first_layers(spec, widths[spec.reads], widths[spec.first], source)
            shortcut = shortcut_layers(spec, widths[spec.reads], width, source)
            layers += shortcut
            joined = shortcut[-1].name if shortcut else source
            layers += second_layers(spec, widths[spec.first], width, joined)
        last = self.specs[-1]
        layers += head_layers(last.out_map, widths[last.writes], self.num_classes, layers[-1].name)
        return tuple(layers)

    def build(self, architecture: Architecture) -> SlimmableNetwork:
        """Return the stand-alone network, freshly initialised."""
        widths = self.canonical(architecture)
        parts: dict[str, nn.Module] = {
            "conv1": build_stem(self.layout, self.in_shape[0], widths["conv1"])
        }
        for spec in self.specs:
            in_width, hidden, width = (widths[n] for n in (spec.reads, spec.first, spec.writes))
            parts[spec.first] = ConvNorm(in_width, hidden, 3, spec.stride)
            parts[spec.second] = ConvNorm(hidden, width, 3, act=False)
            parts[spec.shortcut] = build_shortcut(spec, in_width, width)
        parts["head"] = build_head(widths[self.specs[-1].writes], self.num_classes)
        return SlimmableNetwork(self.specs, parts)

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return convolutions, shortcuts and head as blocks whose latencies add up."""
        widths = self.canonical(architecture)
        return tuple(self._blocks({name: (width,) for name, width in widths.items()}))

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the space once; they are many where widths are free."""
        return distinct(self._blocks({choice.name: choice.options for choice in self.choices}))

    def _blocks(self, offered: Mapping[str, tuple[int, ...]]) -> Iterator[Block]:
        """Yield the blocks of all networks that have the offered widths."""
        for width in offered["conv1"]:
            yield stem_block(self.layout, self.in_shape, width)
        for spec in self.specs:
            for in_width, width in product(offered[spec.reads], offered[spec.first]):
                yield first_block(spec, in_width, width)
            if spec.kind != "identity":
                for in_width, width in product(offered[spec.reads], offered[spec.writes]):
                    yield shortcut_block(spec, in_width, width)
            for in_width, width in product(offered[spec.first], offered[spec.writes]):
                yield second_block(spec, in_width, width)
        last = self.specs[-1]
        for width in offered[last.writes]:
            yield head_block(last.out_map, width, self.num_classes)

    def _most_channels(self) -> Iterator[tuple[str, int]]:
        """Yield every choice, in the order of the convolutions, and the most that its group has."""
        yield "conv1", self.layout.widths[0]
        for index, spec in enumerate(self.specs):
            most = self.layout.widths[index // self.layout.blocks_per_group]
            yield spec.first, most
            if spec.writes != spec.reads:
                yield spec.writes, most


def _nearest(options: tuple[int, ...], width: int) -> int:
    return min(options, key=lambda option: abs(option - width))
