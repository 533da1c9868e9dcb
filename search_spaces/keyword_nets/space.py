"""The space itself: a width for every hidden layer, and what becomes of an architecture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise, product

from torch import nn

from search_spaces.base import Architecture, Block, Layer, Shape, distinct
from search_spaces.free_widths import FreeWidths, widths_up_to
from search_spaces.keyword_nets import networks
from search_spaces.keyword_nets.modules import build_layer
from search_spaces.keyword_nets.networks import (
    DEFAULT_CLASSES,
    DEFAULT_SHAPES,
    LayerSpec,
    network,
)
from search_spaces.keyword_nets.records import records


class KeywordNets:
    """The space itself; see the package's page for the form of an architecture."""

    name = "keyword_nets"
    Config = networks.Config

    def __init__(self, config: networks.Config | None = None) -> None:
        config = config or networks.Config()
        self.in_shape: Shape = config.in_shape or DEFAULT_SHAPES[config.model]
        self.num_classes = config.num_classes or DEFAULT_CLASSES[config.model]
        self.specs = network(config, self.in_shape, self.num_classes)
        self.widths = FreeWidths(
            (spec.name, widths_up_to(spec.width, config.channel_multiple))
            for spec in self.specs[:-1]
        )
        self.choices, self.presets = self.widths.choices, self.widths.presets

    def size(self) -> int:
        """Return the exact number of architectures."""
        return self.widths.size()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with its layers in order; nothing is ever inactive here.

        Raises:
            ValueError: a layer is missing, unknown, or has a width that it does not offer.
        """
        return self.widths.canonical(architecture)

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order."""
        layers: list[Layer] = []
        for spec, in_width, width in self._sized(architecture):
            layers += records(spec, in_width, width, layers[-1].name if layers else None)
        return tuple(layers)

    def build(self, architecture: Architecture) -> nn.Sequential:
        """Return the stand-alone network, freshly initialised."""
        return nn.Sequential(
            OrderedDict(
                (spec.name, _build(spec, in_width, width))
                for spec, in_width, width in self._sized(architecture)
            )
        )

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return the network's layers as blocks whose latencies add up."""
        return tuple(_block(*sized) for sized in self._sized(architecture))

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the space once; they are many where widths are free."""
        fixed = (self.in_shape[0],)
        offered = (fixed, *(choice.options for choice in self.choices), (self.num_classes,))
        return distinct(
            _block(spec, in_width, width)
            for spec, widths in zip(self.specs, pairwise(offered), strict=True)
            for in_width, width in product(*widths)
        )

    def _sized(self, architecture: Architecture) -> Iterator[tuple[LayerSpec, int, int]]:
        """Yield every layer with the channels or units that it reads and those that it has."""
        in_width = self.in_shape[0]
        chosen = self.canonical(architecture).values()
        for spec, width in zip(self.specs, (*chosen, self.num_classes), strict=True):
            yield spec, in_width, width
            in_width = width


def _build(spec: LayerSpec, in_width: int, width: int) -> nn.Sequential:
    return build_layer(records(spec, in_width, width), spec.activation)


def _block(spec: LayerSpec, in_width: int, width: int) -> Block:
    """Return a layer as a measurable block; its key names the computation."""
    in_shape: Shape = (in_width, *spec.in_map)
    key = f"{spec.kind}-{_text(in_shape)}-{width}"
    if spec.kind != "linear":
        key += f"-k{_text(spec.kernel_size)}-s{_text(spec.stride)}-{spec.padding}"
    if spec.pool is not None:
        key += f"-pool{_text(spec.pool)}"
    key += "-norm" * spec.norm + (f"-{spec.activation}" if spec.activation else "")
    return Block(key, in_shape, lambda: _build(spec, in_width, width).eval())


def _text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
