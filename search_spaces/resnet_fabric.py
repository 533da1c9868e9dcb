"""ResNet Fabric: a ResNet for small images with many more connections between its groups.

Veniat and Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super
Networks", supplement; where it is silent, as its code does it. Three groups have `(depth - 2) / 6`
sums each. A sum adds a basic block and a skip of the sum before it, as in a ResNet. From the
second group on it also adds basic blocks and projections of two or three sums of the group before,
in mirrored order: the last sums of a group lead to the first ones of the next. All convolutions
have biases, as in that code, and batch norms behind them.

Nodes: `stem`, and sum `add1_2` of group 1 at position 2. Edges: `block1_2` and `skip1_2` come from
the sum before, `block1_2_from_add0_0` and `skip1_2_from_add0_0` from another node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from search_spaces.base import Architecture, Block, Layer, Shape
from search_spaces.fabric import (
    STEM,
    Edge,
    Fabric,
    Node,
    basic_block_layers,
    classifier_layers,
    conv_norm_layers,
    stem_layers,
)

GROUPS = 3


@dataclass(frozen=True)
class ResNetFabricConfig:
    """Options of the space; shape and classes default to CIFAR-10's, or follow the data set.

    Args:
        depth: 6 m + 2 for m >= 1 sums in every group.
        filters: channels of the first group; every next group has twice as many.
        in_shape: of one image, of any size.
        num_classes: of the data set.
    """

    depth: int = 20
    filters: int = 16
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None

    def __post_init__(self) -> None:
        """Refuse other depths and impossible sizes."""
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(f"depth: {self.depth}; allowed: 6 m + 2, as 8, 14, 20, 32, 110")
        for name in ("filters", "num_classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value}; allowed: 1 or above")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {list(self.in_shape)}; allowed: 1 or above, three times")


class ResNetFabric:
    """The space itself; see the head of the file for the names in an architecture."""

    name = "resnet_fabric"
    Config = ResNetFabricConfig

    def __init__(self, config: ResNetFabricConfig | None = None) -> None:
        config = config or ResNetFabricConfig()
        self.in_shape: Shape = config.in_shape or (3, 32, 32)
        self.num_classes = config.num_classes or 10
        groups = list(_groups(self.in_shape, config.filters, (config.depth - 2) // 6))
        stem = Node(STEM, groups[0][0].shape)
        last = groups[-1][-1]
        self.fabric = Fabric(
            stem=stem_layers(self.in_shape, config.filters),
            nodes=(stem, *(node for group in groups for node in group)),
            edges=list(_edges(stem, groups)),
            head=classifier_layers(last.name, last.shape, self.num_classes),
        )
        self.choices = self.fabric.choices
        self.presets: Mapping[str, Architecture] = self._presets(groups)

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

    def _presets(self, groups: Sequence[Sequence[Node]]) -> Mapping[str, Architecture]:
        """ResNet itself, the whole fabric, and the skips of ResNet alone."""
        sums = [_place(node) for group in groups for node in group]
        skips: Architecture = {f"skip{place}": True for place in sums}
        resnet = self.canonical(skips | {f"block{place}": True for place in sums})
        return {"resnet": resnet, "full": self.fabric.full, "max": self.fabric.full, "min": skips}


def _groups(in_shape: Shape, filters: int, length: int) -> Iterator[list[Node]]:
    for group in range(GROUPS):
        sizes = (math.ceil(size / 2**group) for size in in_shape[1:])
        shape = (filters * 2**group, *sizes)
        yield [Node(f"add{group}_{position}", shape) for position in range(length)]


def _edges(stem: Node, groups: Sequence[Sequence[Node]]) -> Iterator[Edge]:
    """Yield all edges; their order decides how `distributed` breaks ties."""
    before = stem
    for index, group in enumerate(groups):
        for position, target in enumerate(group):
            place = _place(target)
            yield _block(f"block{place}", before, target)
            yield _skip(f"skip{place}", before, target)
            for source in _cross_sources(stem, groups, index, position):
                yield _block(f"block{place}_from_{source.name}", source, target)
                yield _skip(f"skip{place}_from_{source.name}", source, target)
            before = target


def _cross_sources(
    stem: Node, groups: Sequence[Sequence[Node]], group: int, position: int
) -> list[Node]:
    """Return the nodes of the group before that lead to a sum, in mirrored order.

    Before the group's first sum comes the node that it starts from.
    """
    if group == 0:
        return []
    before, opposite = groups[group - 1], len(groups[group]) - 1 - position
    mirrored = [opposite - 1]
    if position > 0:
        mirrored.append(opposite)
    if opposite > 0:
        mirrored.append(opposite - 2)
    start = stem if group == 1 else groups[group - 2][-1]
    return [before[index] if index >= 0 else start for index in mirrored]


def _block(name: str, source: Node, target: Node) -> Edge:
    channels, stride = target.shape[0], target.shape[0] // source.shape[0]
    layers = basic_block_layers(name, source.name, source.shape, channels, stride)
    return Edge(name, source.name, target.name, layers)


def _skip(name: str, source: Node, target: Node) -> Edge:
    """Return the identity, or a projection where channels differ."""
    channels, stride = target.shape[0], target.shape[0] // source.shape[0]
    layers: tuple[Layer, ...] = ()
    if stride > 1:
        layers = conv_norm_layers(
            name, source.name, source.shape, channels, kernel_size=1, stride=stride
        )
    return Edge(name, source.name, target.name, layers)


def _place(node: Node) -> str:
    """Return group and position of a sum, as names of edges into it have them."""
    return node.name.removeprefix("add")
