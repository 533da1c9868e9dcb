"""Pareto fronts and their hypervolume, computed by moocore.

A candidate's objectives are its validation error (1 - val_accuracy) and its cost, both minimised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Points = npt.NDArray[np.float64]
REFERENCE_FACTOR = 1.1


def objectives(records: Iterable[Mapping[str, Any]]) -> Points:
    """Return error and cost of candidates, shape (candidates, 2); NaN where one is missing."""
    rows = [(record["val_accuracy"], record["cost"]) for record in records]
    accuracy_cost = np.array(rows, dtype=float).reshape(-1, 2)
    return np.column_stack((1 - accuracy_cost[:, 0], accuracy_cost[:, 1]))


def column_objectives(candidates: pa.Table) -> Points:
    """Return the same of a table that has the columns `val_accuracy` and `cost`."""
    accuracy, cost = (candidates[name].to_numpy() for name in ("val_accuracy", "cost"))
    return np.column_stack((1 - accuracy, cost)).astype(float)


def pareto_front(
    points: npt.ArrayLike, *, maximise: bool | Sequence[bool] = False
) -> npt.NDArray[np.bool_]:
    """Mark the points that no other dominates; of equal points the first only.

    Args:
        points: shape (points, objectives); a point with a NaN is never on the front.
        maximise: for all objectives, or one flag for each.

    Returns:
        A mask of shape (points,).
    """
    values = np.asarray(points, dtype=float)
    mask = np.zeros(len(values), dtype=bool)
    known = ~np.isnan(values).any(axis=1) if len(values) else mask
    if known.any():
        mask[known] = moocore.is_nondominated(values[known], maximise=maximise)
    return mask


def reference_point(points: npt.ArrayLike) -> Points:
    """Return the worst value of each objective among the points, times 1.1; shape (objectives,).

    Hypervolumes compare only at one shared reference point, so give the union of the fronts to be
    compared. The factor lets a front's end points count, too.
    """
    return np.asarray(np.nanmax(np.asarray(points, dtype=float), axis=0) * REFERENCE_FACTOR)


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the volume between points and reference point, all objectives minimised.

    Points with a NaN, and what lies beyond the reference, count for nothing.
    """
    values = np.asarray(points, dtype=float)
    values = values[~np.isnan(values).any(axis=1)] if len(values) else values
    return float(moocore.hypervolume(values, ref=reference)) if len(values) else 0.0
