"""What a study would do, and everything that can be refused before it does it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cost_models.latency_table import LatencyTable
from orchestrator import sweep
from orchestrator.config import InputError, StudyConfig, nearest
from orchestrator.publish import reference_predictions
from search_spaces.base import SearchSpace
from workers.methods import METHODS
from workers.trial import build_space, fitted_space


def checked(config: StudyConfig) -> StudyConfig:
    """Return the study as it will run, its space fitted to the data; nothing is started or written.

    Raises:
        InputError: names the key, what was given and what is allowed.
        FileNotFoundError: the data set's files are absent; names them and the remedy.
    """
    config.component("method")
    config.component("dataset")
    config.component("space")
    config = dataclasses.replace(config, space=fitted_space(config.as_dict()))
    try:
        space = build_space(config.as_dict())
    except ValueError as error:
        raise InputError(f"space: {error}") from error
    sweep.check_sweep(config)
    for preset in config.baselines:
        if preset not in space.presets:
            known = sorted(space.presets)
            raise InputError(
                f"baselines: {preset!r} is unknown{nearest(preset, known)}; allowed: {known}"
            )
    if config.latency.table is not None:
        _check_table(config.latency.table, space)
    if config.reference is not None:
        reference_predictions(config)
    return config


def plan_lines(config: StudyConfig, folder: str) -> list[str]:
    """Return the plan for people: stages, trials and what they ask for."""
    space = build_space(config.as_dict())
    search, asked = config.search, config.resources
    trials = len(sweep.grid(config)) if search.sampler == "grid" else search.num_trials
    blocks = len(list(space.all_blocks()))
    method = METHODS[config.method["name"]]
    each = f"{asked.cpus_per_worker} CPU, {asked.gpus_per_worker:g} GPU"
    table = config.latency.table or f"{blocks} blocks, {config.latency.backend}"
    measured = table if config.cost == "latency_ms" else "nothing: the cost needs no latencies"
    pretrained = f"{asked.workers} worker(s) x ({each})" if method.pretrain else "nothing"
    return [
        f"study      {config.study}: {config.method['name']} on {config.dataset['name']}",
        f"space      {config.space['name']}: {space.size():.3g} architectures",
        f"directory  {folder}",
        f"measure    {measured}",
        f"pretrain   {pretrained}",
        f"search     {trials} trial(s) ({search.sampler}) of {asked.trial_workers} x ({each})",
        f"select     {config.finish}",
        f"finish     {config.training.epochs} epochs each; baselines: {list(config.baselines)}",
        f"report     {folder}/report.html, MLflow",
    ]


def _check_table(path: str, space: SearchSpace) -> None:
    try:
        table = LatencyTable.read(Path(path))
        for block in space.all_blocks():
            table.latency_us(block.key)
    except (OSError, ValueError) as error:
        raise InputError(f"latency.table: {path}: {error}") from error
