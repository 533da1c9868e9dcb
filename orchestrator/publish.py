"""From what trials leave behind to rows, predictions and model files. Only the driver publishes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import safetensors.torch
import torch

from cost_models import COST_MODELS
from cost_models.latency_table import LatencyTable
from cost_models.onnx_export import checked_onnx
from orchestrator.config import Proxy, StudyConfig
from orchestrator.loading import finished as is_finished
from orchestrator.loading import load
from orchestrator.pareto import objectives, pareto_front
from orchestrator.report import graphs
from orchestrator.results import Record, Results, ResultsError
from search_spaces.base import Architecture, SearchSpace, digest
from workers.datasets import Data, truth
from workers.errors import InputError
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.finished import network_timing, predict_test, with_data
from workers.methods import METHODS
from workers.metrics import negative_flip_rate, positive_flip_rate
from workers.storage import Storage, parent_and_name
from workers.trial import (
    Trial,
    from_bytes,
    inherited_path,
    load_weights,
    weights_path,
)

Executor = Serial | RayCluster
# Of samples at a time; the second for networks that were trained to run at several widths.
LATENCY_COLUMNS = {1: "latency_measured_ms", 128: "latency_batch128_ms"}
# What depends on the front.
REPORTED = ("nfr", "positive_flip_rate", "nfr_reference", "test_accuracy", "test_mean_iou")


def history(
    results: Results, config: StudyConfig, trial: Trial, outcome: Mapping[str, Any]
) -> None:
    """Write a trial's numbers by step, and under its last step `trial_s`, the seconds it took."""
    last = outcome["history"][-1]["step"]
    steps = [*outcome["history"], {"step": last, "trial_s": outcome["seconds"]}]
    results.write_history(study=config.study, trial=trial.id, stage=trial.stage, steps=steps)


def searched(
    results: Results,
    config: StudyConfig,
    space: SearchSpace,
    table: LatencyTable | None,
    trial: Trial,
    outcome: Mapping[str, Any],
) -> None:
    """Write the candidates that a search trial found; `t003` or, of several, `t003.0`, ..."""
    found = outcome["candidates"]
    for index, candidate in enumerate(found):
        name = trial.id if len(found) == 1 else f"{trial.id}.{index}"
        metrics = dict(candidate["metrics"])
        metrics["search_val_accuracy"] = metrics.get("val_accuracy")
        record = {
            **_described(config, space, table, candidate["architecture"]),
            **metrics,
            "candidate": name,
            "trial": trial.id,
            "params": {**trial.point, "seed": trial.seed},
            "seed": trial.seed,
            "search_wall_s": outcome["seconds"],
            "wall_s": outcome["seconds"],
        }
        _architecture(results.storage, record)
        if candidate["weights"] is not None:
            _save(results.storage, inherited_path(name), candidate["weights"])
        if config.proxy == Proxy():  # else its predictions are of other samples
            _predictions(results, config, name, candidate["predictions"])
        results.write_candidate(record)
    history(results, config, trial, outcome)


def labels(results: Results, config: StudyConfig, data: Data) -> None:
    """Write the true classes of the validation and the test split, of maps the labelled pixels'."""
    for split, part in (("val", data.val), ("test", data.test)):
        classes = truth(part).cpu().numpy()
        results.write_labels(dataset=config.dataset["name"], split=split, classes=classes)


def baseline(
    results: Results,
    config: StudyConfig,
    space: SearchSpace,
    table: LatencyTable | None,
    preset: str,
) -> None:
    """Write a hand-made architecture of the space as a candidate that awaits finishing."""
    if preset in results.parts("candidates"):
        return
    described = _described(config, space, table, space.presets[preset])
    params = {"seed": config.seed}
    record = {**described, "candidate": preset, "preset": preset, "params": params}
    results.write_candidate({**record, "seed": config.seed, "search_wall_s": 0.0, "wall_s": 0.0})


def finished(
    results: Results,
    config: StudyConfig,
    space: SearchSpace,
    records: Sequence[Record],
    trial: Trial,
    outcome: Mapping[str, Any],
) -> None:
    """Turn equal candidates' rows into those of the finished network; write weights and ONNX."""
    (candidate,) = outcome["candidates"]
    ends = {**candidate["metrics"], "stage": "finished", "on_front": False}
    done = [
        {**record, **ends, "wall_s": record["search_wall_s"] + outcome["seconds"]}
        for record in records
    ]
    _networks(results, config, space, done, candidate)
    history(results, config, trial, outcome)
    for record in done:
        results.write_candidate(record)


