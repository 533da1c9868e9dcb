"""A fabric: nodes and edges, and what becomes of the edges that an architecture keeps."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from search_spaces.base import Architecture, Block, Choice, Layer, Shape
from search_spaces.fabric.blocks import chain_block, sum_block
from search_spaces.fabric.modules import FabricNetwork, Step, Sum, chain
from search_spaces.fabric.paths import count_networks, on_paths
from search_spaces.fabric.records import HEAD, STEM, output_of, sum_layers


@dataclass(frozen=True, slots=True)
class Node:
    """The stem, or a place where maps are added and rectified; `shape` is that of its output."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Edge:
    """A choice: what it computes from its source for its target's sum; no layers: the identity."""

    name: str
    source: str
    target: str
    layers: tuple[Layer, ...]

    @property
    def output(self) -> str:
        """The layer that the target reads."""
        return self.layers[-1].name if self.layers else output_of(self.source)

    def build(self) -> nn.Module:
        """Return the edge as a module, freshly initialised."""
        return chain(self.layers)


class Fabric:
    """A graph whose edges are choices, between a stem and a head that are always there.

    Args:
        stem: layers of the first node.
        nodes: in topological order; the head reads the last one.
        edges: in the order of their creation, all edges into a node before any edge out of it.
        head: layers after the last node.
    """

    def __init__(
        self,
        *,
        stem: tuple[Layer, ...],
        nodes: Sequence[Node],
        edges: Sequence[Edge],
        head: tuple[Layer, ...],
    ) -> None:
        self.stem, self.nodes, self.edges, self.head = stem, tuple(nodes), tuple(edges), head
        self.choices = tuple(Choice(edge.name, (False, True)) for edge in edges)
        self.full: Architecture = {edge.name: True for edge in edges}
        self._names = {edge.name for edge in edges}
        self._shapes = {node.name: node.shape for node in nodes}
        places = {node.name: place for place, node in enumerate(nodes)}
        self._ends = [(places[edge.source], places[edge.target]) for edge in edges]
        self._blocks = {edge.name: chain_block(edge.layers) for edge in edges if edge.layers}
        self._end_blocks = chain_block(stem), chain_block(head)

    def size(self) -> int:
        """Return the exact number of networks: of sets of edges that all lie on paths."""
        return count_networks(self._ends)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the edges on paths from stem to head, in order of creation; none: no network.

        Raises:
            ValueError: an edge is unknown or its value is not a boolean.
        """
        return {edge.name: True for edge in self.kept(architecture)}

    def kept(self, architecture: Architecture) -> list[Edge]:
        """Return the edges on paths from stem to head, in order of creation.

        Raises:
            ValueError: an edge is unknown or its value is not a boolean.
        """
        self._check(architecture)
        on = [index for index, edge in enumerate(self.edges) if architecture.get(edge.name)]
        return [self.edges[index] for index in on_paths(self._ends, on, len(self.nodes) - 1)]

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers in execution order, the edges in order of creation; none: no network.

        Raises:
            ValueError: an edge is unknown or its value is not a boolean.
        """
        edges = self.kept(architecture)
        last = {edge.target: edge for edge in edges}
        inputs: dict[str, list[str]] = defaultdict(list)
        layers = list(self.stem)
        for edge in edges:
            layers += edge.layers
            inputs[edge.target].append(edge.output)
            if edge is last[edge.target]:
                shape, names = self._shapes[edge.target], tuple(inputs[edge.target])
                layers += sum_layers(edge.target, shape, names)
        return (*layers, *self.head) if edges else ()

    def build(self, architecture: Architecture) -> FabricNetwork:
        """Return the stand-alone network, freshly initialised.

        Raises:
            ValueError: as for `layers`, or no path leads from stem to head.
        """
        edges = self.kept(architecture)
        if not edges:
            raise ValueError("architecture: its edges make no path from 'stem' to 'head'")
        last = {edge.target: edge for edge in edges}
        parts: dict[str, nn.Module] = {STEM: chain(self.stem)}
        steps = []
        for edge in edges:
            completes = edge is last[edge.target]
            steps.append(Step(edge.name, edge.source, edge.target, completes))
            parts[edge.name] = edge.build()
            if completes:
                parts[edge.target] = Sum()
        parts[HEAD] = chain(self.head)
        return FabricNetwork(parts, steps)

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return stem, edges, sums and head as blocks whose latencies add up; none: no network.

        Raises:
            ValueError: an edge is unknown or its value is not a boolean.
        """
        edges = self.kept(architecture)
        stem, head = self._end_blocks
        chains = [self._blocks[edge.name] for edge in edges if edge.layers]
        sums = [sum_block(self._shapes[name], count) for name, count in _num_inputs(edges).items()]
        return (stem, *chains, *sums, head) if edges else ()

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the fabric once; nodes may have any number of inputs."""
        stem, head = self._end_blocks
        sums = (
            sum_block(self._shapes[name], count)
            for name, most in _num_inputs(self.edges).items()
            for count in range(1, most + 1)
        )
        yield from dict.fromkeys((stem, *self._blocks.values(), *sums, head))

    def _check(self, architecture: Architecture) -> None:
        if not isinstance(architecture, dict):
            given = type(architecture).__name__
            raise ValueError(f"architecture: expected an object, got {given}")
        for name, value in architecture.items():
            if name not in self._names:
                shown = ", ".join(repr(edge.name) for edge in self.edges[:6])
                more = f", ... ({len(self.edges)} in all)" if len(self.edges) > 6 else ""
                raise ValueError(f"architecture: unknown edge {name!r}; known: {shown}{more}")
            if not isinstance(value, bool):
                shown = json.dumps(value)
                raise ValueError(f"architecture: edge {name!r} is {shown}; allowed: false, true")


def _num_inputs(edges: Iterable[Edge]) -> Counter[str]:
    return Counter(edge.target for edge in edges)
