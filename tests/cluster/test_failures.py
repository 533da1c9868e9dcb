"""What fails by itself is recorded with its reason; what is lost with a process goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load_config
from tests.cluster.local_cluster import connect, driver, local_cluster
from tests.cluster.tasks import (
    LoseStarter,
    lose_leader,
    lose_queue,
    lose_rank,
    map_numbers,
    predict_numbers,
    run_out,
)
from tests.cluster.test_two_nodes import until
from tests.orchestrator import tiny
from tests.workers.made_up_evaluator import evaluations
from tests.workers.test_executors import ends
from tests.workers.work import Task
from workers.datasets import to_arrays
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources, Work
from workers.storage import Storage
from workers.trial import Trial, fitted_space, from_bytes, load_data

pytestmark = pytest.mark.slow

EPOCHS = 4


@pytest.mark.parametrize("trial_workers", [1, 2])
def test_a_trial_that_runs_out_of_memory_leaves_the_others_alone(
    local_ray: None, tmp_path: Path, trial_workers: int
) -> None:
    cluster = RayCluster(Resources(trial_workers=trial_workers, max_failures=0))
    rows: list[dict[str, Any]] = []
    tasks = [Task(name, str(tmp_path)) for name in ("too-large", "small")]
    cluster.run_trials(run_out, tasks, {}, rows.append, folder=f"{tmp_path}/tune/search")
    reason = "OutOfMemoryError: CUDA out of memory. Tried to allocate 80.00 GiB"
    assert ends(rows) == {"too-large": reason, "small": "done"}


@pytest.mark.parametrize("work", [lose_rank, lose_leader, lose_queue])
def test_pretraining_goes_on_from_its_last_epoch(
    local_ray: None, tmp_path: Path, work: Work
) -> None:
    steps = [row["step"] for row in pretrained(tmp_path, work) if "step" in row]
    assert steps == sorted(steps), "an epoch that was kept ran again"
    assert {1, 2, EPOCHS} <= set(steps)


def test_pretraining_starts_again_if_a_rank_is_lost_as_it_is_started(
    local_ray: None, tmp_path: Path
) -> None:
    pretrained(tmp_path, LoseStarter(str(tmp_path)))


@pytest.mark.parametrize("call", [predict_numbers, map_numbers])
def test_the_nodes_that_are_left_do_the_work_of_one_that_is_lost_for_good(
    tmp_path: Path, call: Callable[[str], list[int]]
) -> None:
    nodes = {"num_cpus": 1}, {"num_cpus": 1}
    with local_cluster(*nodes, num_cpus=0) as cluster, driver() as process:
        process.submit(connect, cluster.address).result()
        found = process.submit(call, str(tmp_path))
        until(lambda: len(evaluations(tmp_path)) >= 4 or found.done())
        assert not found.done()
        cluster.kill_node(cluster.nodes[0])
        assert found.result(timeout=300) == list(range(20))


def pretrained(folder: Path, work: Work) -> list[dict[str, Any]]:
    """Pretrain by work that kills something once, and return the rows of it."""
    trial = pretraining(folder)
    cluster = RayCluster(Resources(workers=2, max_failures=1))
    data = cluster.share(to_arrays(load_data(trial.study, None)))
    table = tiny.made_up_table(tiny.blocks()).to_bytes()
    shared = {"data": data, "table": table, "start": None}
    rows: list[dict[str, Any]] = []
    cluster.train_sharded(work, trial, shared, rows.append, folder=f"{folder}/train/pretrain")
    assert (folder / "killed").exists()
    assert ends(rows) == {"supernet": trial.path("outcome")}
    outcome = from_bytes(Storage(str(folder)).read_bytes(trial.path("outcome")), "outcome")
    assert [row["step"] for row in outcome["history"]] == list(range(1, EPOCHS + 1))
    return rows


def pretraining(folder: Path) -> Trial:
    """Return the pretraining of a ready study, shortened."""
    config = load_config("prunet_digits", [f"method.warmup_epochs={EPOCHS}", "proxy.images=0.3"])
    study = config.as_dict()
    study["space"] = fitted_space(study)
    return Trial(id="supernet", stage="pretrain", study=study, root=str(folder), attempt=1)