def fused(
    results: Results,
    config: StudyConfig,
    space: SearchSpace,
    table: LatencyTable | None,
    trial: Trial,
    outcome: Mapping[str, Any],
) -> None:
    """Write the networks that a trial trained together, `f000.0`, ...; they are finished."""
    for index, candidate in enumerate(outcome["candidates"]):
        record = {
            **_described(config, space, table, candidate["architecture"]),
            **candidate["metrics"],
            "candidate": f"{trial.id}.{index}",
            "trial": trial.id,
            "stage": "finished",
            "params": dict(trial.point),
            "seed": trial.seed,
            "search_wall_s": 0.0,
            "wall_s": outcome["seconds"],
        }
        _networks(results, config, space, [record], candidate)
        results.write_candidate(record)
    history(results, config, trial, outcome)


def failure(storage: Storage, trial: Trial, reason: str) -> None:
    """Keep why a trial failed; running the study again tries it again."""
    text = json.dumps({"reason": reason, "attempt": trial.attempt, "point": dict(trial.point)})
    storage.write_bytes(_failure(trial), text.encode())


def success(storage: Storage, trial: Trial) -> None:
    """Forget that a trial failed in an earlier attempt."""
    storage.delete(_failure(trial))


def check_checkpoint(storage: Storage, trial: Trial) -> None:
    """Refuse a checkpoint that cannot be read, before anything is started from it.

    Raises:
        DamagedError: names the file.
    """
    for path in trial.checkpoints(storage)[-1:]:
        from_bytes(storage.read_bytes(path), storage.name(path))


def front(results: Results) -> None:
    """Mark the Pareto front of the found and finished candidates: error against cost.

    What an earlier report said of another front is forgotten.
    """
    records = load(results.storage.root, is_finished).records
    found = [record for record in records if record["preset"] is None]
    mask = pareto_front(objectives(found))
    names = {record["candidate"] for record, chosen in zip(found, mask, strict=True) if chosen}
    for record in records:
        forgotten = dict.fromkeys(REPORTED)
        results.write_candidate({**record, **forgotten, "on_front": record["candidate"] in names})


def flips(results: Results, config: StudyConfig) -> None:
    """Write negative and positive flip rates, on validation, against the study's reference.

    The reference is `config.reference`, else the cheapest network on the front, whose own rates
    stay null.

    Raises:
        InputError: the configured reference has no predictions on this data set.
    """
    study = load(results.storage.root, is_finished)
    predicted, labels = study.predicted("val"), study.labels("val")
    if config.reference is not None:
        reference, classes = config.reference, reference_predictions(config)
    else:
        reference = next(r["candidate"] for r in study.front())
        classes = predicted[reference]
    assert labels is not None
    for record in study.finished():
        name = record["candidate"]
        if name == reference:
            continue
        rates = {
            "nfr": float(negative_flip_rate(classes, predicted[name], labels)),
            "positive_flip_rate": float(positive_flip_rate(classes, predicted[name], labels)),
        }
        results.write_candidate({**record, **rates, "nfr_reference": reference})


def reference_predictions(config: StudyConfig) -> np.ndarray[Any, Any]:
    """Return the reference's predicted classes on the validation split.

    Raises:
        InputError: there is no such candidate, or it saw another data set.
    """
    assert config.reference is not None
    directory, name = parent_and_name(config.reference)
    try:
        study = load(directory)
    except ResultsError as error:
        raise InputError(f"reference: {error}") from error
    predicted = study.predicted("val")
    if name not in predicted:
        raise InputError(f"reference: {directory} has no candidate {name!r} with predictions")
    if study.config["dataset"] != config.dataset:
        raise InputError(f"reference: {directory} is about another data set")
    return predicted[name]


def predict_front(
    results: Results, config: StudyConfig, executor: Executor, shared: Mapping[str, Any]
) -> None:
    """Predict the test split with the networks of the front (or with all, `report.test_all`)."""
    chosen = [
        record
        for record in load(results.storage.root, is_finished).records
        if record["on_front"] or config.report.test_all
    ]
    items = [(r["architecture"], _weights(results.storage, r["candidate"])) for r in chosen]
    prepare = partial(with_data, config.as_dict())
    outcomes = executor.map(predict_test, items, setup=prepare, shared=shared)
    for record, found in zip(chosen, outcomes, strict=True):
        _predictions(results, config, record["candidate"], {"test": found.predictions_N})
        figures = {"test_accuracy": found.accuracy, "test_mean_iou": found.mean_iou}
        results.write_candidate({**record, **figures})


