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

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

from cost_models.fewest_cycles import fewest_cycles
from cost_models.module_graph import ModuleGraph, depth_first_order, module_graph, path_lengths
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
    """The placements of a network's modules on `machines` machines, by cycle and machine."""

    machines: int
    placements: tuple[Placement, ...]

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
    return len(_cycles(module_graph(layers), machines, order))


def schedule(layers: Sequence[Layer], machines: int, order: Order = "depth_first") -> Schedule:
    """Return where and when every module runs, in as many cycles as `distributed` counts.

    A module stays on a machine that holds something it reads, where one is free in its cycle;
    modules that are taken first choose first. The others get the free machines from 0 on.

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
    walked = depth_first_order(graph)
    if order == "depth_first":
        return _taken_in_order(graph, machines, walked)
    lengths = path_lengths(graph)
    longest_first = sorted(walked, key=lambda module: -lengths[module])
    cycles = _taken_in_order(graph, machines, longest_first)
    return cycles if order == "critical_path" else fewest_cycles(graph, machines, cycles)


def _taken_in_order(graph: ModuleGraph, machines: int, order: list[int]) -> list[list[int]]:
    """Fill each cycle with the first modules of `order` that have everything they read."""
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
    """Return a machine for each module of a cycle, given those of earlier cycles."""
    free = set(range(machines))
    chosen: dict[int, int] = {}
    for module in cycle:
        near = (machine_of[source] for source in graph.sources[module])
        machine = next((machine for machine in near if machine in free), None)
        if machine is not None:
            chosen[module] = machine
            free.remove(machine)
    for module, machine in zip((m for m in cycle if m not in chosen), sorted(free), strict=False):
        chosen[module] = machine
    return chosen
