"""The best widths of a graph of groups at a price for every unit of cost, group by group.

A group is eliminated by a table of what it adds at best, over the widths of those groups that it
shares parts with (Bertele and Brioschi, "Nonserial Dynamic Programming", 1972). The fewer these
are, the smaller the table, so the group with the fewest goes first: in residual networks it has two
at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workers.methods.reds.chain import Integers
from workers.methods.reds.groups import GroupGraph
from workers.methods.reds.relaxation import Floats, Path

MAX_TABLE = 1 << 27  # entries


@dataclass(frozen=True)
class Turn:
    """One group's elimination: all groups that its table is over, the group itself among them."""

    group: int
    scope: tuple[int, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """The groups that are left."""
        return tuple(group for group in self.scope if group != self.group)


def turns(graph: GroupGraph) -> tuple[Turn, ...]:
    """Return an order in which all groups can be eliminated.

    Raises:
        ValueError: too many groups with too many widths depend on each other.
    """
    near = {group: {group} for group in range(len(graph.widths))}
    for part in graph.parts:
        for group in part.scope:
            near[group] |= set(part.scope)
    order: list[Turn] = []
    while near:
        group = min(near, key=lambda one: (_entries(graph, near[one]), one))
        if _entries(graph, near[group]) > MAX_TABLE:
            raise ValueError(
                f"space: {len(near[group])} groups that depend on each other have too many widths;"
                " allowed: fewer of them, by a larger channel_multiple"
            )
        scope = near.pop(group)
        for other in scope - {group}:
            near[other] = (near[other] | scope) - {group}
        order.append(Turn(group, tuple(sorted(scope))))
    return tuple(order)


def best_at(graph: GroupGraph, order: tuple[Turn, ...], price: float) -> Path:
    """Return the widths of the highest score less cost at a price; they may cost too much.

    Args:
        graph: the instance.
        order: of elimination (`turns`).
        price: of a unit of cost, in units of score.
    """
    tables: dict[tuple[int, ...], Floats] = {
        part.scope: part.scores - price * part.costs for part in graph.parts
    }
    chosen: list[Integers] = []
    for turn in order:
        total: Floats = np.zeros([len(graph.widths[group]) for group in turn.scope])
        for scope in [scope for scope in tables if turn.group in scope]:
            total += _over(tables.pop(scope), scope, turn.scope)
        axis = turn.scope.index(turn.group)
        chosen.append(total.argmax(axis))
        added = total.max(axis)
        tables[turn.others] = tables[turn.others] + added if turn.others in tables else added
    places = [0] * len(graph.widths)
    for turn, best in zip(reversed(order), reversed(chosen), strict=True):
        places[turn.group] = int(best[tuple(places[group] for group in turn.others)])
    return Path(tuple(places), graph.score(places), graph.cost(places))


def _entries(graph: GroupGraph, groups: set[int]) -> int:
    return math.prod(len(graph.widths[group]) for group in groups)


def _over(table: Floats, scope: tuple[int, ...], wider: tuple[int, ...]) -> Floats:
    """Return a table with a dimension for each group of a wider scope; those that it lacks have 1.

    Both scopes are increasing.
    """
    sizes = dict(zip(scope, table.shape, strict=True))
    return table.reshape([sizes.get(group, 1) for group in wider])
