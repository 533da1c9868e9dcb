"""MLflow mirrors the results: nothing twice, nothing left open, nothing that is gone."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from orchestrator import Study, load, tracking
from orchestrator.tracking import PARENT, STUDY_ID, WRITTEN, following, sync
from orchestrator.tracking_target import EXPERIMENT, locate
from tests.orchestrator.fabricated import fabricate
from workers.storage import Storage

ALPHAS = (0.4, 2.0)
CANDIDATES = 4 * len(ALPHAS) + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")  # one database for all: creating it takes a second


@pytest.fixture(autouse=True)
def no_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def study(folder: Path, request: pytest.FixtureRequest) -> Study:
    name = request.node.name.replace("[", "-").replace("]", "")
    return load(str(fabricate(folder / name, alphas=ALPHAS)))


def client_of(study: Study) -> MlflowClient:
    return MlflowClient(tracking_uri=locate(study.directory).uri)


def all_runs(study: Study) -> list[Run]:
    client = client_of(study)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    study_id = Storage(study.directory).read_bytes("mlflow_id").decode()
    found = client.search_runs([experiment.experiment_id], f"tags.`{STUDY_ID}` = '{study_id}'")
    return list(found)


def runs_of(study: Study) -> tuple[Run, list[Run]]:
    runs = all_runs(study)
    (parent,) = [run for run in runs if PARENT not in run.data.tags]
    return parent, [run for run in runs if run is not parent]


def snapshot(study: Study) -> dict[str, Any]:
    parent, children = runs_of(study)
    client = client_of(study)
    curve = [
        (m.step, m.value) for m in client.get_metric_history(parent.info.run_id, "front/accuracy")
    ]
    history = client.get_metric_history(children[0].info.run_id, "search/num_blocks")
    return {
        "curve": curve,
        "history": len(history),
        **{run.info.run_id: (run.info.status, run.data.to_dictionary()) for run in children},
    }


def test_a_study_is_a_parent_with_a_run_for_each_candidate(study: Study) -> None:
    Storage(study.directory).write_bytes("models/gpunet1/weights.safetensors", b"weights")
    assert sync(study) is None
    parent, children = runs_of(study)
    assert len(children) == CANDIDATES
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert {run.data.tags[PARENT] for run in children} == {parent.info.run_id}
    assert parent.data.metrics["front/size"] == len(study.front())
    assert parent.data.metrics["front/hypervolume"] > 0
    assert parent.inputs.dataset_inputs[0].dataset.name == "digits"
    client = client_of(study)
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert names == {"front.json", "front.png", "study.yaml"}
    (baseline,) = [run for run in children if run.data.tags.get("preset")]
    (model,) = client.list_artifacts(baseline.info.run_id, "model")
    assert model.path == "model/weights.safetensors"
    table = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "front.json")).read_text()
    )
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["val_accuracy"] for row in rows] == [r["val_accuracy"] for r in study.front()]


def test_a_candidates_run_holds_its_row(study: Study) -> None:
    assert sync(study) is None
    best = study.front()[-1]
    runs = {run.data.tags["paretoray.candidate"]: run for run in runs_of(study)[1]}
    data = runs[best["candidate"]].data
    assert data.params["alpha"] == str(best["params"]["alpha"])
    assert data.metrics["val_accuracy"] == best["val_accuracy"]
    assert data.metrics["num_irb"] == best["num_irb"]
    assert data.tags["on_front"] == "True"


def test_the_fronts_curve_counts_latency_in_microseconds(study: Study) -> None:
    assert sync(study) is None
    expected = [(round(1000 * r["latency_ms"]), r["val_accuracy"]) for r in study.front()]
    assert sorted(snapshot(study)["curve"]) == expected


def test_syncing_again_changes_nothing(study: Study) -> None:
    assert sync(study) is None
    first = snapshot(study)
    assert sync(load(study.directory)) is None
    assert snapshot(study) == first
    assert first["history"] == 12


def test_a_changed_front_and_a_lost_candidate_leave_no_ghost(study: Study) -> None:
    assert sync(study) is None
    before, _ = runs_of(study)
    lost = study.front()[0]["candidate"]
    kept = [record for record in study.records if record["candidate"] != lost]
    assert sync(dataclasses.replace(study, records=kept)) is None
    parent, children = runs_of(study)
    assert parent.info.run_id != before.info.run_id
    assert {run.data.tags[PARENT] for run in children} == {parent.info.run_id}
    assert len(children) == CANDIDATES - 1
    assert len(snapshot(study)["curve"]) == len(study.front()) - 1


def test_a_number_that_fell_is_shown(study: Study) -> None:
    assert sync(study) is None
    best = study.front()[-1]
    fallen = {**best, "val_accuracy": best["val_accuracy"] / 2}
    records = [fallen if record is best else record for record in study.records]
    assert sync(dataclasses.replace(study, records=records)) is None
    _, children = runs_of(study)
    (run,) = [r for r in children if r.data.tags["paretoray.candidate"] == best["candidate"]]
    assert run.data.metrics["val_accuracy"] == fallen["val_accuracy"]
    assert len(children) == CANDIDATES


@pytest.mark.parametrize("calls", [1, 5, CANDIDATES + 1])
def test_an_interrupted_sync_is_mended_by_the_next(
    study: Study, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    original, left = MlflowClient.log_batch, iter(range(calls))

    def fragile(*args: Any, **kwargs: Any) -> Any:
        if next(left, None) is None:
            raise ConnectionError("the line is dead\nand more")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fragile)
        warning = sync(study)
    assert warning is not None
    assert "MLflow was not updated: the line is dead (the results in" in warning
    assert sync(study) is None
    parent, children = runs_of(study)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len(children) == CANDIDATES


def test_candidates_appear_while_a_study_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FOLLOW_EVERY_S", 0.01)
    with following(study.directory):
        deadline = time.monotonic() + 60
        while len(seen := written(study)) < CANDIDATES and time.monotonic() < deadline:
            time.sleep(0.1)
    parent, _ = runs_of(study)
    assert parent.info.status == "RUNNING"
    assert "front/size" not in parent.data.metrics
    assert sync(study) is None
    assert written(study) == seen
    assert runs_of(study)[0].info.run_id == parent.info.run_id
    assert runs_of(study)[0].data.metrics["front/size"] == len(study.front())


def written(study: Study) -> dict[str, str]:
    """Return, by the run of each candidate that is whole, the digest of what it shows."""
    if not Storage(study.directory).exists("mlflow_id"):
        return {}
    return {r.info.run_id: r.data.tags[WRITTEN] for r in all_runs(study) if WRITTEN in r.data.tags}


def test_a_moved_study_keeps_its_runs(study: Study) -> None:
    assert sync(study) is None
    parent, _ = runs_of(study)
    moved = Path(study.directory).with_name("moved")
    Path(study.directory).rename(moved)
    assert sync(load(str(moved))) is None
    assert runs_of(load(str(moved)))[0].info.run_id == parent.info.run_id


def test_an_absent_server_is_one_line_soon(study: Study) -> None:
    started = time.perf_counter()
    warning = sync(study, "http://127.0.0.1:9")
    assert time.perf_counter() - started < 10
    assert warning is not None
    assert "http://127.0.0.1:9 does not answer" in warning
    assert "\n" not in warning


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = str(tmp_path / "runs" / "study")
    beside = locate(directory)
    assert beside.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert beside.artifacts == f"file://{tmp_path}/runs/mlartifacts"
    monkeypatch.chdir(tmp_path)
    assert locate(directory, "sqlite:///own.db").artifacts == f"file://{tmp_path}/mlartifacts"
    with pytest.raises(ValueError, match="set MLFLOW_TRACKING_URI"):
        locate("mock:///bucket/study")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert locate(directory).uri == "http://tracker:5000"
    assert locate(directory).artifacts is None
