"""Reaching a Ray cluster, and what its nodes have."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import torch
from ray._private import ray_constants
from ray._private.state import state
from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
from ray.util import get_node_ip_address
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ruamel.yaml import YAML

from workers.datasets import data_root
from workers.errors import InputError
from workers.executors.work import slots

HEAD = "node:__internal_head__"
BOOTSTRAP_FILE = "~/ray_bootstrap_config.yaml"  # where `ray up` puts it
MOST_NODES = 1000  # counted of one group: its bound may be none, or 2^31
CONNECT_TIMEOUT_S = 10

ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # for the Train tab of Ray's dashboard
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report waits for this poll
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # TensorBoard's alone is put back
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C interrupts the study, not one experiment
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class ClusterError(InputError):
    """The cluster cannot be reached, or cannot hold what a study asks for."""


def connect(address: str | None) -> bool:
    """Connect to the cluster at an address, or start one on this machine; True if it was new.

    Raises:
        ClusterError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return False
    if address:
        _knock(address)
    else:
        _stay_on_loopback()
    os.environ.update(ENVIRONMENT)
    # The nodes of a cluster know where their data are; local workers are told where ours are.
    told = ENVIRONMENT | ({} if address else {"PARETORAY_DATA": str(data_root())})
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            configure_logging=False,
            runtime_env={"env_vars": told},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        where = (
            f"--address {address}: no Ray cluster there" if address else "Ray does not start here"
        )
        raise ClusterError(f"{where}: {reason}") from error
    return True


def _stay_on_loopback() -> None:
    """Let a Ray that starts here listen on the loopback interface alone, as it does on macOS."""
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for the processes that it starts
    ray_constants.ENABLE_RAY_CLUSTER = False


def _knock(address: str) -> None:
    """Refuse an address where nobody listens: Ray would try for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # "auto", say
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterError(f"--address {address}: no Ray cluster there: {error}") from error


def cluster_nodes(address: str | None) -> list[dict[str, float]]:
    """Return what each node of a cluster has; for a local one without starting it.

    Where an autoscaler starts nodes, all that it may start are counted, alive or not.

    Raises:
        ClusterError: there is no cluster at the address.
    """
    if address is None and not ray.is_initialized():
        return [{"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}]
    connect(address)
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return with_startable([node["Resources"] for node in alive], _node_groups())


def blind_nodes(path: Path, asked: Mapping[str, float]) -> list[str]:
    """Return the addresses of nodes, alive now, that do not see a file of this machine.

    Args:
        path: the file's.
        asked: what a worker asks for. Only the head and the nodes that can hold a worker write into
            a study's directory, and are asked.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = [n for n in alive if HEAD in n["Resources"] or slots(asked, [n["Resources"]])]
    if [node["NodeManagerAddress"] for node in nodes] == [get_node_ip_address()]:  # type: ignore[no-untyped-call]
        return []
    task = ray.remote(num_cpus=0)(os.path.exists)  # nothing of ours, whose import takes seconds
    placed = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    asking = [task.options(scheduling_strategy=place).remote(str(path)) for place in placed]
    pairs = zip(nodes, map(_unless_lost, asking), strict=True)
    return sorted({node["NodeManagerAddress"] for node, sees in pairs if not sees})


def _unless_lost(answer: ray.ObjectRef[bool]) -> bool:
    """Return a node's answer; yes for one that was lost a moment ago, which Ray notices late."""
    try:
        return ray.get(answer)
    except (TaskUnschedulableError, NodeDiedError, WorkerCrashedError):
        return True


@dataclass(frozen=True)
class NodeGroup:
    """Equal nodes that an autoscaler may start: what each has, and how many (-1: any number)."""

    resources: Mapping[str, float]
    max_count: int


def with_startable(
    alive: Sequence[Mapping[str, float]], groups: Sequence[NodeGroup]
) -> list[dict[str, float]]:
    """Return every node that groups may have, and those alive that belong to no group."""
    others = [dict(node) for node in alive if not any(_is_of(node, group) for group in groups)]
    startable = [
        {kind: float(amount) for kind, amount in group.resources.items()}
        for group in groups
        for _ in range(MOST_NODES if group.max_count < 0 else min(group.max_count, MOST_NODES))
    ]
    return others + startable


def _is_of(node: Mapping[str, float], group: NodeGroup) -> bool:
    if HEAD in node or not group.max_count:
        return False
    kinds = group.resources.keys() - {"memory", "object_store_memory"}  # these vary a little
    return all(node.get(kind, 0) == group.resources[kind] for kind in kinds)


def _node_groups() -> list[NodeGroup]:
    """Return what the autoscaler may start; no public call tells this.

    Autoscalers outside Ray report it to the cluster; `ray up` leaves a file on the head.
    """
    config = state.get_cluster_config()
    if config is not None:
        return [NodeGroup(dict(g.resources), g.max_count) for g in config.node_group_configs]
    path = Path(BOOTSTRAP_FILE).expanduser()
    if not path.is_file():
        return []
    found = YAML(typ="safe", pure=True).load(path.read_text())
    most = found.get("max_workers", -1)
    return [
        NodeGroup(kind.get("resources", {}), kind.get("max_workers", most))
        for name, kind in found["available_node_types"].items()
        if name != found["head_node_type"]
    ]
