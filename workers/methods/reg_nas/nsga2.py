"""Optuna's NSGA-II on the same problem: accuracy, negative flips and cost are traded off.

Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002. The one module of
a method that knows Optuna.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import Trial

from search_spaces.base import Architecture
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.limits import MOST_DRAWS, Limits
from workers.methods.reg_nas.reward import Scored

WORST = 1.0  # error and flip rate of a network that is not evaluated, as it is outside the limits


class NSGA2:
    """Proposes generations of networks within the limits; those outside are told as such."""

    def __init__(self, limits: Limits, config: Config, rng: random.Random) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = rng.getrandbits(32)
        sampler = optuna.samplers.NSGAIISampler(population_size=config.population, seed=seed)
        self.study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
        self.limits, self.size = limits, config.population
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(options) for name, options in limits.offered.items()
        }
        self.asked: list[Trial] = []

    def ask(self) -> list[Architecture]:
        """Return the next generation.

        Raises:
            ValueError: hardly any network that is proposed is within the limits.
        """
        self.asked, found = [], []
        for _ in range(MOST_DRAWS * self.size):
            trial = self.study.ask(self.distributions)
            architecture = self.limits.space.canonical(trial.params)
            trial.set_constraint("cost", self.limits.distance(architecture))
            if not self.limits.hold(architecture):
                self.study.tell(trial, [WORST, WORST, self.limits.cost(architecture)])
                continue
            self.asked.append(trial)
            found.append(architecture)
            if len(found) == self.size:
                return found
        raise ValueError(
            f"optimizer: nsga2 proposed {MOST_DRAWS * self.size} networks and {len(found)} within"
            f" the budget of {self.limits.budget:.15g}; allowed: a larger one, or evolution"
        )

    def tell(self, generation: Sequence[Scored]) -> None:
        """Learn what the networks that were asked for are worth, in their order."""
        for trial, scored in zip(self.asked, generation, strict=True):
            self.study.tell(trial, [1 - scored.val_accuracy, scored.nfr or 0.0, scored.cost])
