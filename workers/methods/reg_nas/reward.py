"""What networks are worth: accuracy, and flips against a reference.

N is the number of held-out samples. Accuracies and rates are fractions, rewards are in percent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from search_spaces.base import Architecture
from workers.methods.reg_nas.config import Config
from workers.metrics import negative_flip_rate, positive_flip_rate


@dataclass(frozen=True)
class Scored:
    """A network and what it is worth; one without a reference has no flips."""

    architecture: Architecture
    cost: float
    reward: float
    val_accuracy: float
    nfr: float | None = None
    positive_flip_rate: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The figures under the names of the results table; flips are those of the search."""
        figures = {
            "reward": self.reward,
            "val_accuracy": self.val_accuracy,
            "search_nfr": self.nfr,
            "search_positive_flip_rate": self.positive_flip_rate,
        }
        return {name: value for name, value in figures.items() if value is not None}


def score(
    config: Config,
    architecture: Architecture,
    cost: float,
    *,
    predicted_N: torch.Tensor,
    labels_N: torch.Tensor,
    reference_N: torch.Tensor | None,
) -> Scored:
    """Return what a network is worth by its predictions and those of its reference."""
    accuracy = (predicted_N == labels_N).double().mean().item()
    if reference_N is None:
        return Scored(architecture, cost, 100 * accuracy, accuracy)
    nfr = negative_flip_rate(reference_N, predicted_N, labels_N)
    gained = positive_flip_rate(reference_N, predicted_N, labels_N)
    return Scored(architecture, cost, reward(config, accuracy, nfr), accuracy, nfr, gained)


def reward(config: Config, accuracy: float, nfr: float) -> float:
    """Return R0, R1 or R2 in percent (Duggal et al., section 4, Eq. 4).

    R2 is lambda1 Top-1 - lambda2 NFR; only the ratio of the two matters, so lambda1 is 1. That R1
    is the negative flips alone is inferred from R0 and R2.
    """
    if config.reward == "r0":
        return 100 * accuracy
    if config.reward == "r1":
        return -100 * nfr
    return 100 * accuracy - config.lambda_ratio * 100 * nfr  # Eq. 4
