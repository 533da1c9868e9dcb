"""A study leaves what it promises, and is the same wherever and however often it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pandas as pd
import pytest
import safetensors.numpy
import torch
from filelock import FileLock

from orchestrator import load
from orchestrator.config import load_config
from orchestrator.plan import checked
from tests.orchestrator import tiny
from workers.datasets import to_arrays
from workers.trial import Trial, as_arrays, from_bytes, load_data, run

CANDIDATES = {"t000", "t001", "gpunet1"}


def test_every_candidate_has_a_row_a_model_and_predictions(done: Path) -> None:
    study = load(str(done))
    records = {record["candidate"]: record for record in study.records}
    assert set(records) == CANDIDATES
    assert {record["stage"] for record in records.values()} == {"finished"}
    assert records["t000"]["params"] == {"alpha": 0.1, "seed": 0}
    for name, record in records.items():
        assert 0 < record["val_accuracy"] <= 1
        assert record["latency_measured_ms"] > 0
        assert record["cost"] == record["latency_ms"]
        folder = done / "models" / name
        assert json.loads((folder / "architecture.json").read_text()) == record["architecture"]
        weights = safetensors.numpy.load_file(folder / "weights.safetensors")
        stored = sum(array.nbytes for key, array in weights.items() if "running" not in key)
        assert stored >= record["num_params"] * 4
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]
    assert set(study.predicted("val")) == CANDIDATES
    labels = study.labels("val")
    assert labels is not None
    for name, classes in study.predicted("val").items():
        assert (classes == labels).mean() == pytest.approx(records[name]["val_accuracy"])


def test_test_figures_are_those_of_the_front(done: Path) -> None:
    study = load(str(done))
    front = {record["candidate"] for record in study.front()}
    assert front <= {"t000", "t001"}
    assert front
    assert set(study.predicted("test")) == front
    tested = {r["candidate"] for r in study.records if r["test_accuracy"] is not None}
    assert tested == front


def test_flips_refer_to_the_smallest_network_of_the_front(done: Path) -> None:
    study = load(str(done))
    reference = study.front()[0]["candidate"]
    for record in study.records:
        own = record["candidate"] == reference
        assert record["nfr_reference"] == (None if own else reference)
        assert (record["nfr"] is None) == own


def test_history_has_every_step_once(done: Path) -> None:
    history = load(str(done)).history()
    assert not history.duplicated(["trial", "stage", "step", "metric"]).any()
    steps = history.groupby(["stage", "trial"])["step"].agg(["min", "max"])
    assert steps.loc[("search", "t000")].tolist() == steps.loc[("search", "t001")].tolist()
    assert set(steps.index) == {
        ("pretrain", "supernet"),
        *(("search", name) for name in ("t000", "t001")),
        *(("finish", name) for name in CANDIDATES),
    }


def test_pandas_reads_the_tables_without_us(done: Path) -> None:
    frame = pd.read_parquet(done / "results" / "candidates")
    assert set(frame["candidate"]) == CANDIDATES


def test_the_report_and_mlflow_show_the_study(done: Path) -> None:
    text = (done / "report.html").read_text()
    assert all(name in text for name in CANDIDATES)
    found = tiny.mlflow_runs(done)
    assert len(found) == 1 + len(CANDIDATES)
    assert {run.info.status for run in found} == {"FINISHED"}


def test_nothing_is_left_that_only_the_run_needed(done: Path) -> None:
    left = {path.split("/")[0] for path in tiny.files(done)}
    tables = {"results", "models", "study.yaml", "latency.parquet", "report.html"}
    decided = {"points", "supernet.pt", "selection.json"}
    assert left == tables | decided | {"attempt", "mlflow_id", ".lock"}


def test_running_a_finished_study_again_does_nothing(study_file: Path, done: Path) -> None:
    before, runs = tiny.files(done), tiny.mlflow_runs(done)
    ended = tiny.serial(study_file, done)
    assert (ended.code, ended.err) == (0, "")
    after = tiny.files(done)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed <= {"attempt", ".lock"}
    assert set(after) == set(before)
    again = tiny.mlflow_runs(done)
    assert [r.data.to_dictionary() for r in again] == [r.data.to_dictionary() for r in runs]


def test_the_directory_of_another_study_is_refused(study_file: Path, done: Path) -> None:
    before = tiny.files(done)
    ended = tiny.serial(study_file, done, "--set", "seed=1", "--set", "training.epochs=3")
    assert ended.code == 2
    assert "holds another study; differing keys: seed, training.epochs" in ended.line
    assert tiny.files(done) == before


def test_a_second_driver_is_refused(study_file: Path, done: Path) -> None:
    with FileLock(done / ".lock"):
        ended = tiny.serial(study_file, done)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "another driver is running this study" in ended.line


def outcome(trial: Trial, shared: dict[str, Any], root: Path) -> dict[str, Any]:
    reports: list[dict[str, Any]] = []
    run(trial, shared, reports.append, torch.device("cpu"))
    found: dict[str, Any] = from_bytes((root / reports[-1]["outcome"]).read_bytes(), trial.id)
    (candidate,) = found["candidates"]
    return {**candidate, "weights": {k: v.numpy() for k, v in candidate["weights"].items()}}


def test_the_order_of_trials_in_a_process_changes_nothing(
    study_file: Path, done: Path, tmp_path: Path
) -> None:
    study = checked(load_config(str(study_file))).as_dict()
    start = as_arrays(from_bytes((done / "supernet.pt").read_bytes(), "supernet.pt"))
    shared = {
        "data": to_arrays(load_data(study, None)),
        "table": (done / "latency.parquet").read_bytes(),
        "start": start,
    }
    architecture = load(str(done)).records[0]["architecture"]
    found = []
    for order in ("ab", "ba"):
        root = tmp_path / order
        common = {"study": study, "root": str(root), "attempt": 1}
        trials = {
            "a": Trial("a", "search", point={"alpha": 0.1, "seed": 3}, **common),
            "b": Trial("b", "finish", architecture=architecture, point={"seed": 4}, **common),
        }
        found.append({name: outcome(trials[name], shared, root) for name in order})
    for name in "ab":
        first, second = (outcomes[name] for outcomes in found)
        assert first["architecture"] == second["architecture"]
        weights = second["weights"]
        assert all((array == weights[key]).all() for key, array in first["weights"].items())


def test_a_trial_of_several_candidates_finishes_them(
    runs: Path, table: Path, tmp_path: Path
) -> None:
    text = tiny.STUDY.partition("space:")
    path = tmp_path / "random.yaml"
    method = "study: drawn\nmethod: {name: random, num_candidates: 2}\n"
    path.write_text(method + "".join(text[1:]) + f"latency: {{table: {table}}}\n")
    ended = tiny.serial(path, runs / "drawn", "--set", "sweep={}", "--set", "training.epochs=1")
    assert (ended.code, ended.err) == (0, "")
    assert {row["candidate"] for row in tiny.rows(runs / "drawn")} == {
        "t000.0",
        "t000.1",
        "gpunet1",
    }


def test_candidates_may_keep_the_weights_of_their_search(
    study_file: Path, done: Path, runs: Path
) -> None:
    ended = tiny.serial(study_file, runs / "kept", "--set", "training.inherited_epochs=0")
    assert (ended.code, ended.err) == (0, "")
    for name in ("t000", "t001"):
        folder = runs / "kept" / "models" / name
        found, kept = (
            safetensors.numpy.load_file(folder / f"{file}.safetensors")
            for file in ("inherited", "weights")
        )
        assert all((kept[key] == array).all() for key, array in found.items())
    trained = safetensors.numpy.load_file(runs / "kept/models/gpunet1/weights.safetensors")
    like = safetensors.numpy.load_file(done / "models/gpunet1/weights.safetensors")
    assert all((trained[key] == array).all() for key, array in like.items())
