"""Figures of predictions: flips between two models, and how well regions are found.

Shapes: N samples (or pixels), M models, K classes, D bootstrap draws. Arrays are NumPy arrays or
CPU tensors of class numbers.
A flip is a sample on which two models disagree in being right (Yan et al., "Positive-Congruent
Training", CVPR 2021, section 3): negative if the reference is right and the target wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Classes: TypeAlias = npt.NDArray[np.integer] | torch.Tensor
Reals: TypeAlias = npt.NDArray[np.float64]
Truths: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """Where a figure lies, but for a small share of chances."""

    low: float
    high: float


def negative_flips(reference_N: Classes, target_N: Classes, labels_N: Classes) -> Truths:
    """Return, for each sample, whether the reference has it right and the target wrong: (N,)."""
    flips_N: Truths = _right(reference_N, labels_N) & ~_right(target_N, labels_N)
    return flips_N


def negative_flip_rate(reference_N: Classes, target_N: Classes, labels_N: Classes) -> float:
    """Return the share, of all samples, that the reference has right and the target wrong."""
    return float(negative_flips(reference_N, target_N, labels_N).mean())


def positive_flip_rate(reference_N: Classes, target_N: Classes, labels_N: Classes) -> float:
    """Return the share, of all samples, that the reference has wrong and the target right."""
    return negative_flip_rate(target_N, reference_N, labels_N)


def negative_flip_matrix(predictions_MN: Classes, labels_N: Classes) -> Reals:
    """Return each pair's negative flip rate, (M, M): rows are references, columns targets."""
    right_MN = _right(predictions_MN, labels_N).astype(np.float64)
    matrix: Reals = right_MN @ (1.0 - right_MN).T / right_MN.shape[1]
    return matrix


def negative_flip_rates_by_class(
    reference_N: Classes, target_N: Classes, labels_N: Classes
) -> Reals:
    """Return the negative flip rate among the samples of each class, (K,); NaN for classes without.

    Weighted by the classes' shares of the samples, they add up to the rate of all.
    """
    flips_N = negative_flips(reference_N, target_N, labels_N)
    counts_K = np.bincount(np.asarray(labels_N)).astype(np.float64)
    flips_K = np.bincount(np.asarray(labels_N), weights=flips_N)
    absent_K = np.full_like(counts_K, np.nan)
    rates_K: Reals = np.divide(flips_K, counts_K, absent_K, where=counts_K > 0)
    return rates_K


def bootstrap_means(values_NM: npt.ArrayLike, *, seed: int = 0, draws: int = 10_000) -> Reals:
    """Return the means of M figures over samples drawn again with replacement, (D, M).

    All figures see the same draws, so that their differences and ratios are paired. Samples whose
    figures are equal are drawn together, as a multinomial count.
    """
    values_PM, counts_P = np.unique(np.asarray(values_NM, np.float64), axis=0, return_counts=True)
    count = counts_P.sum()
    drawn_DP = np.random.default_rng(seed).multinomial(count, counts_P / count, size=draws)
    means_DM: Reals = drawn_DP @ values_PM / count
    return means_DM


def percentile_interval(values_D: Reals, level: float = 0.95) -> Interval:
    """Return the middle `level` of bootstrap draws (Efron's percentile interval)."""
    low, high = np.quantile(values_D, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def negative_flip_interval(
    reference_N: Classes,
    target_N: Classes,
    labels_N: Classes,
    *,
    seed: int = 0,
    level: float = 0.95,
    draws: int = 10_000,
) -> Interval:
    """Return the bootstrap confidence interval of a negative flip rate over the samples."""
    flips_N = negative_flips(reference_N, target_N, labels_N)
    means_DM = bootstrap_means(flips_N[:, None], seed=seed, draws=draws)
    return percentile_interval(means_DM[:, 0], level)


def mean_iou(predictions_N: Classes, labels_N: Classes) -> float:
    """Return intersection over union, the mean over the classes that were predicted or there.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5;
    pixels are counted over all images together.
    """
    right_N = _right(predictions_N, labels_N)
    predictions_N, labels_N = np.asarray(predictions_N), np.asarray(labels_N)
    classes = int(max(predictions_N.max(), labels_N.max())) + 1
    common_K, predicted_K, there_K = (
        np.bincount(classes_N, minlength=classes)
        for classes_N in (labels_N[right_N], predictions_N, labels_N)
    )
    union_K = predicted_K + there_K - common_K
    return float((common_K[union_K > 0] / union_K[union_K > 0]).mean())


def _right(predictions: Classes, labels_N: Classes) -> Truths:
    predictions, labels_N = np.asarray(predictions), np.asarray(labels_N)
    if predictions.shape[-1:] != labels_N.shape or not labels_N.size:
        raise ValueError(
            f"predictions of shape {predictions.shape} for labels of shape {labels_N.shape}:"
            " expected one prediction a label, and at least one"
        )
    return np.equal(predictions, labels_N)
