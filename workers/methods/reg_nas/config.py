"""Settings of REG-NAS; the defaults are the paper's, and Once-for-all's where it is silent."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

from workers.methods.reg_nas.supernet_settings import SupernetTraining


@dataclass(frozen=True)
class Config:
    """Settings of one search; a study sweeps over `reward`, `lambda_ratio`, `cas`, `budgets`.

    Args:
        budgets: what the networks of a family may cost, rising, in the unit of the study's cost.
            The first is found for its accuracy alone, and is the same for all points of a sweep
            that have its budget and its seed; each other is searched against the one before.
        reference: a network of the space; the first budget's is then searched against it.
        reward: what a network against a reference is searched for: "r0" its accuracy, "r1" few
            negative flips, "r2" both (Eq. 4).
        lambda_ratio: lambda2 / lambda1 of "r2", the weight of negative flips beside accuracy.
        cas: search only networks that contain the reference's weights, at its resolution.
        window: share of the budget that a network may stay below it; None leaves it free.
        optimizer: evolution; NSGA-II of accuracy, flips and cost; or random draws, to compare with.
            A network that has no reference is found by evolution in any case.
        population: networks that are evaluated in a generation.
        generations: of one network's search; the first is drawn at random.
        parent_share: share of the population, the best so far, that has children.
        mutation_share: share of the children that are mutants; the others have two parents.
        mutation_rate: probability that a mutant's block, depth or width is drawn anew.
        resolution_mutation_rate: the same of its resolution.
        calibration_images: training images that give a network's batch norm statistics.
        supernet: how the supernet is trained, once for all points of a sweep.
    """

    budgets: tuple[float, ...] = (150e6, 300e6)
    reference: dict[str, Any] | None = None
    reward: Literal["r0", "r1", "r2"] = "r2"
    lambda_ratio: float = 1.0
    cas: bool = True
    window: float | None = None
    optimizer: Literal["evolution", "nsga2", "random"] = "evolution"
    population: int = 100
    generations: int = 20
    parent_share: float = 0.25
    mutation_share: float = 0.5
    mutation_rate: float = 0.1
    resolution_mutation_rate: float = 0.5
    calibration_images: int = 2000
    supernet: SupernetTraining = SupernetTraining()

    def __post_init__(self) -> None:
        """Refuse what no search can run with.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        rising = all(one < two for one, two in itertools.pairwise((0.0, *self.budgets)))
        least = 2 if self.reference is None else 1
        self._require("budgets", rising, "rising numbers above 0")
        self._require(
            "budgets", len(self.budgets) >= least, f"{least} or more, the first without a reference"
        )
        self._require("lambda_ratio", self.lambda_ratio >= 0, "0 or above")
        self._require("window", self.window is None or 0 < self.window <= 1, "above 0, up to 1")
        self._require("population", self.population >= 2, "2 or above")
        self._require("generations", self.generations >= 1, "1 or above")
        self._require("parent_share", 0 < self.parent_share <= 1, "above 0, up to 1")
        for name in ("mutation_share", "mutation_rate", "resolution_mutation_rate"):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._require("calibration_images", self.calibration_images >= 2, "2 or above")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name}: {getattr(self, name)} is not allowed; allowed: {allowed}")
