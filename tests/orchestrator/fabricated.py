"""Fabricates a study directory that looks like a small PruNet study. Every number is invented."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import load
from orchestrator.results import Results
from search_spaces.gpunet import GPUNet
from workers.storage import Storage

ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 2.0)
CORRECTIONS = ((1.0, 1.0), (1.1, 0.85), (1.1, 0.55), (1.1, 0.4))
SPACE = GPUNet(GPUNet.Config(preset="gpunet_28"))
SAMPLES = 500
STUDY_YAML = """\
# Fabricated for tests
study: {study}
method: {{name: prunet, epochs: 12}}
space: {{name: gpunet, preset: gpunet_28}}
dataset: {{name: digits}}
cost: latency_ms
seed: {seed}
sweep:
  - {{alpha: [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 2.0], phi: [1.1], lambda: [0.85, 0.55, 0.4]}}
  - {{alpha: [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 2.0], phi: [1.0], lambda: [1.0]}}
finish: best
baselines: [gpunet1]
"""


def fabricate(
    directory: Path,
    study: str = "fabricated",
    seed: int = 0,
    lift: float = 0.0,
    alphas: Sequence[float] = ALPHAS,
) -> Path:
    """Write a study of 4 searched points per alpha; the best of each and a baseline are finished.

    `lift` is added to every validation accuracy, to set one study above another.
    """
    rng = random.Random(seed)
    storage = Storage(str(directory))
    results = Results(storage)
    storage.write_bytes("study.yaml", STUDY_YAML.format(study=study, seed=seed).encode())
    labels = {split: np.random.default_rng(7).integers(0, 10, SAMPLES) for split in ("val", "test")}
    for split, classes in labels.items():
        results.write_labels(dataset="digits", split=split, classes=classes)
    for alpha in alphas:
        found = [
            _searched(results, study, alpha, phi, lambda_, rng) for phi, lambda_ in CORRECTIONS
        ]
        best = min(found, key=lambda record: float(record["search_loss"]))
        for record in found:
            results.write_candidate(record)
        _finish(results, best, 0.985 - 0.016 * alpha**1.4 + lift + rng.gauss(0, 0.002), labels, rng)
    _finish(results, _baseline(study), 0.962, labels, rng)
    _decide_front(results, labels["val"])
    return directory


def _searched(
    results: Results, study: str, alpha: float, phi: float, lambda_: float, rng: random.Random
) -> dict[str, Any]:
    trial = f"a{alpha}-p{phi}-l{lambda_}".replace(".", "_")
    latency_ms = 0.09 / (0.25 + alpha) * (1.25 - 0.3 * lambda_) + rng.uniform(0, 0.004)
    loss = 0.25 + 0.9 * alpha * math.log(latency_ms * 1e3) ** 0.6 + rng.gauss(0, 0.01)
    architecture = _architecture(latency_ms, rng)
    seconds = rng.uniform(4, 6) * (1.2 - 0.1 * alpha)
    steps = [*_epochs(loss, latency_ms, rng), {"step": 1, "trial_s": seconds}]
    results.write_history(study=study, trial=trial, stage="search", steps=steps)
    return _record(study, trial, architecture, latency_ms) | {
        "params": {"alpha": alpha, "phi": phi, "lambda": lambda_, "seed": 0},
        "search_loss": loss,
        "val_accuracy": 0.9 - 0.05 * alpha,
        "search_wall_s": seconds,
        "wall_s": seconds,
        "num_irb": sum("hidden" in (option or {}) for option in architecture.values()),
    }


def _record(
    study: str, trial: str, architecture: dict[str, Any], latency_ms: float
) -> dict[str, Any]:
    return {
        "study": study,
        "method": "prunet",
        "space": "gpunet",
        "dataset": "digits",
        "candidate": trial,
        "trial": trial,
        "stage": "searched",
        "digest": hashlib.sha256(trial.encode()).hexdigest()[:12],
        "architecture": architecture,
        "seed": 0,
        "macs": round(latency_ms * 4.1e7),
        "num_params": round(latency_ms * 1.9e6),
        "latency_ms": latency_ms,
        "cost": latency_ms,
        "cost_name": "latency_ms",
    }


def _baseline(study: str) -> dict[str, Any]:
    record = _record(study, "gpunet1", SPACE.presets["gpunet1"], 0.093)
    return record | {"preset": "gpunet1", "wall_s": 20.0}


def _architecture(latency_ms: float, rng: random.Random) -> dict[str, Any]:
    size = min(1.0, latency_ms / 0.17)
    options: dict[str, Any] = {}
    for spec in SPACE.specs:
        kernel_size = rng.choice((3, 3, 5))
        if spec.kind == "conv":
            options[spec.name] = {"kernel_size": kernel_size}
        elif spec.skippable and rng.random() > 0.25 + size:
            options[spec.name] = None
        else:
            widths = spec.hidden_options
            place = min(len(widths) - 1, max(0, round(size * len(widths) + rng.gauss(0, 2))))
            se = rng.random() < 0.4
            options[spec.name] = {"kernel_size": kernel_size, "se": se, "hidden": widths[place]}
    return options


def _epochs(loss: float, latency_ms: float, rng: random.Random) -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "search_loss": loss * (1 + 1.5 * math.exp(-step / 3)) + rng.gauss(0, 0.01),
            "latency_ms": latency_ms * (1 + 1.2 * math.exp(-step / 4)),
            "num_blocks": max(7, round(30 * math.exp(-step / 6))),
        }
        for step in range(1, 13)
    ]


def _finish(
    results: Results,
    record: dict[str, Any],
    accuracy: float,
    labels: dict[str, np.ndarray],
    rng: random.Random,
) -> None:
    draw = np.random.default_rng(rng.randrange(2**32))
    scores = {}
    for split, classes in labels.items():
        wrong = np.argsort(np.arange(SAMPLES) / SAMPLES + draw.normal(0, 0.15, SAMPLES))
        gap = 0.004 if split == "test" else 0.0
        wrong = wrong[: round((1 - accuracy + gap) * SAMPLES)]
        predicted = classes.copy()
        predicted[wrong] = (classes[wrong] + 1) % 10
        scores[split] = float((predicted == classes).mean())
        results.write_predictions(
            study=record["study"],
            dataset="digits",
            candidate=record["candidate"],
            split=split,
            classes=predicted,
        )
    done = [{"step": 1, "trial_s": 15.0}]
    name = record["candidate"]
    results.write_history(study=record["study"], trial=name, stage="finish", steps=done)
    results.write_candidate(
        record
        | {
            "stage": "finished",
            "val_accuracy": scores["val"],
            "test_accuracy": scores["test"],
            "latency_measured_ms": record["latency_ms"] * rng.uniform(0.93, 1.07),
            "latency_measured_iqr_ms": 0.001,
            "latency_device": "Test CPU",
            "latency_backend": "onnxruntime",
            "wall_s": record["wall_s"] + 15,
        }
    )


def _decide_front(results: Results, labels: np.ndarray) -> None:
    rows = [row for row in results.candidates() if row["stage"] == "finished"]
    predicted = load(results.storage.root).predicted()
    smallest = min(rows, key=lambda row: row["cost"])["candidate"]
    for row in rows:
        beaten = any(
            other["cost"] <= row["cost"]
            and other["val_accuracy"] >= row["val_accuracy"]
            and other["candidate"] != row["candidate"]
            for other in rows
        )
        classes = predicted[row["candidate"]]
        nfr = float(((predicted[smallest] == labels) & (classes != labels)).mean())
        decided = {"on_front": not beaten, "nfr": nfr, "nfr_reference": smallest}
        results.write_candidate(row | decided)
