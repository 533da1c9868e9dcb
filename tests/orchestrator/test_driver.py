"""A hundred trials through the driver: every one is written once, here and in MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.driver import product
from orchestrator import load
from tests.orchestrator import tiny

TRIALS = 100


@pytest.mark.slow
def test_a_hundred_short_trials_are_all_written(local_ray: None, tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "driver"
    product(str(directory), TRIALS, 0.0)
    names = [f"t{index:04d}" for index in range(TRIALS)]
    study = load(str(directory))
    assert study.damaged == ()
    assert [record["candidate"] for record in study.records] == names
    assert sorted(set(study.history()["trial"])) == names
    assert not list((directory / "outcomes").iterdir())
    runs = {run.info.run_name: run.info.status for run in tiny.mlflow_runs(directory)}
    assert runs == dict.fromkeys(
        ["random_digits", *(f"random_digits/{name}" for name in names)], "FINISHED"
    )
