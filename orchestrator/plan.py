"""What a study would do, and everything that can be refused before it does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from cost_models.latency_table import LatencyTable
from orchestrator import sweep
from orchestrator.config import StudyConfig, nearest
from orchestrator.latencies import TABLE
from orchestrator.measuring import measurable_blocks
from orchestrator.publish import reference_predictions
from search_spaces.base import SearchSpace
from workers.costs import TABLE_COST
from workers.datasets import DATASETS
from workers.datasets.splits import draw_classes
from workers.distillation import check_teacher
from workers.errors import InputError
from workers.executors.work import Resources
from workers.inputs import check_augmentation, check_output
from workers.methods import METHODS
from workers.protocol import Method
from workers.storage import Storage, joined
from workers.trial import build_space, fitted_space

FITTED = ("in_shape", "num_classes")
"""Options of a space that the data set decides."""


def checked(config: StudyConfig, directory: str | None = None) -> StudyConfig:
    """Return the study as it will run, its space fitted to the data; nothing is started or written.

    Relative folders and files become absolute. `directory` is the study's own: a latency table
    that it holds already is not looked for again.

    Raises:
        InputError: names the key, what was given and what is allowed.
        FileNotFoundError: the data set's files are absent; names them and the remedy.
    """
    config.component("method")
    config.component("dataset")
    config.component("space")
    config = dataclasses.replace(config, space=_fitted_space(config))
    config.component("space")  # again: what the data set's samples do not allow
    with _named("space: "):
        space = build_space(config.as_dict())
    _check_samples(config, space)
    _check_method(config, space)
    _check_baselines(config, space)
    if config.proxy.classes is not None and config.proxy.classes < 1:
        with _named(""):
            draw_classes(space.num_classes, config.proxy.classes, config.seed)
    if config.training.teacher is not None:
        with _named(""):
            check_teacher(config.training.teacher, space)
    held = directory is not None and Storage(directory).exists(TABLE)
    if config.latency.table is not None and not held:
        _check_table(config.latency.table, space)
    elif config.cost == TABLE_COST and not held:
        measurable_blocks(space)
    if config.reference is not None:
        reference_predictions(config)
    return _absolute(config)


def plan_lines(config: StudyConfig, folder: str) -> list[str]:
    """Return the plan for people: stages, trials and what they ask for."""
    space = build_space(config.as_dict())
    search, asked = config.search, config.resources
    trials = len(sweep.grid(config)) if search.sampler == "grid" else search.num_trials
    method = METHODS[config.method["name"]]
    measured = "nothing: the cost needs no latencies"
    if config.cost == TABLE_COST and config.latency.table is not None:
        measured = config.latency.table
    elif config.cost == TABLE_COST:
        measured = f"{len(measurable_blocks(space))} blocks, {config.latency.backend}"
    workers = f"{asked.workers} worker(s) x {_each(asked, asked.workers)}"
    trial = f"{asked.trial_workers} x {_each(asked, asked.trial_workers)}"
    over = ", ".join(method.fused_over)
    fused = [f"fuse       candidates that differ in {over} alone, together"] if method.fuse else []
    return [
        f"study      {config.study}: {config.method['name']} on {config.dataset['name']}",
        f"space      {config.space['name']}: {Decimal(space.size()):.3g} architectures",
        f"directory  {folder}",
        f"measure    {measured}",
        f"pretrain   {workers if method.pretrain else 'nothing'}",
        f"search     {trials} trial(s) ({search.sampler}) of {trial}",
        f"select     {'all' if config.finish == 'all' else 'best'}",
        f"finish     {_finish(config)}; baselines: {list(config.baselines)}",
        *fused,
        f"report     {joined(folder, 'report.html')}, MLflow",
    ]


def _finish(config: StudyConfig) -> str:
    """Return how long candidates that are chosen by themselves train."""
    if config.finish == "none":
        return "no candidate"
    fresh, inherited = config.training.epochs, config.training.inherited_epochs
    if inherited is None:
        return f"{fresh} epochs each"
    return f"{inherited} epochs each with weights of the search, {fresh} without"


def _each(resources: Resources, together: int) -> str:
    asked = resources.per_worker(together)
    return f"({asked['CPU']:g} CPU, {asked.get('GPU', 0):g} GPU)"


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Turn the refusal of a lower floor into one that names the key in the study's file."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"{key}{error}") from error


def _fitted_space(config: StudyConfig) -> dict[str, Any]:
    """Return the space with the shape and the classes of the data, which it may not contradict."""
    free = {key: value for key, value in config.space.items() if key not in FITTED}
    try:
        fitted = fitted_space({**config.as_dict(), "space": free})
    except ValueError as error:
        raise InputError(str(error)) from error
    for key in FITTED:
        given = config.space.get(key)
        if given not in (None, fitted[key]):
            raise InputError(
                f"space.{key}: {given} contradicts data set {config.dataset['name']}, which has"
                f" {fitted[key]}; leave it out"
            )
    return fitted


def _check_samples(config: StudyConfig, space: SearchSpace) -> None:
    """Refuse networks, augmentation and proxies that the data set's samples do not allow."""
    kind = DATASETS[config.dataset["name"]].kind
    with _named(""):
        check_output(space, kind)
    method = config.component("method")
    trainings = {"training": config.training, "method": method}
    for key in ("pretraining", "supernet"):
        trainings[f"method.{key}"] = getattr(method, key, None)
    for key, settings in trainings.items():
        if hasattr(settings, "augment"):
            with _named(f"{key}."):
                check_augmentation(settings.augment, kind)
    if kind == "label_maps" and (config.proxy.classes or 1) < 1:
        raise InputError("proxy.classes: every map of labels holds many; allowed: proxy.images")


