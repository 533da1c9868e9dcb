"""The knapsack's form where layers are no chain: groups of channels, alone and in pairs.

Where outputs are added, one group's width rules several layers, and layers lead from any group to
any other. So an instance is a sum of parts, each a table over the widths of its groups: none (what
is always there), one, or two (a layer that leads from one to the other).

Legend: U and V, widths of two groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from workers.methods.reds.chain import Integers, check_capacity

Term = tuple[tuple[int, ...], Integers]
"""Up to two groups, and a table over their widths; they may be one group twice."""


@dataclass(frozen=True)
class Part:
    """What up to two groups add; tables have one dimension for each group of the scope, in order.

    Args:
        scope: the groups' numbers, increasing.
        scores: what units and their weights are worth, shape (), (V,) or (U, V).
        costs: what they cost, in the same shape.
    """

    scope: tuple[int, ...]
    scores: Integers
    costs: Integers


@dataclass(frozen=True)
class GroupGraph:
    """An instance; all numbers are whole and not negative, and grow with every width.

    Args:
        widths: for each group those that it may have, increasing, shape (V,).
        parts: what the groups are worth and cost; no two have the same scope.
    """

    widths: tuple[Integers, ...]
    parts: tuple[Part, ...]

    @property
    def full_cost(self) -> int:
        """The cost of all units."""
        return self.cost([len(width_V) - 1 for width_V in self.widths])

    @property
    def least_cost(self) -> int:
        """The cost of the narrowest groups: the smallest capacity that allows anything."""
        return self.cost([0] * len(self.widths))

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
        return GroupGraph(widths, tuple(map(cut, self.parts)))

    def check_feasible(self, capacity: int, most_bytes: int | None) -> None:
        """Refuse limits that not even the narrowest groups respect, and limits of memory.

        Raises:
            ValueError: names the limit and what is allowed.
        """
        check_capacity(capacity, self.least_cost)
        if most_bytes is not None:
            raise ValueError(
                f"peak_memory_bytes: {most_bytes} is not allowed; only where each layer reads the"
                " one before is memory a matter of neighbours"
            )


def assembled(
    widths: Sequence[Integers], scores: Iterable[Term], costs: Iterable[Term]
) -> GroupGraph:
    """Return the graph of these widths whose scores and costs are sums of terms."""
    worth, taken = _summed(scores), _summed(costs)
    parts = []
    for scope in sorted({**worth, **taken}):
        nothing = np.zeros([len(widths[group]) for group in scope], dtype=np.int64)
        parts.append(Part(scope, worth.get(scope, nothing), taken.get(scope, nothing)))
    return GroupGraph(tuple(widths), tuple(parts))


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
