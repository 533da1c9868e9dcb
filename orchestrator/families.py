"""Families: networks that a trial found one after another, and what each would break.

Duggal et al., "Towards Regression-Free Neural Networks for Diverse Compute Platforms", ECCV 2022,
with its supplement. M is the number of networks of a family, smallest first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.figure_parts import point_label
from orchestrator.loading import Study
from orchestrator.results import Record
from workers.metrics import negative_flip_matrix

Reals = npt.NDArray[np.float64]
FLIPS = "search_nfr"  # what candidates have that were searched against the one before
PROPOSED = {"reward": "r2", "cas": True, "optimizer": "evolution", "lambda_ratio": 1}


@dataclass(frozen=True)
class Family:
    """Networks of a trial, or means over seeds; rates and accuracies are fractions.

    Args:
        point: the sweep point, without the seed.
        settings: the method's at that point.
        seeds: of the trials.
        cost_M: in the unit of the study's cost.
        accuracy_M: of every network.
        nfr_MM: rows are references, columns targets: the row is replaced by the column.
    """

    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    cost_M: Reals
    accuracy_M: Reals
    nfr_MM: Reals

    @property
    def label(self) -> str:
        """The sweep point for people."""
        return point_label(self.point) or "networks"

    @property
    def accuracy(self) -> float:
        """The largest network's."""
        return float(self.accuracy_M[-1])

    @property
    def nfr(self) -> float:
        """What breaks when the largest network replaces the one before."""
        return float(self.nfr_MM[-2, -1])


@dataclass(frozen=True)
class Change:
    """A row of Table 2: a family's largest network, and REG-NAS's relative change against it."""

    family: Family
    accuracy_percent: float
    nfr_percent: float


def families(study: Study) -> list[Family]:
    """Return the family of every trial that has all its networks finished.

    Figures are of test data where all finished networks have predictions of it (the study's
    `report.test_all`), else of validation data, which the search has seen.
    """
    split, trials = shown_split(study), _trials(study)
    labels_N, predicted = study.labels(split), study.predicted(split)
    if labels_N is None:
        return []
    return [
        _family(study, trial, np.stack([predicted[r["candidate"]] for r in trial]), labels_N)
        for trial in trials
    ]


def shown_split(study: Study) -> str:
    """Return the split that figures are of."""
    tested = study.predicted("test")
    is_tested = all(r["candidate"] in tested for trial in _trials(study) for r in trial)
    return "test" if is_tested else "val"


def averaged(found: Sequence[Family]) -> list[Family]:
    """Return the means over seeds, one family for every sweep point."""
    points: dict[str, list[Family]] = {}
    for family in found:
        points.setdefault(json.dumps(family.point, sort_keys=True), []).append(family)
    return [
        Family(
            point=members[0].point,
            settings=members[0].settings,
            seeds=tuple(seed for family in members for seed in family.seeds),
            cost_M=np.mean([family.cost_M for family in members], axis=0),
            accuracy_M=np.mean([family.accuracy_M for family in members], axis=0),
            nfr_MM=np.mean([family.nfr_MM for family in members], axis=0),
        )
        for members in points.values()
    ]


def changes(found: Sequence[Family]) -> list[Change]:
    """Return Table 2 of the supplement, REG-NAS being reward R2 with CAS, lambda1 = lambda2.

    Empty if no point of the sweep is that one.
    """
    proposed = next((family for family in found if _is_proposed(family)), None)
    if proposed is None:
        return []
    return [
        Change(
            family,
            relative_change(proposed.accuracy, family.accuracy),
            relative_change(proposed.nfr, family.nfr),
        )
        for family in found
    ]


def relative_change(first: float, second: float) -> float:
    """Return C(phi1, phi2) = (M(phi1) - M(phi2)) / M(phi2) in percent (supplement, Eq. 1).

    The paper prints it truncated. Not a number where M(phi2) is 0.
    """
    return 100 * (first - second) / second if second else float("nan")


def _trials(study: Study) -> list[list[Record]]:
    """Return the networks of every trial that was finished as a whole, in the order of finding."""
    trials: dict[str, list[Record]] = {}
    for record in study.records:
        if record["trial"] is not None:
            trials.setdefault(record["trial"], []).append(record)
    return [
        sorted(trial, key=lambda record: int(record["candidate"].rpartition(".")[2]))
        for trial in trials.values()
        if any(FLIPS in record for record in trial)
        and all(record["stage"] == "finished" for record in trial)
    ]


def _family(
    study: Study,
    trial: Sequence[Record],
    predicted_MN: npt.NDArray[np.integer],
    labels_N: npt.NDArray[np.integer],
) -> Family:
    params = trial[0]["params"]
    point = {key: value for key, value in params.items() if key != "seed"}
    return Family(
        point=point,
        settings={**study.config["method"], **point},
        seeds=(trial[0]["seed"],),
        cost_M=np.array([record["cost"] for record in trial], np.float64),
        accuracy_M=(predicted_MN == labels_N).mean(1),
        nfr_MM=negative_flip_matrix(predicted_MN, labels_N),
    )


def _is_proposed(family: Family) -> bool:
    return all(family.settings.get(key) == value for key, value in PROPOSED.items())
