"""Evolution: the best networks so far have children, by mutation and by crossover.

Cai et al., "Once for All: Train One Network and Specialize it for Efficient Deployment", 2020, and
the authors' code, from which the shares and rates are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from search_spaces.base import Architecture, Choice, SearchSpace, crossover, option_of, sample
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.containment import RESOLUTION
from workers.methods.reg_nas.limits import Limits
from workers.methods.reg_nas.reward import Scored

BLOCK = ("ks", "e")  # a block's kernel size and expand ratio mutate together


class Evolution:
    """Proposes generation after generation; the best networks of all are the next parents."""

    def __init__(self, limits: Limits, config: Config, rng: random.Random) -> None:
        self.limits, self.config, self.rng = limits, config, rng
        self.parents: list[Scored] = []

    def ask(self) -> list[Architecture]:
        """Return the next generation: random networks first, then children of the parents."""
        config, size = self.config, self.config.population
        if not self.parents:
            return [self.limits.drawn(self._random, self.rng) for _ in range(size)]
        mutants = round(config.mutation_share * size)
        draws = [self._mutant] * mutants + [self._crossed] * (size - mutants)
        return [self.limits.drawn(draw, self.rng) for draw in draws]

    def tell(self, generation: Sequence[Scored]) -> None:
        """Learn what the networks that were asked for are worth; parents survive."""
        count = max(1, round(self.config.parent_share * self.config.population))
        known = [*self.parents, *generation]
        self.parents = sorted(known, key=lambda scored: -scored.reward)[:count]

    def _random(self) -> Architecture:
        return sample(self.limits.space, self.rng)

    def _mutant(self) -> Architecture:
        parent = self.rng.choice(self.parents).architecture
        return mutant(self.limits.space, parent, self.config, self.rng)

    def _crossed(self) -> Architecture:
        one, two = (self.rng.choice(self.parents).architecture for _ in range(2))
        return crossover(self.limits.space, one, two, self.rng)


def mutant(
    space: SearchSpace, parent: Architecture, config: Config, rng: random.Random
) -> Architecture:
    """Draw genes anew, each with its rate; entries that are inactive in the parent are random."""
    options = {}
    for gene in genes(space):
        is_resolution = gene[0].name == RESOLUTION
        rate = config.resolution_mutation_rate if is_resolution else config.mutation_rate
        is_redrawn = rng.random() < rate
        for choice in gene:
            option = option_of(parent, choice.name)
            redrawn = is_redrawn or option is None
            options[choice.name] = rng.choice(choice.options) if redrawn else option
    return space.canonical(options)


def genes(space: SearchSpace) -> list[list[Choice]]:
    """Return the choices that mutate together: those of one block, and each other by itself."""
    together: dict[tuple[str, str], list[Choice]] = {}
    for choice in space.choices:
        key, _, index = choice.name.partition(".")
        together.setdefault(("block" if key in BLOCK else key, index), []).append(choice)
    return list(together.values())
