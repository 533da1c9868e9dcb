"""A search whose trials share evaluators: resumed, on Ray, and what is refused at the door."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import ray
from safetensors import safe_open

from orchestrator.config import load_config
from tests.orchestrator import tiny
from workers.errors import InputError

SMALL = (
    "method.population=4",
    "method.generations=2",
    "method.budgets=[250000, 450000]",
    "method.supernet.sandwich={epochs: 1, lr: 0.03}",
    "sweep={reward: [r0, r2]}",
)
SETTINGS = [word for setting in SMALL for word in ("--set", setting)]
RUN = ("run", "reg_nas_digits", *SETTINGS, "--dir")


@pytest.fixture(scope="module")
def uninterrupted(runs: Path) -> Path:
    """The directory of the study, run in one go and one process."""
    ended = tiny.paretoray(*RUN, runs / "shared", "--executor", "serial")
    assert (ended.code, ended.err) == (0, "")
    return runs / "shared"


def evaluated(directory: Path) -> list[str]:
    """Return the digits of the evaluated networks, as often as they were."""
    found: list[str] = []
    for path in sorted(directory.glob("predicted/*/*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found += file.keys()
    return sorted(found)


def same(directory: Path, uninterrupted: Path) -> bool:
    """Tell whether a study found the same by evaluating every network once."""
    assert tiny.rows(directory) == tiny.rows(uninterrupted)
    assert tiny.predictions(directory) == tiny.predictions(uninterrupted)
    assert len(set(evaluated(directory))) == len(evaluated(directory))
    assert evaluated(directory) == evaluated(uninterrupted)
    return True


@pytest.mark.slow
def test_a_killed_search_evaluates_the_rest_alone(runs: Path, uninterrupted: Path) -> None:
    directory = runs / "shared and killed"
    for where in ("predicted/", "predicted/", "results/candidates/t000"):
        death = tiny.die_after(where)
        ended = tiny.paretoray(*RUN, directory, "--executor", "serial", changes=[death])
        assert ended.code == -signal.SIGKILL, ended.err
    ended = tiny.paretoray(*RUN, directory, "--executor", "serial")
    assert (ended.code, ended.err) == (0, "")
    assert same(directory, uninterrupted)


@pytest.mark.slow
def test_trials_on_ray_evaluate_what_one_process_does(
    local_ray: None, runs: Path, uninterrupted: Path
) -> None:
    directory = runs / "shared on ray"
    directory.mkdir()
    (directory / "supernet.pt").write_bytes((uninterrupted / "supernet.pt").read_bytes())
    address = ray.get_runtime_context().gcs_address
    ended = tiny.paretoray(*RUN, directory, "--address", address)
    assert (ended.code, ended.err) == (0, "")
    assert same(directory, uninterrupted)


def test_trials_that_share_evaluators_have_no_workers_of_their_own() -> None:
    with pytest.raises(InputError, match=r"resources\.trial_workers: 2; allowed: 1"):
        load_config("reg_nas_digits", ["resources.trial_workers=2"])
