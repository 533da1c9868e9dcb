"""From a sweep to points: grids as they stand, random and Optuna samplers in fixed batches.

`next_batch` depends on the study and on the points and results so far alone, so an interrupted
study goes on with the points that it would have had.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from orchestrator.config import StudyConfig, nearest
from workers.errors import InputError
from workers.methods import METHODS
from workers.protocol import seeded

Point = dict[str, Any]
Objectives = tuple[float, float]
"""Error and cost of a point's best candidate, both to be minimised."""


def next_batch(
    config: StudyConfig, points: Sequence[Point], results: Sequence[Objectives | None]
) -> list[Point]:
    """Return the points that follow, or [] at the end.

    Args:
        config: the study.
        points: those so far.
        results: one for each of them, in order; None: failed.
    """
    search = config.search
    if search.sampler == "grid":
        return [] if points else grid(config)
    assert search.num_trials is not None
    left = search.num_trials - len(points)
    batch = left if search.sampler == "random" else min(search.batch, left)
    if batch <= 0:
        return []
    study, distributions = _told(config, points, results), _distributions(config)
    return [dict(study.ask(distributions).params) for _ in range(batch)]


def grid(config: StudyConfig) -> list[Point]:
    """Return `points_to_evaluate`, then the product of every mapping's lists, without repetition.

    An empty sweep is one point. Nothing is drawn. An axis that says `auto` gets the values that
    the method makes for the point.
    """
    sweeps = config.sweep if isinstance(config.sweep, tuple) else (config.sweep,)
    points: list[Point] = [dict(point) for point in config.search.points_to_evaluate]
    for sweep in sweeps:
        axes = {key: value if isinstance(value, list) else [value] for key, value in sweep.items()}
        for values in itertools.product(*axes.values()):
            for point in _with_auto(config, dict(zip(axes, values, strict=True))):
                if point not in points:
                    points.append(point)
    return points


def _with_auto(config: StudyConfig, point: Point) -> list[Point]:
    """Return the point once for every value of its axes that say `auto`."""
    points = [point]
    for axis, values_of in METHODS[config.method["name"]].auto.items():
        if point.get(axis) == "auto":
            try:
                values = values_of({**config.method, **point})
            except ValueError as error:
                raise InputError(f"sweep.{error}") from error
            points = [{**known, axis: value} for known in points for value in values]
    return points


def check_sweep(config: StudyConfig) -> list[Any]:
    """Return the method's settings at every point, or, for samplers, at the ends of every axis.

    Other axes are at their first end then.

    Raises:
        InputError: the method does not take an axis or a value, or the sampler never asks for a
            given point; names the axis, what was given and what is allowed.
    """
    first: Point = {}
    if config.search.sampler == "grid":
        for sweep in config.sweep if isinstance(config.sweep, tuple) else (config.sweep,):
            _check_lists(sweep)
        points = grid(config)
    else:
        distributions = _distributions(config)
        for index, point in enumerate(config.search.points_to_evaluate):
            _check_offered(point, distributions, f"search.points_to_evaluate.{index}")
        ends = {axis: _extremes(distribution) for axis, distribution in distributions.items()}
        first = {axis: values[0] for axis, values in ends.items()}
        points = [first, *({**first, axis: end} for axis in ends for end in ends[axis][1:])]
    given = [
        _settings(config, {**first, **point}, f"search.points_to_evaluate.{index}")
        for index, point in enumerate(config.search.points_to_evaluate)
    ]
    return given + [_settings(config, point, "sweep") for point in points]


def _check_offered(
    point: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], where: str
) -> None:
    """Refuse a point that the sampler would change, or take in spite of the sweep."""
    for axis, value in point.items():
        if axis not in distributions:
            known = sorted(distributions)
            raise InputError(
                f"{where}.{axis}: not swept{nearest(axis, known)}; axes of the sweep: {known}"
            )
        offered = {axis: distributions[axis]}
        try:
            optuna.trial.create_trial(params={axis: value}, distributions=offered, values=[0, 0])
        except ValueError as error:
            raise InputError(
                f"{where}.{axis}: {value!r} is not in the sweep; allowed: {offered[axis]}"
            ) from error


def _check_lists(sweep: Mapping[str, Any]) -> None:
    for axis, values in sweep.items():
        if isinstance(values, dict):
            raise InputError(
                f"sweep.{axis}: a range needs search.sampler random or optuna; a grid takes lists"
            )
        if values == []:
            raise InputError(f"sweep.{axis}: the list is empty")


def _settings(config: StudyConfig, point: Mapping[str, Any], where: str) -> Any:
    settings = {axis: value for axis, value in point.items() if axis != "seed"}
    seed = point.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"{where}.seed: expected a non-negative integer, got {seed!r}")
    if "name" in settings:
        raise InputError(f"{where}.name: the method cannot be swept; make a second study")
    try:
        return config.component("method", settings)
    except InputError as error:
        raise InputError(str(error).replace("method.", f"{where}.", 1)) from error


def _told(
    config: StudyConfig, points: Sequence[Point], results: Sequence[Objectives | None]
) -> optuna.Study:
    """Return an Optuna study that knows the points so far, and is to begin with the given ones."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = _sampler(config, len(points))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    distributions = _distributions(config)
    for point, values in zip(points, results, strict=True):
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(
                state=state, params=point, distributions=distributions, values=values
            )
        )
    for point in config.search.points_to_evaluate[len(points) :]:
        study.enqueue_trial(point)
    return study


def _sampler(config: StudyConfig, num_points: int) -> optuna.samplers.BaseSampler:
    seed = seeded(config.seed, "sweep", num_points).getrandbits(32)
    if config.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():
        # Without it, the points of one batch would crowd where the last batch was best.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _distributions(config: StudyConfig) -> dict[str, BaseDistribution]:
    if isinstance(config.sweep, tuple):
        raise InputError(
            f"sweep: a list of grids needs search.sampler grid, not {config.search.sampler!r}"
        )
    types = get_type_hints(METHODS[config.method["name"]].Config)
    real = {name.rstrip("_") for name, kind in types.items() if float in (kind, *get_args(kind))}
    return {axis: _distribution(axis, given, axis in real) for axis, given in config.sweep.items()}


def _distribution(axis: str, given: Any, real: bool) -> BaseDistribution:
    if not isinstance(given, dict):
        _check_lists({axis: given})
        return CategoricalDistribution(given if isinstance(given, list) else [given])
    unknown = sorted(set(given) - {"low", "high", "log", "step"})
    if unknown or not {"low", "high"} <= set(given):
        raise InputError(f"sweep.{axis}: a range has low, high and maybe log or step, got {given}")
    whole = not real and all(isinstance(given[end], int) for end in ("low", "high"))
    kind = IntDistribution if whole else FloatDistribution
    try:
        return kind(**given)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise InputError(f"sweep.{axis}: {error}") from error


def _extremes(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)
