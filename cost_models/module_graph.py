"""A network's modules as a graph: which of them read which.

Layers of the same `module` are one vertex. Vertices are numbered in the order in which the records
first name them; the readers of a vertex stand in the order in which the records list them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from search_spaces.base import Layer


@dataclass(frozen=True)
class ModuleGraph:
    """Modules by number: their names, what each reads, what reads each, what reads the input."""

    names: list[str]
    sources: list[list[int]]
    readers: list[list[int]]
    roots: list[int]

    @cached_property
    def depth_first(self) -> list[int]:
        """Every module after those it reads: reverse postorder of a walk from the input.

        Of several readers the one listed last is walked first, as `topological_sort` of networkx
        1.x does; the distributed costs that Veniat and Denoyer print need just this order.

        Raises:
            ValueError: modules read each other.
        """
        finished: list[int] = []
        entered, left = [False] * len(self.names), [False] * len(self.names)
        stack = list(self.roots)
        while stack:
            module = stack[-1]
            waiting = [reader for reader in self.readers[module] if not left[reader]]
            if waiting and entered[module]:  # its readers were walked, and one led back here
                raise ValueError(f"layers: module {self.names[module]!r} reads what reads it")
            entered[module] = True
            stack += waiting
            if not waiting:
                stack.pop()
                if not left[module]:
                    left[module] = True
                    finished.append(module)
        return finished[::-1]


def module_graph(layers: Sequence[Layer]) -> ModuleGraph:
    """Return the graph of a network's modules."""
    numbers: dict[str, int] = {}
    module_of: dict[str, int] = {}
    graph = ModuleGraph([], [], [], [])
    for layer in layers:
        module = numbers.setdefault(layer.module, len(numbers))
        if module == len(graph.names):
            graph.names.append(layer.module)
            graph.sources.append([])
            graph.readers.append([])
        module_of[layer.name] = module
        if not layer.inputs and module not in graph.roots:
            graph.roots.append(module)
        for name in layer.inputs:
            source = module_of[name]
            if source != module and source not in graph.sources[module]:
                graph.sources[module].append(source)
                graph.readers[source].append(module)
    return graph


def path_lengths(graph: ModuleGraph) -> list[int]:
    """Return, for every module, how many stand on the longest path from it on, itself included."""
    lengths = [1] * len(graph.names)
    for module in reversed(graph.depth_first):
        for source in graph.sources[module]:
            lengths[source] = max(lengths[source], lengths[module] + 1)
    return lengths
