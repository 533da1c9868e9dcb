"""One study, run once for all tests that only look at it, or at copies of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.orchestrator import tiny


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies, which share one MLflow database."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def table(runs: Path) -> Path:
    """A latency table of the tiny study's space."""
    path = runs / "table.parquet"
    path.write_bytes(tiny.made_up_table(tiny.blocks()).to_bytes())
    return path


@pytest.fixture(scope="session")
def study_file(runs: Path, table: Path) -> Path:
    """The tiny study."""
    return tiny.write_study(runs / "tiny.yaml", table)


@pytest.fixture(scope="session")
def done(runs: Path, study_file: Path) -> Path:
    """The directory of the tiny study, run without interruption; leave it as it is."""
    ended = tiny.serial(study_file, runs / "done")
    assert (ended.code, ended.err) == (0, "")
    return runs / "done"


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of the finished study to damage."""
    return Path(shutil.copytree(done, tmp_path / "copy"))