def _check_method(config: StudyConfig, space: SearchSpace) -> None:
    points = sweep.check_sweep(config)
    method = METHODS[config.method["name"]]
    if method.check is not None:
        with _named(""):
            method.check(space, config.component("method"), points, config.cost)
    if config.resources.sharding == "fsdp":
        _check_parts(method, config.resources.trial_workers)


def _check_parts(method: Method, trial_workers: int) -> None:
    """Refuse to hold networks in parts that the method can only train as a whole."""
    for stage, why in method.not_in_parts.items():
        if stage == "pretrain":
            raise InputError(f"resources.sharding: fsdp; {method.name} allows ddp, since {why}")
        if trial_workers > 1:
            raise InputError(
                f"resources.trial_workers: {trial_workers}; with sharding fsdp, {method.name}"
                f" allows 1, since {why}"
            )


def _check_baselines(config: StudyConfig, space: SearchSpace) -> None:
    for preset in config.baselines:
        if preset not in space.presets:
            known = sorted(space.presets)
            raise InputError(
                f"baselines: {preset!r} is unknown{nearest(preset, known)}; allowed: {known}"
            )


def _absolute(config: StudyConfig) -> StudyConfig:
    """Return the study as it can be resumed from any folder."""
    latency, training, reference = config.latency, config.training, config.reference
    if latency.table is not None:
        latency = dataclasses.replace(latency, table=str(Path(latency.table).absolute()))
    teacher = training.teacher
    if teacher is not None and teacher.folder is not None:
        teacher = dataclasses.replace(teacher, network=str(teacher.folder.absolute()))
        training = dataclasses.replace(training, teacher=teacher)
    if reference is not None and "://" not in reference:
        reference = str(Path(reference).absolute())
    return dataclasses.replace(config, latency=latency, training=training, reference=reference)


def _check_table(path: str, space: SearchSpace) -> None:
    try:
        table = LatencyTable.read(Path(path))
        for block in space.all_blocks():
            table.latency_us(block.key)
    except (OSError, ValueError) as error:
        raise InputError(f"latency.table: {path}: {error}") from error
