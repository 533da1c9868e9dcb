"""The knapsack's form where layers are no chain: groups of channels, alone and in pairs.

Where outputs are added, one group's width rules several layers, and layers lead from any group to
any other. So an instance is a sum of parts, each a table over the widths of its groups: none (what
is always there), one, two (a layer that leads from one to the other), or, under a limit on memory,
all whose maps live together.

Legend: U and V, widths of two groups.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workers.methods.reds.chain import FORBIDDEN, Integers, check_limits

Term = tuple[tuple[int, ...], Integers]
"""Up to two groups, and a table over their widths; they may be one group twice."""


@dataclass(frozen=True)
class Part:
    """What some groups add; tables have one dimension for each group of the scope, in order.

    They are two at most, but where maps that live together are limited.

    Args:
        scope: the groups' numbers, increasing.
        scores: what units and their weights are worth, shape (), (V,), (U, V) and so on.
        costs: what they cost, in the same shape.
    """

    scope: tuple[int, ...]
    scores: Integers
    costs: Integers


@dataclass(frozen=True)
class Live:
    """Maps that live together at a moment of inference: a sum over groups.

    Args:
        fixed: bytes that no width changes.
        units: a group and the bytes of each of its units, groups increasing.
    """

    fixed: int
    units: tuple[tuple[int, int], ...]

    @property
    def scope(self) -> tuple[int, ...]:
        """The groups whose widths matter."""
        return tuple(group for group, _ in self.units)

    def table(self, widths: Sequence[Integers]) -> Integers:
        """Return the bytes at all widths of the groups, one dimension for each."""
        taken = (size * widths[group] for group, size in self.units)
        return self.fixed + functools.reduce(np.add.outer, taken, np.zeros((), dtype=np.int64))


@dataclass(frozen=True)
class GroupGraph:
    """An instance; all numbers are whole and not negative, and grow with every width.

    Args:
        widths: for each group those that it may have, increasing, shape (V,).
        parts: what the groups are worth and cost; no two have the same scope.
        lives: what takes memory together.
    """

    widths: tuple[Integers, ...]
    parts: tuple[Part, ...]
    lives: tuple[Live, ...] = ()

    @property
    def full_cost(self) -> int:
        """The cost of all units."""
        return self.cost([len(width_V) - 1 for width_V in self.widths])

    @property
    def least_cost(self) -> int:
        """The cost of the narrowest groups: the smallest capacity that allows anything."""
        return self.cost([0] * len(self.widths))

    @property
    def least_memory_bytes(self) -> int:
        """The memory of the narrowest groups."""
        narrowest = [width_V[:1] for width_V in self.widths]
        return max((int(live.table(narrowest).item()) for live in self.lives), default=0)

    def cost(self, places: Sequence[int]) -> int:
        """Return the cost of widths, given as places in their lists."""
        return sum(int(part.costs[tuple(places[g] for g in part.scope)]) for part in self.parts)

    def score(self, places: Sequence[int]) -> int:
        """Return what widths are worth, given as places in their lists."""
        return sum(int(part.scores[tuple(places[g] for g in part.scope)]) for part in self.parts)

    def between(self, low: Sequence[int], high: Sequence[int]) -> GroupGraph:
        """Return the graph whose groups have widths in [low, high]; each keeps at least one."""
        kept = [
            (width_V >= least) & (width_V <= most)
            for width_V, least, most in zip(self.widths, low, high, strict=True)
        ]

        def cut(part: Part) -> Part:
            places = np.ix_(*(kept[group] for group in part.scope))
            return Part(part.scope, part.scores[places], part.costs[places])

        widths = tuple(width_V[kept_V] for width_V, kept_V in zip(self.widths, kept, strict=True))
        return GroupGraph(widths, tuple(map(cut, self.parts)), self.lives)

    def within_memory(self, most_bytes: int) -> GroupGraph:
        """Return the graph in which widths that take more memory together can no longer be had."""
        parts = {part.scope: part for part in self.parts}
        for live in self.lives:
            over = live.table(self.widths) > most_bytes
            if over.any():
                nothing = np.zeros(over.shape, dtype=np.int64)
                part = parts.get(live.scope, Part(live.scope, nothing, nothing))
                parts[live.scope] = replace(part, costs=np.where(over, FORBIDDEN, part.costs))
        return replace(self, parts=tuple(parts.values()))

    def check_feasible(self, capacity: int, most_bytes: int | None) -> None:
        """Refuse limits that not even the narrowest groups respect.

        Raises:
            ValueError: names the limit and the smallest feasible one.
        """
        check_limits(capacity, self.least_cost, most_bytes, self.least_memory_bytes)


def assembled(
    widths: Sequence[Integers],
    scores: Iterable[Term],
    costs: Iterable[Term],
    lives: tuple[Live, ...] = (),
) -> GroupGraph:
    """Return the graph of these widths whose scores and costs are sums of terms."""
    worth, taken = _summed(scores), _summed(costs)
    parts = []
    for scope in sorted({**worth, **taken}):
        nothing = np.zeros([len(widths[group]) for group in scope], dtype=np.int64)
        parts.append(Part(scope, worth.get(scope, nothing), taken.get(scope, nothing)))
    return GroupGraph(tuple(widths), tuple(parts), lives)


def _summed(terms: Iterable[Term]) -> dict[tuple[int, ...], Integers]:
    """Return the sum of all terms of the same groups, each group once, in increasing order."""
    sums: dict[tuple[int, ...], Integers] = {}
    for groups, table in terms:
        if len(set(groups)) < len(groups):
            table = table.diagonal()
        elif list(groups) != sorted(groups):
            table = table.T
        scope = tuple(sorted(set(groups)))
        sums[scope] = sums[scope] + table if scope in sums else table
    return sums
