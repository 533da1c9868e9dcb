"""A study on two nodes loses the one that holds a trial, then its driver, and ends as if nothing.

The small sister of `chaos`, for every day: the undisturbed study runs in one process.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.chaos import contents, difference, ended, start, write_study
from tests.cluster.local_cluster import local_cluster
from tests.orchestrator import tiny

STUDY = """\
study: two-nodes
method: {name: prunet, warmup_epochs: 1, epochs: 2, batch_size: 128}
space: {name: gpunet, preset: gpunet_8}
dataset: digits
proxy: {images: 0.3}
sweep: {alpha: [0.1, 1.0, 3.0], lambda: [0.4, 0.85]}
training: {epochs: 1, batch_size: 64}
"""
WAIT_S = 900  # a busy machine is no failure


def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true."""
    limit = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"not within {WAIT_S} s")
        time.sleep(0.05)


def test_a_study_survives_its_nodes_and_its_driver(tmp_path: Path) -> None:
    file, directory = write_study(tmp_path, STUDY), tmp_path / "disturbed"
    ended_alone = tiny.serial(file, tmp_path / "undisturbed")
    assert (ended_alone.code, ended_alone.err) == (0, "")
    with local_cluster({"num_cpus": 1}, num_cpus=1) as cluster:

        def trials_on(node: int) -> bool:
            return any(each.is_trial and each.node == node for each in cluster.processes())

        driver = start(file, directory, cluster.address)
        try:
            (lost,) = cluster.nodes
            until(lambda: trials_on(lost) or driver.poll() is not None)
            cluster.kill_node(lost)
            joined = cluster.add_node(num_cpus=1)
            until(lambda: trials_on(joined) or driver.poll() is not None)
            assert driver.poll() is None, "the study ended before a trial came to the new node"
        finally:
            driver.kill()
            code = driver.wait()
        assert code == -signal.SIGKILL
        assert not (directory / "report.html").exists()
        assert ended(start(file, directory, cluster.address)) == 0
    assert difference(contents(tmp_path / "undisturbed"), directory) is None
