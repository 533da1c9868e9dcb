"""The search stage: networks of a family one after another, each against the one before."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

import torch

from search_spaces.base import Architecture
from workers.datasets import truth
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.evolution import Evolution
from workers.methods.reg_nas.limits import Limits
from workers.methods.reg_nas.nsga2 import NSGA2
from workers.methods.reg_nas.predictor import inherited
from workers.methods.reg_nas.random_draws import RandomDraws
from workers.methods.reg_nas.reward import Scored, score
from workers.protocol import Candidate, Problem, Progress, State, seeded


class Optimizer(Protocol):
    """Proposes networks and is told what they are worth, by turns."""

    def ask(self) -> list[Architecture]:
        """Return the next generation."""
        ...

    def tell(self, generation: Sequence[Scored]) -> None:
        """Learn what the networks that were asked for are worth, in their order."""
        ...


OPTIMIZERS: Mapping[str, type[Evolution | NSGA2 | RandomDraws]] = {
    "evolution": Evolution,
    "nsga2": NSGA2,
    "random": RandomDraws,
}


def search(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Search the family; the last progress carries its networks, smallest first.

    Metrics are of a generation: cost, reward and figures of the best network so far, the mean
    reward, and the evaluations that all networks of the family took so far. State holds every
    generation of the present network's search, which is proposed again and told, not evaluated.

    Raises:
        ValueError: no network is within a budget, or `problem.predict` is absent.
    """
    run = FamilySearch(problem, config, state)
    if run.is_done:  # it was stopped before its last progress was kept
        yield Progress(run.step, run.step, run.metrics, run.state, run.candidates())
    while not run.is_done:
        run.evaluate_generation()
        found = run.candidates() if run.is_done else ()
        yield Progress(run.step, run.steps, run.metrics, run.state, found)


class FamilySearch:
    """A search under way: the networks found so far, and the generations of the next one."""

    def __init__(self, problem: Problem, config: Config, state: State | None) -> None:
        if problem.predict is None:
            raise ValueError("predict: reg_nas needs an evaluator of the supernet's networks")
        self.problem, self.config, self.predict = problem, config, problem.predict
        self.labels_N = truth(problem.data.val).cpu()
        self.reference_N: torch.Tensor | None = None
        self.found: list[Scored] = [] if config.reference is None else [self._given()]
        self.given = len(self.found)
        self.told: list[list[Scored]] = []
        self.metrics: dict[str, float] = {}
        if state is not None:
            self.metrics = dict(state["metrics"])
            self.found = [Scored(**fields) for fields in state["found"]]
            self.told = [[Scored(**fields) for fields in part] for part in state["told"]]
        self._begin()

    @property
    def steps(self) -> int:
        """Generations of the whole family."""
        return self.config.generations * len(self.config.budgets)

    @property
    def step(self) -> int:
        """Generations that have ended."""
        searched = len(self.found) - self.given
        return searched * self.config.generations + len(self.told)

    @property
    def is_done(self) -> bool:
        """Whether every budget has its network."""
        return len(self.found) - self.given == len(self.config.budgets)

    def evaluate_generation(self) -> None:
        """Evaluate a generation; the last one of a network's search yields the network."""
        generation = self._scored(self.optimizer.ask())
        self.optimizer.tell(generation)
        self.told.append(generation)
        best = self._best()
        self.metrics = {
            **best.metrics,
            "best_cost": best.cost,
            "mean_reward": statistics.fmean(scored.reward for scored in generation),
            "evaluations": self.step * self.config.population,
        }
        if len(self.told) == self.config.generations:
            self.found.append(best)
            self.told = []
            self._begin()

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the networks with their weights; a given reference is the first of them."""
        budgets = (*[None] * self.given, *self.config.budgets)
        evaluations = self.config.population * self.config.generations
        predictions = self.predict([scored.architecture for scored in self.found])
        candidates = []
        for scored, budget, predicted_N in zip(self.found, budgets, predictions, strict=True):
            about = {} if budget is None else {"budget": budget, "evaluations": evaluations}
            architecture = scored.architecture
            weights = inherited(self.problem, self.config, architecture)
            metrics = {**scored.metrics, **about}
            candidates.append(Candidate(architecture, metrics, {"val": predicted_N}, weights))
        return tuple(candidates)

    def state(self) -> State:
        """Return what the search goes on from."""
        return {
            "metrics": dict(self.metrics),
            "found": [asdict(scored) for scored in self.found],
            "told": [[asdict(scored) for scored in part] for part in self.told],
        }

    def _begin(self) -> None:
        """Begin the next network's search, and repeat those generations of it that were told."""
        if self.is_done:
            return
        number, config = len(self.found), self.config
        reference = self.found[-1].architecture if self.found else None
        self.reference_N = None if reference is None else self.predict([reference])[0]
        limits = Limits(
            self.problem.space,
            self.problem.cost,
            config.budgets[number - self.given],
            window=config.window,
            reference=reference if config.cas else None,
        )
        kind = Evolution if reference is None else OPTIMIZERS[config.optimizer]
        self.optimizer = kind(limits, config, seeded(self.problem.seed, "reg_nas", number))
        for generation in self.told:
            self.optimizer.ask()
            self.optimizer.tell(generation)

    def _scored(self, architectures: Sequence[Architecture]) -> list[Scored]:
        predictions = self.predict(architectures)
        return [
            score(
                self.config,
                architecture,
                self.problem.cost(architecture),
                predicted_N=predicted_N,
                labels_N=self.labels_N,
                reference_N=self.reference_N,
            )
            for architecture, predicted_N in zip(architectures, predictions, strict=True)
        ]

    def _best(self) -> Scored:
        """Return the network of the highest reward, the first of equals."""
        return max(
            (scored for part in self.told for scored in part), key=lambda scored: scored.reward
        )

    def _given(self) -> Scored:
        """Return the reference that the settings name."""
        assert self.config.reference is not None
        (reference,) = self._scored([self.problem.space.canonical(self.config.reference)])
        return reference
