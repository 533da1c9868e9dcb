"""A study in an object store is the study in a folder, also after a kill, and read from there."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from orchestrator import claims, load
from orchestrator.tracking_target import EXPERIMENT
from tests.object_store import ObjectStore
from tests.orchestrator import tiny
from workers.storage import Storage, joined


@pytest.fixture
def tracked(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a study whose runs go into a database of its own."""
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}


def expire_soon() -> None:
    """Let a killed driver be waited for no longer than the store's clock needs."""
    claims.BEAT_S, claims.EXPIRY_S = 1.2, 4.0


def same_tables(done: Path, directory: str) -> bool:
    found, expected = (load(str(place)).tables["predictions"] for place in (directory, done))
    assert found.to_pylist() == expected.to_pylist()
    rows = [
        [{k: v for k, v in r.items() if k not in tiny.MEASURED} for r in load(str(place)).records]
        for place in (directory, done)
    ]
    assert rows[0] == rows[1]
    return True


@pytest.mark.slow
def test_a_study_in_one_process_finds_the_same_there(
    s3: ObjectStore, study_file: Path, done: Path, tracked: Mapping[str, str]
) -> None:
    parent = s3.uri("bucket/serial")
    command = ("run", study_file, "--set", f"storage={parent}", "--executor", "serial")
    ended = tiny.paretoray(*command, environment=tracked)
    assert (ended.code, ended.err) == (0, "")
    directory = joined(parent, "tiny")
    assert f"report: {joined(directory, 'report.html')}" in ended.out
    assert same_tables(done, directory)
    local = {path.split("/")[0] for path in tiny.files(done)} - {".lock"}
    assert {path.split("/")[0] for path in Storage(directory).list()} == local


@pytest.mark.slow
def test_a_study_on_ray_is_killed_there_and_resumed(
    s3: ObjectStore, study_file: Path, done: Path, tracked: Mapping[str, str]
) -> None:
    directory = s3.uri("bucket/ray/tiny")
    words = ["run", study_file, "--dir", directory]
    deaths = {"results/history/search-": signal.SIGKILL, "selection.json": signal.SIGTERM}
    for start, number in deaths.items():
        changes = [expire_soon, tiny.die_after(start, number)]
        ended = tiny.paretoray(*words, changes=changes, environment=tracked)
        assert ended.code == (-number if number == signal.SIGKILL else 130), ended.err
    resume = ["run", joined(directory, "study.yaml"), "--dir", directory]
    assert f"resume with: paretoray {shlex.join(resume)}\n" in ended.err  # among Ray's own lines
    ended = tiny.paretoray(*resume, changes=[expire_soon], environment=tracked)
    assert ended.code == 0, ended.err
    assert same_tables(done, directory)
    names = Storage(directory).list("tune")
    assert any("events.out.tfevents" in name for name in names)  # Tune found the place, too
    shown = tiny.paretoray("front", directory, "--json")
    assert {row["id"] for row in json.loads(shown.out)["candidates"]} == {"t000", "t001", "gpunet1"}
    compared = tiny.paretoray("compare", directory, done, "--json")
    first, second = json.loads(compared.out)["studies"]
    assert first["hypervolume"] == second["hypervolume"] > 0
    assert b"tiny" in Storage(directory).read_bytes("report.html")
    client = MlflowClient(tracking_uri=tracked["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"tiny", "tiny/t000", "tiny/t001", "tiny/gpunet1"}
    artifacts = client.list_artifacts(runs["tiny/t000"].info.run_id, "model")
    assert "model/weights.safetensors" in {artifact.path for artifact in artifacts}
