"""What an architecture costs: the answers of `paretoray cost`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cost_models import COST_MODELS, CostModel, distributed_model
from cost_models.distributed import Schedule
from cost_models.latency_table import LatencyTable, MissingBlockError
from cost_models.network_latency import Delay, network_latency
from orchestrator.config import nearest
from search_spaces.base import Architecture, Layer, SearchSpace, digest
from workers.errors import InputError

LAYER_FIELDS = ("name", "kind", "module", "in_shape", "out_shape", "kernel_size", "stride")

Json = dict[str, Any]


def find_architecture(space: SearchSpace, text: str) -> Architecture:
    """Return the canonical form of a preset, by name, or of an architecture, as JSON.

    Raises:
        InputError: it is neither, or an architecture that the space does not hold.
    """
    if text in space.presets:
        return space.canonical(space.presets[text])
    architecture = _parsed(space, text)
    if space.choices and not architecture:
        raise InputError(f"--arch: {text} is no network: its edges make no path")
    return architecture


def _parsed(space: SearchSpace, text: str) -> Architecture:
    known = sorted(space.presets)
    if not text.lstrip().startswith("{"):
        raise InputError(
            f"--arch: {text!r} is unknown{nearest(text, known)};"
            f" allowed: {', '.join(known)}, or an architecture as JSON"
        )
    try:
        return space.canonical(json.loads(text))
    except json.JSONDecodeError as error:
        raise InputError(f"--arch: not JSON: {error}") from error
    except ValueError as error:
        raise InputError(f"--arch: {error}") from error


def machine_counts(text: str) -> list[int]:
    """Return the numbers of machines in a text such as "1,2,4".

    Raises:
        InputError: the numbers are none, or a network cannot be distributed over so many.
    """
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InputError(f"--machines: {text!r}; allowed: numbers of at least 1, as in 1,2,4")
    return counts


def chosen_models(counts: Sequence[int]) -> dict[str, CostModel]:
    """Return the cost models by name, `distributed` for these numbers of machines."""
    models = {name: m for name, m in COST_MODELS.items() if not name.startswith("distributed_")}
    return models | {model.name: model for model in map(distributed_model, counts)}


def cost_json(
    space: SearchSpace,
    architecture: Architecture,
    models: Mapping[str, CostModel],
    table: LatencyTable | None,
) -> Json:
    """Return every cost of an architecture by its model's name; latency is null without a table.

    Raises:
        InputError: the table lacks a block of the network.
    """
    layers = space.layers(architecture)
    try:
        latency_ms = table and table.network_ms(space.blocks(architecture))
    except MissingBlockError as error:
        raise InputError(f"--table: {error}") from error
    return {
        "architecture": architecture,
        "digest": digest(space, architecture),
        **{name: model.function(layers) for name, model in models.items()},
        "latency_ms": latency_ms,
    }


def mean_network_latency(
    layers: Sequence[Layer], schedule: Schedule, jitter_ms: float | None
) -> float | None:
    """Return a network's mean latency (ms) when messages between machines are delayed at random.

    Every delay is exponential, with mean `jitter_ms`; without one the latency is unknown.

    Raises:
        InputError: no delay has such a mean.
    """
    if jitter_ms is None:
        return None
    try:
        delay = Delay(jitter_ms=jitter_ms)
    except ValueError as error:
        raise InputError(f"--jitter-ms: {error}") from error
    latency = network_latency(layers, schedule, delay=delay)
    return latency.mean(np.random.default_rng(0))


def layer_rows(layers: Sequence[Layer], models: Mapping[str, CostModel]) -> list[Json]:
    """Return a row for each layer with what it adds to the costs that add up."""
    additive = [model for model in models.values() if model.additive]
    return [
        {
            **{name: getattr(layer, name) for name in LAYER_FIELDS},
            **{model.name: model.function([layer]) for model in additive},
        }
        for layer in layers
    ]


def read_table(path: Path) -> LatencyTable:
    """Return the latency table in a file.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        return LatencyTable.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"--table: {error}") from error
