"""Figures of predictions: accuracy, flips between two models, confidence.

Shapes: N samples, M models. Arrays are NumPy arrays or CPU tensors of class numbers.
A flip is a sample on which two models disagree in being right (Yan et al., "Positive-Congruent
Training", CVPR 2021, section 3): negative if the reference is right and the target wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

Classes: TypeAlias = npt.NDArray[np.integer] | torch.Tensor
Reals: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def accuracy(predictions_N: Classes, labels_N: Classes) -> float:
    """Return the share of samples that are predicted right, in [0, 1]."""
    return float(_right(predictions_N, labels_N).mean())


def negative_flip_rate(reference_N: Classes, target_N: Classes, labels_N: Classes) -> float:
    """Return the share, of all samples, that the reference has right and the target wrong."""
    right_N = _right(reference_N, labels_N)
    return float((right_N & ~_right(target_N, labels_N)).mean())


def positive_flip_rate(reference_N: Classes, target_N: Classes, labels_N: Classes) -> float:
    """Return the share, of all samples, that the reference has wrong and the target right."""
    return negative_flip_rate(target_N, reference_N, labels_N)


def negative_flip_matrix(predictions_MN: Classes, labels_N: Classes) -> Reals:
    """Return each pair's negative flip rate, (M, M): rows are references, columns targets."""
    right_MN = _right(predictions_MN, labels_N).astype(np.float64)
    matrix: Reals = right_MN @ (1.0 - right_MN).T / right_MN.shape[1]
    return matrix


def bootstrap_interval(
    outcomes_N: npt.ArrayLike, *, seed: int, level: float = 0.95, resamples: int = 1000
) -> Interval:
    """Return the percentile bootstrap interval of the mean of per-sample outcomes.

    Args:
        outcomes_N: one number a sample, such as 1 for right and 0 for wrong.
        seed: determines the resamples.
        level: confidence, in (0, 1).
        resamples: number of resamples.
    """
    outcomes_N = np.asarray(outcomes_N, dtype=np.float64)
    if np.ptp(outcomes_N) == 0:  # every resample is equal; SciPy would warn and return NaN
        return Interval(float(outcomes_N[0]), float(outcomes_N[0]))
    result = stats.bootstrap(
        (outcomes_N,),
        np.mean,
        n_resamples=resamples,
        batch=100,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(*map(float, result.confidence_interval))


def _right(predictions: Classes, labels_N: Classes) -> npt.NDArray[np.bool_]:
    predictions, labels_N = np.asarray(predictions), np.asarray(labels_N)
    if predictions.shape[-1:] != labels_N.shape or not labels_N.size:
        raise ValueError(
            f"predictions of shape {predictions.shape} for labels of shape {labels_N.shape}:"
            " expected one prediction a label, and at least one"
        )
    return np.equal(predictions, labels_N)
