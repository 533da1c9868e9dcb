"""Which networks a search may propose, and how one within these limits is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable

from search_spaces.base import Architecture, SearchSpace, mutate
from workers.methods.reg_nas.containment import clamped, offered_to
from workers.protocol import Cost

MOST_DRAWS = 100  # until a draw that is outside is led inside instead
MOST_CHANGES = 2000  # of one choice each, on the way inside


class Limits:
    """Networks that contain `reference`, if there is one, and cost no more than `budget`.

    With a `window`, they cost more than (1 - window) of it. The cost is that of the study.

    Raises:
        ValueError: the smallest network costs more than the budget.
    """

    def __init__(
        self,
        space: SearchSpace,
        cost: Cost,
        budget: float,
        *,
        window: float | None = None,
        reference: Architecture | None = None,
    ) -> None:
        self.space, self.cost, self.budget = space, cost, budget
        self.above = -1.0 if window is None else (1 - window) * budget
        self.offered = offered_to(space, reference)
        smallest = {name: options[0] for name, options in self.offered.items()}
        self.least = cost(space.canonical(smallest))
        if self.least > budget:
            what = "the smallest network" if reference is None else "the reference"
            raise ValueError(
                f"budgets: {budget:.15g} is below what {what} costs;"
                f" allowed: {self.least:.15g} or above"
            )

    def hold(self, architecture: Architecture) -> bool:
        """Tell whether a network costs what it may."""
        return self.above < self.cost(architecture) <= self.budget

    def distance(self, architecture: Architecture) -> float:
        """Return by how much a network costs too much, or too little for the window."""
        cost = self.cost(architecture)
        return max(0.0, cost - self.budget, self.above - cost)

    def drawn(self, draw: Callable[[], Architecture], rng: random.Random) -> Architecture:
        """Return the first draw that is within the limits, made to contain the reference.

        If that takes too long, the last draw is changed one choice at a time, never to a cost
        that is farther away.

        Raises:
            ValueError: nothing was found.
        """
        for _ in range(MOST_DRAWS):
            architecture = clamped(self.space, draw(), self.offered)
            if self.hold(architecture):
                return architecture
        return self._led_inside(architecture, rng)

    def _led_inside(self, architecture: Architecture, rng: random.Random) -> Architecture:
        distance = self.distance(architecture)
        for _ in range(MOST_CHANGES):
            changed = mutate(self.space, architecture, rng, probability=0.0)
            changed = clamped(self.space, changed, self.offered)
            if self.hold(changed):
                return changed
            away = self.distance(changed)
            if away <= distance:
                architecture, distance = changed, away
        raise ValueError(
            f"budgets: no network was found that costs above {max(0.0, self.above):.15g}, up to"
            f" {self.budget:.15g}; the smallest costs {self.least:.15g}"
        )
