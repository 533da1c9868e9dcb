"""Who runs where: nodes that come later, halves of a GPU, and targets that are measured alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config import Latency
from tests.cluster.local_cluster import LocalCluster, connect, driven, driver, local_cluster
from tests.cluster.tasks import PATIENCE_S, compute, meet, node_of
from tests.workers.test_executors import ends
from tests.workers.work import Task
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources, Work

pytestmark = pytest.mark.slow

TARGET = {"target_edge_cpu": 1.0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One CPU to train on at first, and a node that is only measured."""
    with local_cluster({"num_cpus": 0, "resources": TARGET}, num_cpus=1) as nodes:
        yield nodes


def trials(work: Work, ids: str, folder: Path, resources: Resources) -> dict[str, str]:
    """Run a trial for every letter, and return how each ended."""
    rows: list[dict[str, Any]] = []
    tasks = [Task(name, str(folder)) for name in ids]
    executor = RayCluster(resources)
    executor.run_trials(work, tasks, {}, rows.append, folder=f"{folder}/tune/search")
    return ends(rows)


def probed() -> list[str]:
    """Return where a measured latency would come from."""
    asked = Latency(resources=TARGET).asked
    return list(RayCluster(Resources()).map(node_of, [1, 2], resources=asked))


def test_a_node_that_joins_amid_a_search_is_used_and_the_target_is_left_alone(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    (target,) = set(driven(cluster.address, probed))
    with driver() as process:
        process.submit(connect, cluster.address).result()
        search = process.submit(trials, meet, "abc", tmp_path, Resources())
        limit = time.monotonic() + PATIENCE_S
        while not list(tmp_path.glob("marks/*")) and time.monotonic() < limit:
            time.sleep(0.1)
        cluster.add_node(num_cpus=1)
        outcomes = search.result()
    # The first trial waits for a second one, for which there is room on the new node alone.
    assert int(min(outcomes.values()).split()[0]) >= 2
    nodes = {outcome.split()[-1] for outcome in outcomes.values()}
    assert len(nodes) == 2
    assert target not in nodes


def test_two_trials_share_a_gpu_and_a_third_one_waits(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=4, num_gpus=1)  # Ray takes our word for the GPU
    resources = Resources(gpus_per_worker=0.5)
    outcomes = driven(cluster.address, trials, meet, "abcd", tmp_path, resources)
    together, _, device, visible, *_ = min(outcomes.values()).split()
    assert (together, device, visible) == ("2", "cuda", "0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_does_not_find_is_a_failure_and_never_a_cpu(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=1, num_gpus=1)
    outcomes = driven(cluster.address, trials, compute, "a", tmp_path, Resources(gpus_per_worker=1))
    assert outcomes["a"].startswith(("RuntimeError: ", "AssertionError: "))  # of torch's builds
