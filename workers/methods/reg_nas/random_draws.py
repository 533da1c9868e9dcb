"""Random draws within the limits: what a search must beat at as many evaluations."""

from __future__ import annotations

import random
from collections.abc import Sequence

from search_spaces.base import Architecture, sample
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.limits import Limits
from workers.methods.reg_nas.reward import Scored


class RandomDraws:
    """Proposes random networks, and learns nothing."""

    def __init__(self, limits: Limits, config: Config, rng: random.Random) -> None:
        self.limits, self.size, self.rng = limits, config.population, rng

    def ask(self) -> list[Architecture]:
        """Return networks as evolution's first generation has them."""
        space, rng = self.limits.space, self.rng
        return [self.limits.drawn(lambda: sample(space, rng), rng) for _ in range(self.size)]

    def tell(self, generation: Sequence[Scored]) -> None:
        """Learn nothing from what the networks are worth."""
