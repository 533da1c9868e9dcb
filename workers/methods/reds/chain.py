"""The knapsack's form: a chain of layers, each of which keeps some of its units.

What a layer adds depends on its own width and on that of the layer before, so an instance is a
table for each layer: `S_l(n_l) + K_l(n_{l-1}, n_l)` as score, `a_l n_l + b_l n_{l-1} n_l` as cost.
Nothing here knows what the layers are.

Legend: U widths of the layer before (one for the first layer), V widths of the layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]
FORBIDDEN = 1 << 50  # costs more than any capacity


@dataclass(frozen=True)
class Chain:
    """An instance; all numbers are whole and not negative, and grow with both widths.

    Args:
        widths: for each layer those that it may have, increasing, shape (V,).
        scores: for each layer what its units and their weights are worth, shape (U, V).
        costs: for each layer what it costs, shape (U, V).
        memory_bytes: for each layer the most that its maps take at a time, shape (U, V).
    """

    widths: tuple[Integers, ...]
    scores: tuple[Integers, ...]
    costs: tuple[Integers, ...]
    memory_bytes: tuple[Integers, ...]

    @property
    def full_cost(self) -> int:
        """The cost of all units."""
        return sum(int(cost_UV[-1, -1]) for cost_UV in self.costs)

    @property
    def least_cost(self) -> int:
        """The cost of the narrowest layers: the smallest capacity that allows anything."""
        return sum(int(cost_UV[0, 0]) for cost_UV in self.costs)

    @property
    def least_memory_bytes(self) -> int:
        """The memory of the narrowest layers."""
        return max(int(memory_UV[0, 0]) for memory_UV in self.memory_bytes)

    def between(self, low: Sequence[int], high: Sequence[int]) -> Chain:
        """Return the chain whose layers have widths in [low, high]; each keeps at least one."""
        kept = [
            (width_V >= least) & (width_V <= most)
            for width_V, least, most in zip(self.widths, low, high, strict=True)
        ]
        before = [np.ones(1, dtype=bool), *kept[:-1]]

        def cut(tables: Sequence[Integers]) -> tuple[Integers, ...]:
            return tuple(
                table_UV[rows_U][:, columns_V]
                for table_UV, rows_U, columns_V in zip(tables, before, kept, strict=True)
            )

        return Chain(
            tuple(width_V[kept_V] for width_V, kept_V in zip(self.widths, kept, strict=True)),
            cut(self.scores),
            cut(self.costs),
            cut(self.memory_bytes),
        )

    def within_memory(self, most_bytes: int) -> Chain:
        """Return the chain in which neighbours that take more memory can no longer be had."""
        costs = tuple(
            np.where(memory_UV > most_bytes, FORBIDDEN, cost_UV)
            for memory_UV, cost_UV in zip(self.memory_bytes, self.costs, strict=True)
        )
        return dataclasses.replace(self, costs=costs)

    def check_feasible(self, capacity: int, most_bytes: int | None) -> None:
        """Refuse limits that not even the narrowest layers respect.

        Raises:
            ValueError: names the limit and the smallest feasible one.
        """
        check_limits(capacity, self.least_cost, most_bytes, self.least_memory_bytes)


def check_limits(
    capacity: int, least_cost: int, most_bytes: int | None, least_memory_bytes: int
) -> None:
    """Refuse limits that not even the narrowest network respects.

    Raises:
        ValueError: names the limit and the smallest feasible one.
    """
    limits = {
        "capacity": (capacity, least_cost),
        "peak_memory_bytes": (most_bytes, least_memory_bytes),
    }
    for name, (most, least) in limits.items():
        if most is not None and most < least:
            raise ValueError(f"{name}: {most} is infeasible; the smallest feasible one is {least}")
