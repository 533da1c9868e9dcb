"""Which widths to keep: nested knapsacks over a chain of layers, solved to proven optimality.

REDS hands each knapsack to a commercial solver of integer programs, which takes minutes to hours;
labels and a Lagrangian bound take a fraction of a second.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.methods.reds.chain import Chain
from workers.methods.reds.labels import LabelSearch
from workers.methods.reds.relaxation import best_price

Solver = Literal["bu", "td"]
FIRST_KEPT = 1 << 10  # labels of a layer: they find a chain that lets most others be dropped
MAX_KEPT = 1 << 17


@dataclass(frozen=True)
class Solution:
    """The widths to keep, what they are worth and cost; no others are worth more than `bound`."""

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
    chain: Chain, capacities: Sequence[int], solver: Solver, *, most_bytes: int | None = None
) -> list[Solution]:
    """Return a solution for each of the increasing capacities, each within the next one's.

    Bottom-up ("bu") solves the smallest first, and units once taken stay. Top-down ("td") solves
    the largest first, and what follows may use its units only.

    Raises:
        ValueError: a limit is infeasible; names the smallest feasible one.
    """
    low: Sequence[int] = [int(width_V[0]) for width_V in chain.widths]
    high: Sequence[int] = [int(width_V[-1]) for width_V in chain.widths]
    found: list[Solution] = []
    for capacity in capacities if solver == "bu" else reversed(capacities):
        found.append(solve(chain.between(low, high), capacity, most_bytes=most_bytes))
        if solver == "bu":
            low = found[-1].widths
        else:
            high = found[-1].widths
    return found if solver == "bu" else found[::-1]


def solve(
    chain: Chain, capacity: int, *, most_bytes: int | None = None, max_kept: int = MAX_KEPT
) -> Solution:
    """Return the widths of the highest score whose cost is within the capacity.

    Args:
        chain: the instance.
        capacity: the most that all layers may cost together.
        most_bytes: the most memory that any layer may take.
        max_kept: labels of a layer; where more are needed, `gap` says what may be missing.

    Raises:
        ValueError: a limit is infeasible; names the smallest feasible one.
    """
    started = time.perf_counter()
    chain.check_feasible(capacity, most_bytes)
    if most_bytes is not None:
        chain = chain.within_memory(most_bytes)
    price, best = best_price(chain, capacity)
    bound, kept = best.score, min(FIRST_KEPT, max_kept)
    if price > 0:
        search = LabelSearch(chain, capacity, price)
        best, bound = search.run(best, kept)
        while bound > best.score and kept < max_kept:
            kept = min(8 * kept, max_kept)
            best, bound = search.run(best, kept)
    chosen = zip(chain.widths, best.places, strict=True)
    widths = tuple(int(width_V[place]) for width_V, place in chosen)
    return Solution(widths, best.score, best.cost, bound, time.perf_counter() - started)
