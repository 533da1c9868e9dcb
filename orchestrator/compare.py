"""What `paretoray front` and `paretoray compare` say about studies, as JSON values."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from orchestrator.loading import Classes, Study
from orchestrator.pareto import Points, hypervolume, objectives, reference_point
from orchestrator.results import Record
from workers.metrics import negative_flip_matrix

Json = dict[str, Any]
MOST_COMPARED = 100  # models of a study that is not loaded as a whole
_SHOWN = (
    "architecture",
    "digest",
    "preset",
    "on_front",
    "val_accuracy",
    "test_accuracy",
    "val_mean_iou",
    "test_mean_iou",
    "macs",
    "num_params",
    "weight_bytes",
    "peak_memory_bytes",
    "latency_ms",
    "latency_measured_ms",
    "cost",
    "cost_name",
    "nfr",
    "positive_flip_rate",
    "nfr_reference",
    "search_loss",
)


def front_json(study: Study) -> Json:
    """Return a study's finished candidates, cheapest first; `on_front` marks the Pareto front.

    Objectives are minimised; `error` is 1 - val_accuracy. Accuracies and rates are fractions.
    `left_out`, if there, counts the finished candidates that are not among them.
    """
    left_out = study.left_out.get("finished", 0)
    return {
        "study": study.name,
        "method": study.config["method"]["name"],
        "directory": study.directory,
        "objectives": ["error", study.cost_name],
        "candidates": [_candidate(record) for record in study.finished()],
        **({"left_out": left_out} if left_out else {}),
    }


def compare(studies: Sequence[Study]) -> Json:
    """Set studies of one data set and one cost side by side.

    Returns:
        `reference`, the shared reference point (1.1 times the worst error and cost of all fronts);
        `studies`, each front's hypervolume there; `dominance`, for every ordered pair of studies
        which front points dominate which of the other's; `flips`, the negative flip rate on the
        validation split when the model of a row is replaced by that of a column, null where the
        two have no predictions on the same samples; of a study that is not loaded as a whole, the
        models are its front, evenly chosen where that is long.

    Raises:
        ValueError: the studies differ in data set or cost, or none has a front.
    """
    costs = _shared("cost", studies, [study.cost_name for study in studies])
    _shared("dataset", studies, [study.config["dataset"]["name"] for study in studies])
    fronts = [objectives(study.front()) for study in studies]
    union = np.concatenate(fronts)
    if not len(union):
        raise ValueError(
            f"{studies[0].directory}: no study here has a front yet; nothing to compare"
        )
    reference = reference_point(union)
    return {
        "objectives": ["error", costs],
        "reference": reference.tolist(),
        "studies": [
            _summary(study, front, reference) for study, front in zip(studies, fronts, strict=True)
        ],
        "dominance": [
            _dominance(studies[a], studies[b], fronts[a], fronts[b])
            for a, b in permutations(range(len(studies)), 2)
        ],
        "flips": _flips(studies),
    }


def _candidate(record: Record) -> Json:
    params = {**record["params"], "seed": record["seed"]}
    return {"id": record["candidate"], **{key: record[key] for key in _SHOWN}, "params": params}


def _shared(key: str, studies: Sequence[Study], values: Sequence[str]) -> str:
    for study, value in zip(studies, values, strict=True):
        if value != values[0]:
            raise ValueError(
                f"{study.directory}: {key} is {value!r}, but {values[0]!r} in"
                f" {studies[0].directory}; only studies that agree in it can be compared"
            )
    return values[0]


def _summary(study: Study, front: Points, reference: Points) -> Json:
    return {
        "study": study.name,
        "method": study.config["method"]["name"],
        "directory": study.directory,
        "front_size": len(front),
        "hypervolume": hypervolume(front, reference),
    }


def _dominance(study: Study, other: Study, front: Points, other_front: Points) -> Json:
    names = [record["candidate"] for record in study.front()]
    other_names = [record["candidate"] for record in other.front()]
    dominates = {}
    for name, point in zip(names, front, strict=True):
        no_worse = (point <= other_front).all(axis=1)
        beaten = np.flatnonzero(no_worse & (point < other_front).any(axis=1))
        if len(beaten):
            dominates[name] = [other_names[index] for index in beaten]
    return {"directory": study.directory, "other": other.directory, "dominates": dominates}


def _flips(studies: Sequence[Study]) -> Json:
    models: list[Json] = []
    predicted: list[Classes] = []
    labelled: dict[bytes, tuple[Classes, list[int]]] = {}  # models by the samples they saw
    for study in studies:
        labels, known = study.labels(), study.predicted()
        for name in _compared(study, known):
            if labels is not None:
                labelled.setdefault(labels.tobytes(), (labels, []))[1].append(len(models))
            models.append({"directory": study.directory, "candidate": name})
            predicted.append(known[name])
    rates: list[list[float | None]] = [[None] * len(models) for _ in models]
    for labels, places in labelled.values():
        matrix = negative_flip_matrix(np.stack([predicted[i] for i in places]), labels)
        for row, old in enumerate(places):
            for column, new in enumerate(places):
                rates[old][new] = float(matrix[row, column])
    return {"models": models, "nfr": rates}


def _compared(study: Study, known: Container[str]) -> list[str]:
    """Return the models to set against others: all finished, or of a sample its front, evenly."""
    records = study.front() if study.left_out else study.finished()
    names = [record["candidate"] for record in records if record["candidate"] in known]
    if not study.left_out or len(names) <= MOST_COMPARED:
        return names
    return [
        names[place * (len(names) - 1) // (MOST_COMPARED - 1)] for place in range(MOST_COMPARED)
    ]
