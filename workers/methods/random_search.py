"""Random search: architectures drawn from a space, finished like any other; the baseline.

Li and Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", 2019. Uniform
draws crowd around the middle of a space's costs, so `even_over_cost` spreads them over its range.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.base import Architecture, mutate, sample
from workers.protocol import Candidate, Method, Problem, Progress, State, seeded
from workers.training import finish

MAX_MUTATIONS = 400  # tried for one target
NEAR = 0.01  # of the range of costs: near enough to a target


@dataclass(frozen=True)
class Config:
    """Settings of random search.

    Args:
        num_candidates: architectures that one trial draws.
        even_over_cost: draw them near costs that are evenly spaced from the presets `min` to
            `max`; otherwise uniformly over the space.
    """

    num_candidates: int = 8
    even_over_cost: bool = False

    def __post_init__(self) -> None:
        """Refuse a trial without candidates."""
        if self.num_candidates < 1:
            raise ValueError(f"num_candidates: {self.num_candidates}; allowed: 1 or above")


def search(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Draw all candidates in one step; there is nothing to resume."""
    del state
    rng = seeded(problem.seed, "random search")
    if config.even_over_cost:
        drawn = [_near(problem, target, rng) for target in _targets(problem, config)]
    else:
        drawn = [sample(problem.space, rng) for _ in range(config.num_candidates)]
    candidates = tuple(Candidate(architecture) for architecture in drawn)
    yield Progress(1, 1, {"num_candidates": len(candidates)}, dict, candidates)


def select(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return all indices: nothing is known about candidates that were only drawn."""
    return list(range(len(records)))


def _targets(problem: Problem, config: Config) -> list[float]:
    low, high = (problem.cost(problem.space.presets[name]) for name in ("min", "max"))
    steps = max(1, config.num_candidates - 1)
    return [low + (high - low) * step / steps for step in range(config.num_candidates)]


def _near(problem: Problem, target: float, rng: random.Random) -> Architecture:
    """Return a random architecture, led by mutations to a cost near the target."""
    low, high = (problem.cost(problem.space.presets[name]) for name in ("min", "max"))
    best = sample(problem.space, rng)
    distance = abs(problem.cost(best) - target)
    for _ in range(MAX_MUTATIONS):
        if distance <= NEAR * (high - low):
            break
        mutant = mutate(problem.space, best, rng)
        away = abs(problem.cost(mutant) - target)
        if away < distance:
            best, distance = mutant, away
    return best


METHOD = Method(
    "random",
    Config,
    search,
    finish,
    select=select,
    not_in_parts={"pretrain": "it trains no supernet, and a chosen network is whole everywhere"},
)
