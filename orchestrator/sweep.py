"""From a sweep to points: grids as they stand, random and Optuna samplers in fixed batches.

`next_batch` depends on the study and on the results so far alone, so an interrupted study goes on
with the points that it would have had.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from orchestrator.config import InputError, StudyConfig

Point = dict[str, Any]
Objectives = tuple[float, float]
"""Error and cost of a point's best candidate, both to be minimised."""


def next_batch(config: StudyConfig, results: Sequence[Objectives | None]) -> list[Point]:
    """Return the points that follow those with results (None: failed), or [] at the end.

    Args:
        config: the study.
        results: one entry for each point so far, in order.
    """
    search = config.search
    if search.sampler == "grid":
        return [] if results else grid(config)
    assert search.num_trials is not None
    left = search.num_trials - len(results)
    batch = left if search.sampler == "random" else min(search.batch, left)
    study = _replayed(config, results)
    return [dict(trial.params) for trial in _asked(study, config, batch)] if batch > 0 else []


def grid(config: StudyConfig) -> list[Point]:
    """Return `points_to_evaluate`, then the product of every mapping's lists, without repetition.

    An empty sweep is one point. Nothing is drawn.
    """
    sweeps = config.sweep if isinstance(config.sweep, tuple) else (config.sweep,)
    points: list[Point] = [dict(point) for point in config.search.points_to_evaluate]
    for sweep in sweeps:
        axes = {key: value if isinstance(value, list) else [value] for key, value in sweep.items()}
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            if point not in points:
                points.append(point)
    return points


def check_sweep(config: StudyConfig) -> None:
    """Refuse a sweep whose axes or values the method does not take.

    Raises:
        InputError: names the axis, what was given and what is allowed.
    """
    for index, point in enumerate(config.search.points_to_evaluate):
        _check_point(config, point, f"search.points_to_evaluate.{index}")
    if config.search.sampler == "grid":
        for sweep in config.sweep if isinstance(config.sweep, tuple) else (config.sweep,):
            _check_lists(sweep)
        for point in grid(config):
            _check_point(config, point, "sweep")
        return
    for axis, distribution in _distributions(config).items():
        for value in _extremes(distribution):
            _check_point(config, {axis: value}, "sweep")


def _check_lists(sweep: Mapping[str, Any]) -> None:
    for axis, values in sweep.items():
        if isinstance(values, dict):
            raise InputError(
                f"sweep.{axis}: a range needs search.sampler random or optuna; a grid takes lists"
            )
        if values == []:
            raise InputError(f"sweep.{axis}: the list is empty")


def _check_point(config: StudyConfig, point: Mapping[str, Any], where: str) -> None:
    settings = {axis: value for axis, value in point.items() if axis != "seed"}
    seed = point.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"{where}.seed: expected a non-negative integer, got {seed!r}")
    if "name" in settings:
        raise InputError(f"{where}.name: the method cannot be swept; make a second study")
    try:
        config.component("method", settings)
    except InputError as error:
        raise InputError(str(error).replace("method.", f"{where}.", 1)) from error


def _replayed(config: StudyConfig, results: Sequence[Objectives | None]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=_sampler(config))
    for point in config.search.points_to_evaluate:
        study.enqueue_trial(point)
    size = config.search.batch if config.search.sampler == "optuna" else len(results) or 1
    for start in range(0, len(results), size):
        told = results[start : start + size]
        for trial, values in zip(_asked(study, config, len(told)), told, strict=True):
            if values is None:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, values)
    return study


def _sampler(config: StudyConfig) -> optuna.samplers.BaseSampler:
    if config.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=config.seed)
    with warnings.catch_warnings():
        # Without it, the points of one batch would crowd where the last batch was best.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=config.seed, constant_liar=True)


def _asked(study: optuna.Study, config: StudyConfig, count: int) -> list[optuna.trial.Trial]:
    distributions = _distributions(config)
    return [study.ask(distributions) for _ in range(count)]


def _distributions(config: StudyConfig) -> dict[str, BaseDistribution]:
    if isinstance(config.sweep, tuple):
        raise InputError(
            f"sweep: a list of grids needs search.sampler grid, not {config.search.sampler!r}"
        )
    return {axis: _distribution(axis, given) for axis, given in config.sweep.items()}


def _distribution(axis: str, given: Any) -> BaseDistribution:
    if not isinstance(given, dict):
        return CategoricalDistribution(given if isinstance(given, list) else [given])
    unknown = sorted(set(given) - {"low", "high", "log", "step"})
    if unknown or not {"low", "high"} <= set(given):
        raise InputError(f"sweep.{axis}: a range has low, high and maybe log or step, got {given}")
    whole = all(isinstance(given[end], int) for end in ("low", "high"))
    kind = IntDistribution if whole else FloatDistribution
    try:
        return kind(**given)
    except (ValueError, TypeError) as error:
        raise InputError(f"sweep.{axis}: {error}") from error


def _extremes(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)
