"""Both executors have the same doors, and losses on a cluster are made good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

from tests.workers.work import (
    Task,
    count,
    count_for_long,
    count_once_reused,
    double,
    double_or_die,
    prepare,
)
from workers.executors import connection
from workers.executors.connection import ClusterError, cluster_nodes, connect
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.executors.work import ResourceError, Resources, check_fits, slots

Rows = list[dict[str, Any]]


@pytest.fixture(params=["serial", "ray"])
def executor(request: pytest.FixtureRequest) -> Serial | RayCluster:
    if request.param == "serial":
        return Serial(Resources())
    request.getfixturevalue("local_ray")
    return RayCluster(Resources())


def ends(rows: Rows) -> dict[str, str]:
    return {row["trial"]: row[key] for row in rows for key in ("outcome", "error") if key in row}


def test_map_keeps_the_order_and_prepares_from_shared_values(executor: Serial | RayCluster) -> None:
    shared = {"numbers": executor.share(np.ones(3))}
    results = list(executor.map(double, [1, 2, 3, 4], setup=prepare, shared=shared))
    assert [value for value, _ in results] == [3, 6, 9, 12]


def test_a_measured_target_is_one_process(executor: Serial | RayCluster) -> None:
    shared = {"numbers": executor.share(np.ones(1))}
    asked = {"CPU": 1.0}
    results = executor.map(double, [1, 2, 3], setup=prepare, shared=shared, resources=asked)
    assert len({process for _, process in results}) == 1


def test_what_a_lost_process_did_is_done_by_another(local_ray: None, tmp_path: Path) -> None:
    cluster = RayCluster(Resources())
    shared = {"numbers": cluster.share(np.ones(2))}
    items = [(number, str(tmp_path)) for number in (1, -2, 3, 4, -5)]
    assert list(cluster.map(double_or_die, items, setup=prepare, shared=shared)) == [
        2,
        -4,
        6,
        8,
        -10,
    ]


def test_trials_report_steps_and_outcomes(executor: Serial | RayCluster, tmp_path: Path) -> None:
    rows: Rows = []
    shared = {"numbers": executor.share(np.arange(4.0))}
    tasks = [Task("a", str(tmp_path)), Task("b", str(tmp_path))]
    executor.run_trials(count, tasks, shared, rows.append, folder=f"{tmp_path}/tune/search")
    assert ends(rows) == {"a": "6.0 on 1 of cpu", "b": "6.0 on 1 of cpu"}
    assert [row["step"] for row in rows if row["trial"] == "a" and "step" in row] == [0, 1, 2]


def test_no_trial_starts_after_the_time_budget(tmp_path: Path) -> None:
    rows: Rows = []
    tasks = [Task("a", str(tmp_path))]
    shared = {"numbers": np.ones(1)}
    Serial(Resources()).run_trials(count, tasks, shared, rows.append, time_budget_s=-1.0)
    assert rows == []


def test_serial_lets_exceptions_through(tmp_path: Path) -> None:
    tasks = [Task("diverges", str(tmp_path))]
    with pytest.raises(FloatingPointError, match="loss is NaN"):
        Serial(Resources()).run_trials(count, tasks, {"numbers": np.ones(1)}, lambda _: None)


def test_a_cluster_records_failures_and_replaces_lost_processes(
    local_ray: None, tmp_path: Path
) -> None:
    cluster = RayCluster(Resources(max_failures=1))
    rows: Rows = []
    names = ("diverges", "dies-once", "loses-gpu-once", "c")
    tasks = [Task(name, str(tmp_path)) for name in names]
    shared = {"numbers": cluster.share(np.ones(2))}
    cluster.run_trials(count, tasks, shared, rows.append, folder=f"{tmp_path}/tune/search")
    assert ends(rows) == {
        "diverges": "FloatingPointError: loss is NaN at step 3",
        "dies-once": "2.0 on 1 of cpu",
        "loses-gpu-once": "2.0 on 1 of cpu",
        "c": "2.0 on 1 of cpu",
    }


def test_a_trial_lost_too_often_is_an_error(local_ray: None, tmp_path: Path) -> None:
    cluster = RayCluster(Resources(max_failures=0))
    rows: Rows = []
    shared = {"numbers": cluster.share(np.ones(2))}
    tasks = [Task("dies-once", str(tmp_path))]
    cluster.run_trials(count, tasks, shared, rows.append, folder=f"{tmp_path}/tune/search")
    assert "resources.max_failures" in ends(rows)["dies-once"]


def test_a_process_lost_as_its_next_trial_starts_is_replaced(
    local_ray: None, tmp_path: Path
) -> None:
    cluster = RayCluster(Resources(max_failures=1))
    rows: Rows = []
    tasks = [Task(name, str(tmp_path)) for name in "abcdef"]
    shared = {"numbers": cluster.share(np.ones(2))}
    cluster.run_trials(
        count_once_reused, tasks, shared, rows.append, folder=f"{tmp_path}/tune/search"
    )
    assert (tmp_path / "lost").exists()
    assert ends(rows) == dict.fromkeys("abcdef", "2.0 on 1 of cpu")


def test_trials_that_the_time_budget_stops_are_not_lost(local_ray: None, tmp_path: Path) -> None:
    cluster = RayCluster(Resources(max_failures=0))
    rows: Rows = []
    tasks = [Task(name, str(tmp_path)) for name in "abcdef"]
    shared = {"numbers": cluster.share(np.ones(2))}
    folder = f"{tmp_path}/tune/search"
    cluster.run_trials(count_for_long, tasks, shared, rows.append, time_budget_s=2.0, folder=folder)
    assert ends(rows) == {}


@pytest.mark.slow
def test_sharded_training_uses_all_workers_and_replaces_a_lost_one(
    local_ray: None, tmp_path: Path
) -> None:
    cluster = RayCluster(Resources(workers=2, max_failures=1))
    rows: Rows = []
    shared = {"numbers": cluster.share(np.ones(2))}
    task = Task("dies-once", str(tmp_path), stage="pretrain")
    cluster.train_sharded(count, task, shared, rows.append, folder=f"{tmp_path}/train/pretrain")
    assert ends(rows) == {"dies-once": "2.0 on 2 of cpu"}


@pytest.mark.slow
def test_trials_of_several_workers_do_not_deadlock(local_ray: None, tmp_path: Path) -> None:
    # Two trials of two workers each, on two CPUs: a trial's driver must hold no CPU.
    cluster = RayCluster(Resources(trial_workers=2))
    rows: Rows = []
    shared = {"numbers": cluster.share(np.ones(2))}
    tasks = [Task("a", str(tmp_path)), Task("b", str(tmp_path))]
    cluster.run_trials(count, tasks, shared, rows.append, folder=f"{tmp_path}/tune/search")
    assert ends(rows) == {"a": "2.0 on 2 of cpu", "b": "2.0 on 2 of cpu"}
    assert [row["step"] for row in rows if row["trial"] == "a" and "step" in row] == [0, 1, 2]


def test_slots_count_whole_workers_on_single_nodes() -> None:
    nodes = [{"CPU": 3.0}, {"CPU": 3.0, "GPU": 1.0}]
    assert slots({"CPU": 2.0}, nodes) == 2  # not 3: a worker does not span nodes
    assert slots({"CPU": 1.0, "GPU": 0.25}, nodes) == 3


@pytest.mark.parametrize(
    ("resources", "target", "message"),
    [
        (Resources(workers=3), {}, r"resources\.workers: 3 x 1 CPU cannot run at once"),
        (Resources(trial_workers=5), {}, r"resources\.trial_workers: 5 x 1 CPU"),
        (Resources(cpus_per_worker=4), {}, r"resources\.workers: 1 x 4 CPU .* holds 0"),
        (Resources(gpus_per_worker=0.5), {}, r"1 x 1 CPU, 0\.5 GPU"),
        (Resources(workers=2, gpus_per_worker=0.5), {}, r"2 x 1 CPU, 1 GPU"),
        (Resources(), {"target_edge_cpu": 1.0}, r"latency: no node has the 1 target_edge_cpu"),
    ],
)
def test_what_can_never_run_is_refused(
    resources: Resources, target: dict[str, float], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        check_fits(resources, target, [{"CPU": 2.0}])


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=r"--address 127\.0\.0\.1:1: no Ray cluster there"):
        cluster_nodes("127.0.0.1:1")


def alive(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    found = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr("ray.nodes", lambda: [*found, {"Alive": False, "Resources": {"CPU": 99.0}}])


HEAD = {"CPU": 0.0, "node:__internal_head__": 1.0}
GPU = {"CPU": 8.0, "GPU": 1.0}


def test_nodes_that_may_start_are_counted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alive(monkeypatch, HEAD, {**GPU, "memory": 1e9}, {"target_edge_cpu": 1.0})
    groups = [NodeGroupConfig(resources={"CPU": 8, "GPU": 1}, max_count=3, name="gpu")]
    config = ClusterConfig(node_group_configs=groups)
    monkeypatch.setattr(connection.state, "get_cluster_config", lambda: config)
    # The one alive is of the group; the target joined by itself.
    assert cluster_nodes(None) == [HEAD, {"target_edge_cpu": 1.0}, GPU, GPU, GPU]


def test_a_group_without_bound_holds_what_a_study_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    alive(monkeypatch, HEAD)
    groups = [NodeGroupConfig(resources={"CPU": 4}, max_count=-1)]
    config = ClusterConfig(node_group_configs=groups)
    monkeypatch.setattr(connection.state, "get_cluster_config", lambda: config)
    check_fits(Resources(workers=64, cpus_per_worker=4), {}, cluster_nodes(None))
    with pytest.raises(ResourceError, match="5 CPU"):
        check_fits(Resources(cpus_per_worker=5), {}, cluster_nodes(None))


def test_the_nodes_of_ray_up_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    alive(monkeypatch, HEAD)
    monkeypatch.setattr(connection.state, "get_cluster_config", lambda: None)
    monkeypatch.setattr(connection, "BOOTSTRAP_FILE", "/nowhere")
    assert cluster_nodes(None) == [HEAD]
    project = Path(__file__).parents[2]
    monkeypatch.setattr(connection, "BOOTSTRAP_FILE", str(project / "cluster.yaml"))
    assert slots(Resources(gpus_per_worker=1).per_worker(), cluster_nodes(None)) == 8


def test_a_local_start_that_fails_names_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(ClusterError, match=r"^Ray does not start here: no space left$"):
        connect(None)
