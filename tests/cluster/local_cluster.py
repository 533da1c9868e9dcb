"""A cluster of several nodes on this machine: real raylets, which join, are killed, and are seen.

Nothing of another Ray on this machine is touched: processes are found below the cluster's own
raylets, and ended by their numbers. Linux only: it reads /proc.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest import mock

P = ParamSpec("P")
Result = TypeVar("Result")

TRIAL = "ray::ImplicitFunc"  # how Ray names the actor of a trial
AT_REST = ("ray::IDLE", "ray::SPILL", "ray::RESTORE")
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass(frozen=True)
class Process:
    """A process that computes or waits for a driver, and the number of its node; the head is 0."""

    pid: int
    node: int
    title: str

    @property
    def is_trial(self) -> bool:
        """Whether it is a trial's actor."""
        return self.title.startswith(TRIAL)

    def kill(self) -> None:
        """End it without a word; it may be gone already."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class LocalCluster:
    """Nodes on the loopback interface; the first one is the head, where drivers connect.

    Args:
        folder: for Ray's files; its path is short, since sockets' names may not be long.
        head: what the head offers, in the words of `ray start`.
    """

    def __init__(self, folder: Path, **head: Any) -> None:
        from ray.cluster_utils import Cluster  # here, so that the environment is set before

        settings = {
            "include_dashboard": False,
            "temp_dir": str(folder),
            # Else workers starve beside whatever runs on this machine.
            "_system_config": {"worker_niceness": 0},
        }
        # Else every Ray of this user that is given no address would come here.
        with mock.patch("ray._private.utils.write_ray_address"):
            self._cluster = Cluster(initialize_head=True, head_node_args=settings | head)
        self._nodes = {0: self._cluster.head_node}

    @property
    def address(self) -> str:
        """What `--address` takes."""
        return str(self._cluster.address)

    @property
    def nodes(self) -> list[int]:
        """The numbers of the nodes that are alive, without the head."""
        return [number for number in self._nodes if number]

    def add_node(self, **offers: Any) -> int:
        """Start a node that offers so much (`num_cpus`, `num_gpus`, `resources`)."""
        number = max(self._nodes) + 1
        self._nodes[number] = self._cluster.add_node(**offers)
        return number

    def kill_node(self, number: int) -> None:
        """Kill a node's raylet without a word; all that ran there dies with it."""
        node = self._nodes.pop(number)
        os.kill(_raylet(node), signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)  # reaps what is left

    def processes(self) -> list[Process]:
        """Return the processes of all nodes that were given something to do."""
        numbers = {_raylet(node): number for number, node in self._nodes.items()}
        return [
            Process(pid, numbers[parent], title)
            for pid, parent, title in ray_processes()
            if parent in numbers and not title.startswith(AT_REST + AGENTS)
        ]

    def close(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def local_cluster(*nodes: Mapping[str, Any], **head: Any) -> Iterator[LocalCluster]:
    """Yield a cluster of a head and further nodes, which ends afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    cluster = LocalCluster(folder, **head)
    try:
        for offers in nodes:
            cluster.add_node(**offers)
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def driver() -> ProcessPoolExecutor:
    """Return what calls functions in a process of its own: one process drives one cluster only."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"))


def driven(address: str, fn: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Call a function in a process of its own that is connected to the cluster."""
    with driver() as process:
        process.submit(connect, address).result()
        return process.submit(fn, *args, **kwargs).result()


def connect(address: str) -> None:
    """Connect this process to a cluster, as the product does."""
    from workers.executors import connection

    connection.connect(address)


def _raylet(node: Any) -> int:
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def ray_processes() -> Iterator[tuple[int, int, str]]:
    """Yield number, parent's number and title of this machine's Ray processes."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                title = (folder / "cmdline").read_bytes().decode(errors="replace").strip("\0 ")
                stat = (folder / "stat").read_text()
            except OSError:
                continue  # it just ended
            if title.startswith("ray::"):
                yield int(folder.name), int(stat.rpartition(")")[2].split()[1]), title
