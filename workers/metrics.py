"""Figures of predictions: flips between two models, and how well regions are found.

Shapes: N samples (or pixels), M models, K classes. Arrays are NumPy arrays or CPU tensors of class
numbers.
A flip is a sample on which two models disagree in being right (Yan et al., "Positive-Congruent
Training", CVPR 2021, section 3): negative if the reference is right and the target wrong.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Classes: TypeAlias = npt.NDArray[np.integer] | torch.Tensor
Reals: TypeAlias = npt.NDArray[np.float64]


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


def _right(predictions: Classes, labels_N: Classes) -> npt.NDArray[np.bool_]:
    predictions, labels_N = np.asarray(predictions), np.asarray(labels_N)
    if predictions.shape[-1:] != labels_N.shape or not labels_N.size:
        raise ValueError(
            f"predictions of shape {predictions.shape} for labels of shape {labels_N.shape}:"
            " expected one prediction a label, and at least one"
        )
    return np.equal(predictions, labels_N)
