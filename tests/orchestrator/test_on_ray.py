"""The same study on Ray: the same results, also after a kill, and trials may fail on their own.

Drivers are processes of their own that join the tests' cluster, so that a killed one leaves it, and
its trials, behind.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import ray

from orchestrator import load
from tests.orchestrator import tiny
from tests.orchestrator.test_resume import same_as

DEATHS = {
    "before the supernet is kept": (tiny.die_after("results/history/pretrain-"), -signal.SIGKILL),
    "amid search": (tiny.die_after("results/history/search-"), -signal.SIGKILL),
    "amid search again": (tiny.die_after("results/candidates/", signal.SIGTERM), 130),
    "select": (tiny.die_after("selection.json"), -signal.SIGKILL),
    "amid finish": (tiny.die_after("results/history/finish-"), -signal.SIGKILL),
    "amid finish again": (tiny.die_after("results/predictions/", signal.SIGINT), 130),
    "amid test figures": (tiny.die_after("results/predictions/t000-test"), -signal.SIGKILL),
}


@pytest.fixture
def address(local_ray: None) -> str:
    """Where the tests' cluster is."""
    return str(ray.get_runtime_context().gcs_address)


def pretrained(done: Path, directory: Path) -> Path:
    """Return a directory in which the first two stages are done."""
    directory.mkdir()
    for name in ("latency.parquet", "supernet.pt"):
        shutil.copy(done / name, directory)
    return directory


def test_trials_on_ray_find_what_one_process_finds(
    address: str, runs: Path, study_file: Path, done: Path
) -> None:
    directory = pretrained(done, runs / "ray")
    ended = tiny.paretoray("run", study_file, "--dir", directory, "--address", address)
    assert (ended.code, ended.err) == (0, "")
    assert tiny.rows(directory) == tiny.rows(done)
    assert tiny.predictions(directory) == tiny.predictions(done)


@pytest.mark.slow
def test_a_ray_of_its_own_runs_every_stage(runs: Path, study_file: Path, done: Path) -> None:
    ended = tiny.paretoray("run", study_file, "--dir", runs / "own")
    assert (ended.code, ended.err) == (0, "")
    assert same_as(done, runs / "own")
    assert list((runs / "own" / "tune").rglob("events.out.tfevents*"))  # for TensorBoard


@pytest.mark.slow
def test_a_killed_driver_leaves_a_cluster_that_finishes_the_study(
    address: str, runs: Path, study_file: Path, done: Path
) -> None:
    directory = runs / "killed on ray"
    command = ("run", study_file, "--dir", directory, "--address", address)
    for where, (death, code) in DEATHS.items():
        ended = tiny.paretoray(*command, changes=[death])
        assert ended.code == code, (where, ended.err)
        if code == 130:
            assert "interrupted; resume with" in ended.line
    ended = tiny.paretoray(*command)
    assert (ended.code, ended.err) == (0, "")
    assert same_as(done, directory)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_a_ray_of_its_own(
    number: int, study_file: Path, done: Path, tmp_path: Path
) -> None:
    directory = pretrained(done, tmp_path / "study")
    change = tiny.die_after("results/candidates/t00", number)
    ended = tiny.paretoray("run", study_file, "--dir", directory, changes=[change])
    assert ended.code == 130
    assert ended.err.count("\n") == 1
    assert ended.resume[:2] == ["run", f"{directory}/study.yaml"]


@pytest.mark.slow
def test_a_trial_that_diverges_leaves_the_others_alone(
    address: str, study_file: Path, done: Path, tmp_path: Path
) -> None:
    directory = pretrained(done, tmp_path / "study")
    sweep = ("--set", "sweep={alpha: [0.1, 1e39]}")
    command = ("run", study_file, "--dir", directory, "--address", address)
    ended = tiny.paretoray(*command, *sweep)
    assert (ended.code, ended.err) == (0, "")
    assert "t001 failed: FloatingPointError" in ended.out
    rows = {record["candidate"]: record["stage"] for record in load(str(directory)).records}
    assert rows == {"t000": "finished", "gpunet1": "finished"}
    failure = json.loads((directory / "failures" / "search-t001.json").read_text())
    assert "that of the search inf" in failure["reason"]


@pytest.mark.slow
def test_a_study_whose_trials_all_diverge_fails(
    address: str, study_file: Path, done: Path, tmp_path: Path
) -> None:
    directory = pretrained(done, tmp_path / "study")
    sweep = ("--set", "sweep={alpha: [1e39]}")
    command = ("run", study_file, "--dir", directory, "--address", address)
    ended = tiny.paretoray(*command, *sweep)
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "search: no trial ended with a candidate: FloatingPointError" in ended.line
    assert "resume with: paretoray run" in ended.line
    assert load(str(directory)).records == []
