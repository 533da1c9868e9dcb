"""The fewest cycles in which machines can run a small network's modules: branch and bound.

A branch is what runs in one cycle. Sets of modules are the bits of an int.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from cost_models.module_graph import ModuleGraph, path_lengths

MOST_MODULES = 30


def fewest_cycles(graph: ModuleGraph, machines: int, known: list[list[int]]) -> list[list[int]]:
    """Return the modules of every cycle of a shortest schedule: `known`, unless one is shorter.

    Raises:
        ValueError: the network has more than `MOST_MODULES` modules.
    """
    if len(graph.names) > MOST_MODULES:
        raise ValueError(
            f"order: 'optimal' for {len(graph.names)} modules; allowed: up to {MOST_MODULES}"
        )
    search = _Search(graph, machines)
    for cycles in range(search.at_least(0), len(known)):
        if search.fits(0, cycles):
            return search.plan
    return known


class _Search:
    """Looks for a schedule of a given length, from the first cycle on."""

    def __init__(self, graph: ModuleGraph, machines: int) -> None:
        self.machines = machines
        self.lengths = path_lengths(graph)
        # Ahead of others: those with the most behind them, so that a fit is found early.
        self.modules = sorted(range(len(graph.names)), key=lambda m: -self.lengths[m])
        self.sources = [sum(1 << source for source in sources) for sources in graph.sources]
        self.before = _preferred(graph, self.modules)
        self.everything = (1 << len(graph.names)) - 1
        self.plan: list[list[int]] = []
        self.failed: dict[int, int] = {}

    def fits(self, done: int, cycles: int) -> bool:
        """Tell whether the modules that are not done fit into `cycles`; then `plan` has them."""
        if done == self.everything:
            return True
        if self.failed.get(done, -1) >= cycles or self.at_least(done) > cycles:
            return False
        for chosen in self._choices(done):
            self.plan.append(chosen)
            if self.fits(done | _bits(chosen), cycles - 1):
                return True
            self.plan.pop()
        self.failed[done] = cycles
        return False

    def at_least(self, done: int) -> int:
        """Return cycles that the modules that are not done need at least.

        Those with `length` or more modules on the longest path from them take count / machines
        cycles, and the last of them has length - 1 more behind it.
        """
        bound = count = 0
        for module in self.modules:
            if not done >> module & 1:
                count += 1
                bound = max(bound, -(-count // self.machines) + self.lengths[module] - 1)
        return bound

    def _choices(self, done: int) -> Iterator[list[int]]:
        """Yield what may run next: as many as possible, and the preferred of any two."""
        ready = [
            module
            for module in self.modules
            if not done >> module & 1 and not self.sources[module] & ~done
        ]
        could = _bits(ready)
        for chosen in combinations(ready, min(self.machines, len(ready))):
            rest = could & ~_bits(chosen)
            if not any(self.before[module] & rest for module in chosen):
                yield list(chosen)


def _preferred(graph: ModuleGraph, modules: Sequence[int]) -> list[int]:
    """Return, for every module, those that need never wait for it: they lead to all it leads to.

    Two such modules can be exchanged in any schedule that has the other one first.
    """
    leads_to = [0] * len(graph.names)
    for module in reversed(modules):
        for reader in graph.readers[module]:
            leads_to[module] |= leads_to[reader] | 1 << reader
    return [
        _bits(
            other
            for other in modules
            if other != module
            and leads_to[module] & ~leads_to[other] == 0
            and (leads_to[module] != leads_to[other] or other < module)
        )
        for module in range(len(graph.names))
    ]


def _bits(modules: Sequence[int] | Iterator[int]) -> int:
    return sum(1 << module for module in modules)
