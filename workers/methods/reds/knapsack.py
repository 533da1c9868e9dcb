"""Which widths to keep: nested knapsacks, over a chain of layers or a graph of groups.

REDS hands each knapsack to a commercial solver of integer programs, which takes minutes to hours;
labels and a Lagrangian bound take a fraction of a second, and prove the optimum of a chain. Of a
graph's solution the same bound says how much may be missing at most.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.methods.reds.chain import Chain
from workers.methods.reds.elimination import best_at, turns
from workers.methods.reds.exchange import exchanged
from workers.methods.reds.groups import GroupGraph
from workers.methods.reds.labels import ROUNDING, LabelSearch
from workers.methods.reds.relaxation import Path, best_price, lowest_bound

Instance = Chain | GroupGraph
Solver = Literal["bu", "td"]
FIRST_KEPT = 1 << 10  # labels of a layer: they find a chain that lets most others be dropped
MAX_KEPT = 1 << 17


@dataclass(frozen=True)
class Solution:
    """The widths to keep; no others within the limits are worth more than `bound`.

    Args:
        widths: in the order of the space's choices, in units.
        score: the sum of kept units' Taylor scores, in 1e-5.
        cost: multiply-accumulates, or what units cost by `linear_cost`.
        bound: as `score`.
        solve_s: wall-clock time in seconds.
    """

    widths: tuple[int, ...]
    score: int
    cost: int
    bound: int
    solve_s: float

    @property
    def gap(self) -> float:
        """The share of the bound that may be missing; 0 where the solution is proven optimal."""
        return (self.bound - self.score) / self.bound if self.bound else 0.0


def nested(
    instance: Instance,
    capacities: Sequence[int],
    solver: Solver,
    *,
    most_bytes: int | None = None,
) -> list[Solution]:
    """Return a solution for each of the increasing capacities, each within the next one's.

    Bottom-up ("bu") solves the smallest first, and units once taken stay. Top-down ("td") solves
    the largest first, and what follows may use its units only.

    Raises:
        ValueError: a limit is infeasible; names the smallest feasible one.
    """
    low: Sequence[int] = [int(width_V[0]) for width_V in instance.widths]
    high: Sequence[int] = [int(width_V[-1]) for width_V in instance.widths]
    found: list[Solution] = []
    for capacity in capacities if solver == "bu" else reversed(capacities):
        found.append(solve(instance.between(low, high), capacity, most_bytes=most_bytes))
        if solver == "bu":
            low = found[-1].widths
        else:
            high = found[-1].widths
    return found if solver == "bu" else found[::-1]


def solve(
    instance: Instance,
    capacity: int,
    *,
    most_bytes: int | None = None,
    max_kept: int = MAX_KEPT,
) -> Solution:
    """Return the widths of the highest score whose cost is within the capacity.

    Args:
        instance: a chain, or a graph, whose `gap` need not be 0.
        capacity: the most that all layers may cost together.
        most_bytes: the most memory that maps may take together at any moment.
        max_kept: labels of a chain's layer; where more are needed, `gap` says what may be missing.

    Raises:
        ValueError: a limit is infeasible; names the smallest feasible one.
    """
    started = time.perf_counter()
    instance.check_feasible(capacity, most_bytes)
    limited = instance if most_bytes is None else instance.within_memory(most_bytes)
    if isinstance(limited, GroupGraph):
        best, bound = _best_of_graph(limited, capacity)
    else:
        best, bound = _best_of_chain(limited, capacity, max_kept)
    chosen = zip(instance.widths, best.places, strict=True)
    widths = tuple(int(width_V[place]) for width_V, place in chosen)
    return Solution(widths, best.score, best.cost, bound, time.perf_counter() - started)


def _best_of_chain(chain: Chain, capacity: int, max_kept: int) -> tuple[Path, int]:
    """Return the best widths found, and what none are worth more than."""
    price, best = best_price(chain, capacity)
    bound, kept = best.score, min(FIRST_KEPT, max_kept)
    if price > 0:
        search = LabelSearch(chain, capacity, price)
        best, bound = search.run(best, kept)
        while bound > best.score and kept < max_kept:
            kept = min(8 * kept, max_kept)
            best, bound = search.run(best, kept)
    return best, bound


def _best_of_graph(graph: GroupGraph, capacity: int) -> tuple[Path, int]:
    """Return the best widths found, and what none are worth more than."""
    order, places = turns(graph), (0,) * len(graph.widths)
    narrowest = Path(places, graph.score(places), graph.cost(places))
    price, best = lowest_bound(lambda at: best_at(graph, order, at), narrowest, capacity)
    if price == 0:
        return best, best.score
    relaxed = best_at(graph, order, price)
    bound = relaxed.score + price * (capacity - relaxed.cost)
    best = exchanged(graph, best, capacity)
    return best, max(best.score, math.floor(bound * (1 + ROUNDING)))
