"""A sweep's points depend on the study and on the results so far alone."""

import dataclasses
from typing import Any

import pytest

from orchestrator import sweep
from orchestrator.config import Search, StudyConfig, load_config
from workers.errors import InputError


def study(**changes: Any) -> StudyConfig:
    return dataclasses.replace(load_config("prunet_digits"), **changes)


def run(config: StudyConfig) -> list[sweep.Point]:
    """Play a whole sweep with results that depend on the point."""
    points: list[sweep.Point] = []
    while batch := sweep.next_batch(config, points, [_result(point) for point in points]):
        points += batch
    return points


def _result(point: sweep.Point) -> sweep.Objectives:
    return (abs(point.get("alpha", 0.0) - 0.5), point.get("lambda", 0.5))


def test_grid_joins_mappings_and_keeps_first_occurrences() -> None:
    config = study(
        sweep=({"alpha": [1, 2], "phi": [1.1]}, {"alpha": [2, 3], "phi": [1.1]}),
        search=Search(points_to_evaluate=({"alpha": 9},)),
    )
    assert run(config) == [
        {"alpha": 9},
        {"alpha": 1, "phi": 1.1},
        {"alpha": 2, "phi": 1.1},
        {"alpha": 3, "phi": 1.1},
    ]


def test_an_empty_sweep_is_one_point() -> None:
    assert run(study(sweep={})) == [{}]


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_samplers_repeat_and_start_with_the_given_points(sampler: Any) -> None:
    first = {"alpha": 0.25, "lambda": 0.4}
    config = study(
        sweep={"alpha": {"low": 0.1, "high": 2.0, "log": True}, "lambda": [0.4, 0.55, 0.85]},
        search=Search(sampler=sampler, num_trials=10, batch=3, points_to_evaluate=(first,)),
    )
    points = run(config)
    assert len(points) == 10
    assert points[0] == first
    assert points == run(config)
    assert all(0.1 <= point["alpha"] <= 2.0 for point in points)
    assert points[1:] != run(dataclasses.replace(config, seed=1))[1:]


def test_whole_ends_do_not_make_a_number_whole() -> None:
    config = study(
        sweep={axis: {"low": 0, "high": 2} for axis in ("alpha", "lambda", "seed")},
        search=Search(sampler="random", num_trials=8),
    )
    points = run(config)
    assert all(isinstance(point["seed"], int) for point in points)
    assert len({point["alpha"] for point in points}) == 8
    assert len({point["lambda"] for point in points}) == 8


def test_optuna_uses_what_it_was_told() -> None:
    config = study(
        sweep={"alpha": {"low": 0.1, "high": 2.0}},
        search=Search(sampler="optuna", num_trials=16, batch=4),
    )
    points = run(config)[:12]
    told = [(point["alpha"], point["alpha"]) for point in points]
    other = [(-value, -value) for value, _ in told]
    assert sweep.next_batch(config, points, told) != sweep.next_batch(config, points, other)


def test_failed_points_are_told_as_failed() -> None:
    config = study(
        sweep={"alpha": {"low": 0.1, "high": 2.0}},
        search=Search(sampler="optuna", num_trials=8, batch=4),
    )
    points = sweep.next_batch(config, [], [])
    assert len(sweep.next_batch(config, points, [None, None, (0.1, 1.0), None])) == 4


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"low": 1}, "a range has low, high"),
        ({"low": 2.0, "high": 1.0}, r"sweep\.alpha: .*low.* high"),
        ({"low": 1, "high": 3, "step": 0}, r"sweep\.alpha: "),
        ([], r"sweep\.alpha: the list is empty"),
        ({"low": -1.0, "high": 1.0}, r"sweep\.alpha: -1\.0 is not allowed; allowed: 0 or above"),
    ],
)
def test_impossible_ranges_are_refused(axis: Any, message: str) -> None:
    config = study(sweep={"alpha": axis}, search=Search(sampler="random", num_trials=2))
    with pytest.raises(InputError, match=message):
        sweep.check_sweep(config)


def test_a_list_of_grids_needs_the_grid() -> None:
    config = study(sweep=({"alpha": [1]},), search=Search(sampler="random", num_trials=2))
    with pytest.raises(InputError, match=r"a list of grids needs search\.sampler grid"):
        sweep.check_sweep(config)


def test_settings_that_go_together_are_checked_together() -> None:
    """A sampler's point has a value on every axis: a lambda comes with a budget."""
    lambdas = {"low": 1e-6, "high": 1e-4}
    search = Search(sampler="random", num_trials=2, points_to_evaluate=({"lambda": 1e-5},))
    digits = dataclasses.replace(load_config("budgeted_digits"), search=search)
    config = dataclasses.replace(digits, sweep={"budget": [7e4, 2e5], "lambda": lambdas})
    points = {(point.budget, point.lambda_) for point in sweep.check_sweep(config)}
    assert points == {(7e4, 1e-5), (7e4, 1e-6), (7e4, 1e-4), (2e5, 1e-6)}


def test_auto_is_for_grids() -> None:
    digits = load_config("budgeted_digits")
    random = dataclasses.replace(digits, search=Search(sampler="random", num_trials=2))
    given = dataclasses.replace(
        digits, search=Search(points_to_evaluate=({"budget": 7e4, "lambda": "auto"},))
    )
    allowed = r"auto makes a list of values; allowed in `sweep` alone, with search\.sampler grid$"
    for config, key in ((random, r"sweep"), (given, r"search\.points_to_evaluate\.0")):
        with pytest.raises(InputError, match=rf"^{key}\.lambda: {allowed}"):
            sweep.check_sweep(config)
    with pytest.raises(InputError, match=rf"^method\.lambda: {allowed}"):
        load_config("budgeted_digits", ["method.lambda=auto"])
    grid = load_config("budgeted_digits", ["sweep={lambda: [auto]}", "method.budget=2e2"])
    assert [point["lambda"] for point in sweep.grid(grid)] == [1e-3, 3.16e-3, 1e-2, 3.16e-2, 0.1]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"alpha": 3.0}, r"points_to_evaluate\.0\.alpha: 3\.0 is not in the sweep; .*high=2\.0"),
        ({"lambda": 0.5}, r"points_to_evaluate\.0\.lambda: 0\.5 is not in the sweep; .*0\.4"),
        ({"phi": 1.0}, r"points_to_evaluate\.0\.phi: not swept; axes of the sweep: .'alpha'"),
    ],
)
@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_points_that_a_sampler_never_asks_for_are_refused(
    sampler: Any, point: dict[str, float], message: str
) -> None:
    config = study(
        sweep={"alpha": {"low": 0.1, "high": 2.0}, "lambda": [0.4, 0.55]},
        search=Search(sampler=sampler, num_trials=2, points_to_evaluate=(point,)),
    )
    with pytest.raises(InputError, match=message):
        sweep.check_sweep(config)
