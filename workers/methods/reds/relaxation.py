"""The knapsack without its capacity, at a price for every unit of cost (Lagrange's relaxation).

At any price the best chain is a longest path, found layer by layer, and no chain within the
capacity can be worth more than that path's score less its cost, plus what the capacity is worth
(Handler and Zang, "A Dual Algorithm for the Constrained Shortest Path Problem", 1980).

Legend: U widths of the layer before, V widths of a layer, P partial chains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.methods.reds.chain import Chain, Integers

Floats = np.ndarray[Any, np.dtype[np.float64]]
MAX_PRICES = 100  # tried until two lines meet; it takes about ten


@dataclass(frozen=True)
class Path:
    """A chain of widths, as places in their lists, with its score and cost."""

    places: tuple[int, ...]
    score: int
    cost: int


class Relaxation:
    """The best that later layers can add, for every width, at one price.

    Args:
        chain: the instance.
        price: of a unit of cost, in units of score.
    """

    def __init__(self, chain: Chain, price: float) -> None:
        self.price = price
        self.to_come: list[Floats] = [np.zeros(len(chain.widths[-1]))]
        self._best: list[Integers] = []
        for score_UV, cost_UV in zip(chain.scores[:0:-1], chain.costs[:0:-1], strict=True):
            value_UV = score_UV - price * cost_UV + self.to_come[0]
            best_U = value_UV.argmax(1)
            self._best.insert(0, best_U)
            self.to_come.insert(0, value_UV[np.arange(len(best_U)), best_U])

    def bound(self, layer: int, place_P: Integers, score_P: Integers, left_P: Integers) -> Floats:
        """Return what chains that begin so are worth at most, with the capacity that is left."""
        bound_P: Floats = score_P + self.to_come[layer][place_P] + self.price * left_P
        return bound_P

    def path(self, chain: Chain) -> Path:
        """Return the best chain at this price; it may cost more than the capacity."""
        first_V = chain.scores[0][0] - self.price * chain.costs[0][0] + self.to_come[0]
        places = [int(first_V.argmax())]
        for best_U in self._best:
            places.append(int(best_U[places[-1]]))
        return path_of(chain, places)


def path_of(chain: Chain, places: Sequence[int]) -> Path:
    """Return a chain of widths with its score and cost."""
    pairs = list(zip((0, *places), places, strict=False))
    score, cost = (
        sum(int(table_UV[pair]) for table_UV, pair in zip(tables, pairs, strict=True))
        for tables in (chain.scores, chain.costs)
    )
    return Path(tuple(places), score, cost)


def best_price(chain: Chain, capacity: int) -> tuple[float, Path]:
    """Return the price of the lowest bound, and the best chain met that respects the capacity.

    Returns:
        Price 0 where the capacity does not matter: the path is then the best chain of all.
    """
    narrowest = path_of(chain, [0] * len(chain.widths))
    return lowest_bound(lambda price: Relaxation(chain, price).path(chain), narrowest, capacity)


def lowest_bound(
    best_at: Callable[[float], Path], narrowest: Path, capacity: int
) -> tuple[float, Path]:
    """Return the price of the lowest bound, and the best path met that respects the capacity.

    Each path is a line over prices; the bound is their upper hull. Where the two lines that
    enclose its lowest point meet, a better path is looked for, until there is none.

    Args:
        best_at: the best path at a price.
        narrowest: a path within the capacity.
        capacity: the most that a path may cost.

    Returns:
        Price 0 where the capacity does not matter: the path is then the best of all.
    """
    over = best_at(0.0)
    if over.cost <= capacity:
        return 0.0, over
    under = best = narrowest
    price = 0.0
    for _ in range(MAX_PRICES):
        price = (over.score - under.score) / (over.cost - under.cost)
        path = best_at(price)
        if path.cost <= capacity and path.score > best.score:
            best = path
        gain = (path.score - over.score) - price * (path.cost - over.cost)
        if gain <= 1e-9 * max(1, abs(path.score)):
            break
        over, under = (path, under) if path.cost > capacity else (over, path)
    return price, best
