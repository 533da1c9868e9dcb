"""Fronts and hypervolumes against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.pareto import hypervolume, objectives, pareto_front, reference_point

POINTS = st.lists(st.tuples(*[st.integers(0, 6)] * 2), min_size=1, max_size=12)


def test_error_and_cost_are_what_is_minimised() -> None:
    records = [{"val_accuracy": 0.9, "cost": 3.0}, {"val_accuracy": None, "cost": 1.0}]
    points = objectives(records)
    assert points[0] == pytest.approx([0.1, 3.0])
    assert np.isnan(points[1, 0])
    assert pareto_front(points).tolist() == [True, False]
    assert objectives([]).shape == (0, 2)


def test_equal_points_are_kept_once_the_first() -> None:
    assert pareto_front([[1, 2], [2, 1], [1, 2], [2, 2]]).tolist() == [True, True, False, False]
    assert pareto_front([]).tolist() == []


def test_objectives_can_be_maximised() -> None:
    points = [[0.9, 3.0], [0.8, 1.0], [0.7, 2.0]]
    assert pareto_front(points, maximise=[True, False]).tolist() == [True, True, False]


@given(POINTS)
def test_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    for index, (point, kept) in enumerate(zip(points, pareto_front(points), strict=True)):
        beaten = any(
            all(a <= b for a, b in zip(other, point, strict=True)) and other != point
            for other in points
        )
        assert kept == (not beaten and point not in points[:index])


def test_hypervolume_of_two_boxes() -> None:
    # Up to (4, 4): 3 x 1 and 1 x 3 overlap in 1 x 1.
    assert hypervolume([[1, 3], [3, 1]], [4, 4]) == 3 + 3 - 1
    assert hypervolume([[5, 5]], [4, 4]) == 0
    assert hypervolume([], [4, 4]) == 0


@given(POINTS)
def test_hypervolume_counts_the_cells_that_are_dominated(points: list[tuple[int, int]]) -> None:
    cells = [(x, y) for x in range(7) for y in range(7)]
    covered = sum(any(px <= x and py <= y for px, py in points) for x, y in cells)
    assert hypervolume(points, [7, 7]) == covered


def test_the_reference_lies_beyond_every_point() -> None:
    union = [[0.2, 5.0], [0.1, 10.0]]
    assert reference_point(union) == pytest.approx([0.22, 11.0])
