"""Distributed computation cost: the cycles that a network takes on machines working in parallel.

Veniat and Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super
Networks", supplementary material, "Distributed computation cost". A module, which is all layers of
the same `module`, occupies a machine for one cycle, after the cycles of everything that it reads.
What has no layers, such as an identity, takes no cycle. Sending a result to another machine is not
counted; `network_latency` has it.

The cost depends on which of the modules that could run go first:

- `depth_first`: those early in reverse postorder of a depth-first walk, as in the paper's tables;
- `critical_path`: those on the longest path to the end;
- `optimal`: whichever give the fewest cycles, proven, for networks of up to `MOST_MODULES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

from cost_models.fewest_cycles import fewest_cycles
from cost_models.module_graph import ModuleGraph, module_graph, path_lengths
from search_spaces.base import Layer

Order = Literal["depth_first", "critical_path", "optimal"]
ORDERS: tuple[Order, ...] = ("depth_first", "critical_path", "optimal")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and when a module runs: its machine and its cycle, both counted from 0."""

    module: str
    machine: int
    cycle: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The placements of a network's modules on `machines` machines.

    Raises:
        ValueError: a module or a place comes twice, or a place is on none of the machines.
    """

    machines: int
    placements: tuple[Placement, ...]

    def __post_init__(self) -> None:
        """Refuse what machines cannot do."""
        modules: set[str] = set()
        places: set[tuple[int, int]] = set()
        for placement in self.placements:
            place = (placement.machine, placement.cycle)
            inside = 0 <= placement.machine < self.machines and placement.cycle >= 0
            if not inside or place in places or placement.module in modules:
                raise ValueError(
                    f"schedule: {placement}; allowed: machines 0 to {self.machines - 1}, a module"
                    " once, one module in a machine's cycle"
                )
            modules.add(placement.module)
            places.add(place)

    @property
    def cycles(self) -> int:
        """The number of cycles from the first module's to the last one's."""
        return max((placement.cycle + 1 for placement in self.placements), default=0)


def distributed(layers: Sequence[Layer], machines: int, order: Order = "depth_first") -> int:
    """Return how many cycles a network takes on `machines` machines; 0 if it has no layers.

    Raises:
        ValueError: there is no machine, the order is unknown, the network is too large for
            `optimal`, or modules read each other.
    """
    return graph_cycles(module_graph(layers), machines, order)


def graph_cycles(graph: ModuleGraph, machines: int, order: Order = "depth_first") -> int:
    """Return how many cycles the modules of a graph take on `machines` machines.

    Raises:
        ValueError: as `distributed`.
    """
    return len(_cycles(graph, machines, order))


def schedule(layers: Sequence[Layer], machines: int, order: Order = "depth_first") -> Schedule:
    """Return where and when every module runs, in as many cycles as `distributed` counts.

    A module runs where most of what it reads was computed, of the machines that are still free in
    its cycle; modules that were taken first choose first. Then those that find none of what they
    read on a free machine take what is left, from machine 0 on.

    Raises:
        ValueError: as `distributed`.
    """
    graph = module_graph(layers)
    machine_of: dict[int, int] = {}
    placements: list[Placement] = []
    for number, cycle in enumerate(_cycles(graph, machines, order)):
        machine_of |= _on_machines(graph, cycle, machines, machine_of)
        for module in sorted(cycle, key=machine_of.__getitem__):
            placements.append(Placement(graph.names[module], machine_of[module], number))
    return Schedule(machines, tuple(placements))


def _cycles(graph: ModuleGraph, machines: int, order: Order) -> list[list[int]]:
    """Return the modules of every cycle."""
    if machines < 1:
        raise ValueError(f"machines: {machines}; allowed: 1 or more")
    if order not in ORDERS:
        raise ValueError(f"order: {order!r}; allowed: {', '.join(ORDERS)}")
    walked = graph.depth_first
    if order == "depth_first":
        return _taken_in_order(graph, machines, walked)
    lengths = path_lengths(graph)
    longest_first = sorted(walked, key=lambda module: -lengths[module])
    cycles = _taken_in_order(graph, machines, longest_first)
    return cycles if order == "critical_path" else fewest_cycles(graph, machines, cycles)


def _taken_in_order(graph: ModuleGraph, machines: int, order: list[int]) -> list[list[int]]:
    """Fill each cycle with the first modules of `order` that have everything they read."""
    if machines == 1:
        return [[module] for module in order]
    rank = {module: place for place, module in enumerate(order)}
    missing = [len(sources) for sources in graph.sources]
    ready = [rank[module] for module in order if not missing[module]]  # sorted: a heap
    cycles: list[list[int]] = []
    while ready:
        cycle = [order[heappop(ready)] for _ in range(min(machines, len(ready)))]
        for module in cycle:
            for reader in graph.readers[module]:
                missing[reader] -= 1
                if not missing[reader]:
                    heappush(ready, rank[reader])
        cycles.append(cycle)
    return cycles


def _on_machines(
    graph: ModuleGraph, cycle: list[int], machines: int, machine_of: dict[int, int]
) -> dict[int, int]:
    """Return a machine for every module of a cycle, given those of the cycles before."""
    free = set(range(machines))
    chosen: dict[int, int] = {}
    for module in cycle:
        held = Counter(machine_of[source] for source in graph.sources[module])
        near = [machine for machine in held if machine in free]
        if near:
            chosen[module] = max(near, key=held.__getitem__)
            free.remove(chosen[module])
    others = [module for module in cycle if module not in chosen]
    return chosen | dict(zip(others, sorted(free), strict=False))
