"""Convolutional neural fabric: columns of maps at all scales, joined by 3x3 convolutions.

Saxena and Verbeek, "Convolutional Neural Fabrics", 2016, as Veniat and Denoyer search in it in
"Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks" (supplement; where
it is silent, as its code does it). Scale 0 is the finest, every next one has half the resolution.
A node adds convolutions of its three neighbours in the column before, at its own scale and the
ones beside it, and rectifies the sum. In the first column the stem spreads down to all scales; in
the last one all scales are gathered, downwards for classification, upwards for segmentation. A
convolution towards a finer scale reads its source upsampled (nearest neighbour). All have biases,
as in that code, and batch norms behind them.

Nodes: `stem` is column 0 at scale 0, `add2_1` is column 2 at scale 1. Edges: `conv2_1_from_add1_0`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from search_spaces.base import Architecture, Block, Layer, Shape
from search_spaces.fabric import (
    STEM,
    Edge,
    Fabric,
    Node,
    classifier_layers,
    conv_norm_layers,
    pixel_classifier_layers,
    stem_layers,
)

HEADS = {"classification": classifier_layers, "segmentation": pixel_classifier_layers}


@dataclass(frozen=True)
class ConvFabricConfig:
    """Options of the space; shape and classes default to CIFAR-10's, or follow the data set.

    Args:
        columns: W of the paper; segmentation needs at least 2.
        scales: H of the paper, at least 2.
        filters: channels of every convolution.
        head: `classification` gives class scores of the image, from the coarsest scale;
            `segmentation` gives a map of scores for every class, from the finest.
        in_shape: of one image; height and width are multiples of 2^(scales - 1).
        num_classes: of the data set.
    """

    columns: int = 8
    scales: int = 6
    filters: int = 128
    head: Literal["classification", "segmentation"] = "classification"
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be."""
        least = {"columns": 1 + (self.head == "segmentation"), "scales": 2}
        for name in ("columns", "scales", "filters", "num_classes"):
            value, allowed = getattr(self, name), least.get(name, 1)
            if value is not None and value < allowed:
                raise ValueError(f"{name}: {value}; allowed: {allowed} or above")
        if self.head not in HEADS:
            raise ValueError(f"head: {self.head!r}; allowed: {sorted(HEADS)}")
        if self.in_shape is not None:
            _check_shape(self.in_shape, self.scales)


class ConvFabric:
    """The space itself; see the head of the file for the names in an architecture."""

    name = "conv_fabric"
    Config = ConvFabricConfig

    def __init__(self, config: ConvFabricConfig | None = None) -> None:
        config = config or ConvFabricConfig()
        self.in_shape: Shape = config.in_shape or (3, 32, 32)
        self.num_classes = config.num_classes or 10
        _check_shape(self.in_shape, config.scales)
        columns = list(_columns(config, self.in_shape))
        last = columns[-1] if config.head == "classification" else columns[-1][::-1]
        self.fabric = Fabric(
            stem=stem_layers(self.in_shape, config.filters),
            nodes=[node for column in (*columns[:-1], last) for node in column],
            edges=list(_edges(columns, last)),
            head=HEADS[config.head](last[-1].name, last[-1].shape, self.num_classes),
        )
        self.choices = self.fabric.choices
        full = self.fabric.full
        self.presets: Mapping[str, Architecture] = {
            "full": full,
            "max": full,
            "min": _cheapest_path(columns, config),
        }

    def size(self) -> int:
        """Return the exact number of networks."""
        return self.fabric.size()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the edges that lie on a path from stem to head; none if there is no path.

        Raises:
            ValueError: an edge is unknown or its value is not a boolean.
        """
        return self.fabric.canonical(architecture)

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order; none if there is no network."""
        return self.fabric.layers(architecture)

    def build(self, architecture: Architecture) -> nn.Module:
        """Return the stand-alone network, freshly initialised.

        Raises:
            ValueError: no path leads from stem to head.
        """
        return self.fabric.build(architecture)

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return stem, edges, sums and head as blocks whose latencies add up."""
        return self.fabric.blocks(architecture)

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the space once."""
        return self.fabric.all_blocks()


def _check_shape(in_shape: Shape, scales: int) -> None:
    if min(in_shape) < 1:
        raise ValueError(f"in_shape: {list(in_shape)}; allowed: 1 or above, three times")
    common = math.gcd(*in_shape[1:])
    most = (common & -common).bit_length()
    if scales > most:
        raise ValueError(
            f"scales: {scales}; allowed for in_shape {list(in_shape)}: up to {most}, since every"
            " scale halves height and width"
        )


def _columns(config: ConvFabricConfig, in_shape: Shape) -> Iterator[list[Node]]:
    """Yield the nodes column by column, the finest scale first."""
    for column in range(config.columns):
        nodes = []
        for scale in range(config.scales):
            name = f"add{column}_{scale}" if column or scale else STEM
            sizes = (size // 2**scale for size in in_shape[1:])
            nodes.append(Node(name, (config.filters, *sizes)))
        yield nodes


def _edges(columns: Sequence[Sequence[Node]], last: Sequence[Node]) -> Iterator[Edge]:
    """Yield all edges; their order decides how `distributed` breaks ties."""
    yield from itertools.starmap(_conv, itertools.pairwise(columns[0]))
    for before, column in itertools.pairwise(columns):
        for scale, target in enumerate(column):
            for source in before[max(scale - 1, 0) : scale + 2]:
                yield _conv(source, target)
    if len(columns) > 1:
        yield from itertools.starmap(_conv, itertools.pairwise(last))


def _conv(source: Node, target: Node) -> Edge:
    rows_in, rows_out = source.shape[1], target.shape[1]
    name = _edge_name(source, target)
    layers = conv_norm_layers(
        name,
        source.name,
        source.shape,
        target.shape[0],
        stride=2 if rows_in > rows_out else 1,
        upsample=rows_in < rows_out,
    )
    return Edge(name, source.name, target.name, layers)


def _edge_name(source: Node, target: Node) -> str:
    return f"conv{target.name.removeprefix('add')}_from_{source.name}"


def _cheapest_path(columns: Sequence[Sequence[Node]], config: ConvFabricConfig) -> Architecture:
    """Return the path with the fewest edges and multiply-accumulates.

    It leaves the fine scales at once, and changes scale on the way from column to column. For
    segmentation it comes back as late as it can: the last step, to the finest scale, costs most.
    """
    lowest, last = config.scales - 1, config.columns - 1
    if config.head == "classification":
        start = max(lowest - last, 0)  # columns may be too few to get down without the first one
        scales = [min(start + column, lowest) for column in range(len(columns))]
    else:
        start = 0
        scales = [min(column, last - column, lowest) for column in range(len(columns))]
    along = [column[scale] for column, scale in zip(columns, scales, strict=True)]
    nodes = [*columns[0][:start], *along]
    return {_edge_name(*ends): True for ends in itertools.pairwise(nodes)}