def measured_latency(results: Results, config: StudyConfig, executor: Executor) -> None:
    """Measure the finished networks end to end, one after another, on the latency target.

    Equal architectures are measured once. Networks of a method that fuses them are measured on a
    batch, too: single samples hide what narrow layers save.
    A target that is not the latency table's device measures nothing that could be compared.
    """
    latency = config.latency
    records = load(results.storage.root, is_finished).records
    architectures = {record["digest"]: record["architecture"] for record in records}
    sizes = LATENCY_COLUMNS if METHODS[config.method["name"]].fuse is not None else (1,)
    for size in sizes:
        name = LATENCY_COLUMNS[size]
        probe = partial(network_timing, config.as_dict(), latency.backend, latency.threads)
        probe = partial(probe, batch_size=size)
        found = executor.map(probe, list(architectures.values()), resources=latency.asked)
        timings = dict(zip(architectures, found, strict=True))
        for record in records:
            measured = timings[record["digest"]]
            target = {"latency_device": measured.device, "latency_backend": latency.backend}
            predicted = {key: record[key] for key in target}
            if predicted in (dict.fromkeys(target), target):
                record |= target
                record[name] = measured.timing.median_us / 1e3
                record[name.replace("_ms", "_iqr_ms")] = measured.timing.iqr_us / 1e3
                results.write_candidate(record)


def drawings(storage: Storage) -> None:
    """Draw the front's and the hand-made networks, where architectures are graphs."""
    for name, svg in graphs(load(storage.root, is_finished)).items():
        storage.write_bytes(f"models/{name}/architecture.svg", svg.encode())


def tidy(storage: Storage) -> None:
    """Delete what ended trials left because a driver was killed; those that failed may go on."""
    failed = {path.split("/")[1].removesuffix(".json") for path in storage.list("failures")}
    for path in (*storage.list("outcomes"), *storage.list("checkpoints")):
        if path.split("/")[1].rsplit("-", 1)[0] not in failed:
            storage.delete(path)


def _failure(trial: Trial) -> str:
    return f"failures/{trial.stage}-{trial.id}.json"


def _described(
    config: StudyConfig,
    space: SearchSpace,
    table: LatencyTable | None,
    architecture: Architecture,
) -> Record:
    layers = space.layers(architecture)
    costs: Record = {name: model.function(layers) for name, model in COST_MODELS.items()}
    if table is not None:
        costs["latency_ms"] = table.network_ms(space.blocks(architecture))
        costs |= {"latency_device": table.device, "latency_backend": table.backend}
    return {
        "study": config.study,
        "method": config.method["name"],
        "space": config.space["name"],
        "dataset": config.dataset["name"],
        "stage": "searched",
        "preset": None,
        "digest": digest(space, architecture),
        "architecture": architecture,
        "cost_name": config.cost,
        "cost": costs.get(config.cost),  # a random one is drawn where the trial runs
        "on_front": False,
        **costs,
    }


def _architecture(storage: Storage, record: Record) -> None:
    text = json.dumps(record["architecture"], indent=2)
    storage.write_bytes(f"models/{record['candidate']}/architecture.json", text.encode())


def _networks(
    results: Results,
    config: StudyConfig,
    space: SearchSpace,
    records: Sequence[Record],
    candidate: Mapping[str, Any],
) -> None:
    """Write a finished network's weights, ONNX model and predictions for all that it stands for."""
    network = space.build(records[0]["architecture"])
    network.load_state_dict(candidate["weights"])
    model = checked_onnx(network, space.in_shape)
    for record in records:
        name = record["candidate"]
        _architecture(results.storage, record)
        _save(results.storage, weights_path(name), candidate["weights"])
        results.storage.write_bytes(f"models/{name}/model.onnx", model)
        _predictions(results, config, name, candidate["predictions"])


def _save(storage: Storage, path: str, weights: Mapping[str, torch.Tensor]) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    storage.write_bytes(path, safetensors.torch.save(contiguous))


def _weights(storage: Storage, candidate: str) -> dict[str, np.ndarray[Any, Any]]:
    weights = load_weights(storage, weights_path(candidate))
    return {name: tensor.numpy() for name, tensor in weights.items()}


def _predictions(
    results: Results, config: StudyConfig, name: str, predictions: Mapping[str, torch.Tensor]
) -> None:
    for split, classes in predictions.items():
        results.write_predictions(
            study=config.study,
            dataset=config.dataset["name"],
            candidate=name,
            split=split,
            classes=classes.numpy(),
        )
