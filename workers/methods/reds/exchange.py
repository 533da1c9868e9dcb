"""Better widths by exchange: of all pairs of groups, the best two widths while the others stay.

A path at a price leaves capacity unused, up to the step to the next path. An exchange fills it, or
moves it from one group to another, until no pair of groups has anything to gain.

Legend: U and V, widths of the two groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from workers.methods.reds.chain import Integers
from workers.methods.reds.groups import GroupGraph, Part
from workers.methods.reds.relaxation import Path


def exchanged(graph: GroupGraph, path: Path, capacity: int) -> Path:
    """Return widths from which no pair of groups can be improved; at least those given.

    Args:
        graph: the instance.
        path: widths whose cost is within the capacity.
        capacity: the most that they may cost.
    """
    parts = [[p for p in graph.parts if group in p.scope] for group in range(len(graph.widths))]
    score = -1
    while path.score > score:
        score = path.score
        for pair in itertools.combinations(range(len(graph.widths)), 2):
            path = _improved(graph, [*parts[pair[0]], *parts[pair[1]]], path, capacity, pair)
    return path


def _improved(
    graph: GroupGraph, parts: Sequence[Part], path: Path, capacity: int, pair: tuple[int, int]
) -> Path:
    """Return the path with the best widths of two groups, given the parts that they have."""
    sizes = [len(graph.widths[group]) for group in pair]
    score_UV, cost_UV = np.zeros(sizes, dtype=np.int64), np.zeros(sizes, dtype=np.int64)
    for part in {part.scope: part for part in parts}.values():
        score_UV += _seen_from(part.scores, part.scope, pair, path)
        cost_UV += _seen_from(part.costs, part.scope, pair, path)
    now = tuple(path.places[group] for group in pair)
    gain_UV, added_UV = score_UV - score_UV[now], cost_UV - cost_UV[now]
    gain_UV[added_UV > capacity - path.cost] = -1
    best = np.unravel_index(gain_UV.argmax(), gain_UV.shape)
    if gain_UV[best] <= 0:
        return path
    places = list(path.places)
    for group, place in zip(pair, best, strict=True):
        places[group] = int(place)
    return Path(tuple(places), path.score + int(gain_UV[best]), path.cost + int(added_UV[best]))


def _seen_from(
    table: Integers, scope: tuple[int, ...], pair: tuple[int, int], path: Path
) -> Integers:
    """Return a part's table over the widths of two groups, all others as they are."""
    places = tuple(slice(None) if group in pair else path.places[group] for group in scope)
    seen: Integers = table[places]
    return seen.reshape([-1 if group in scope else 1 for group in pair]) if seen.ndim == 1 else seen
