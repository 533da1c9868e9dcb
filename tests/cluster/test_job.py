"""A study as a job: submitted with Ray's own client to a head that runs on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator import load

ROOT = Path(__file__).resolve().parents[2]
START_S, JOB_S = 60, 900  # a busy machine is no failure
TINY = {
    "method.warmup_epochs": "1",
    "method.epochs": "3",
    "training.epochs": "2",
    "sweep": "[{alpha: [0.03, 0.8], phi: [1.1], lambda: [0.55]}]",
}

pytestmark = pytest.mark.slow


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; all are held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="module")
def client(
    short_tmp: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JobSubmissionClient]:
    """A client of a head with ports and files of its own, which ends with the module.

    `ray stop` would end every Ray of this user, so the process group is ended by its number.
    """
    gcs, dashboard, agent, ray_client = free_ports(4)
    binaries = Path(sys.executable).parent
    log = tmp_path_factory.mktemp("head") / "log.txt"
    with log.open("wb") as out:
        head = subprocess.Popen(
            [
                *(binaries / "ray", "start", "--head", "--block", "--num-cpus=2"),
                *(f"--port={gcs}", f"--ray-client-server-port={ray_client}"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
                *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={short_tmp / 'head'}"),
            ],
            cwd=log.parent,
            env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield connected(f"http://127.0.0.1:{dashboard}", head, log)
    finally:
        end(head)


def connected(address: str, head: subprocess.Popen[bytes], log: Path) -> JobSubmissionClient:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and head.poll() is None:
        try:
            return JobSubmissionClient(address)
        except (ConnectionError, RuntimeError):
            time.sleep(0.5)
    raise RuntimeError(f"no head at {address}: {log.read_text()}")


def end(head: subprocess.Popen[bytes]) -> None:
    head.send_signal(signal.SIGTERM)  # `ray start --block` then ends what it started
    try:
        head.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()


def finished(client: JobSubmissionClient, entrypoint: str) -> tuple[JobStatus, str]:
    """Submit a job from the project's root, wait for its end, and return status and log."""
    job = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(ROOT)})
    deadline = time.monotonic() + JOB_S
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise TimeoutError(f"{job} took over {JOB_S} s:\n{client.get_job_logs(job)}")
        time.sleep(1)
    return status, client.get_job_logs(job)


def test_a_job_leaves_a_study_with_a_front(client: JobSubmissionClient, tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "digits"
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    command = ["python", "-m", "orchestrator", "run", "prunet_digits", "--dir", str(directory)]
    status, log = finished(client, shlex.join([*command, *settings]))
    assert status == JobStatus.SUCCEEDED, log
    study = load(str(directory))
    assert study.damaged == ()
    assert study.candidates()["alpha"].dropna().unique().tolist() == [0.03, 0.8]
    assert study.front()
    assert all(record["test_accuracy"] is not None for record in study.front())
    assert (directory / "report.html").stat().st_size > 0


def test_a_jobs_own_folder_is_refused(client: JobSubmissionClient) -> None:
    command = "python -m orchestrator run prunet_digits --dir runs/digits"
    status, log = finished(client, command)
    assert status == JobStatus.FAILED
    assert "--dir runs/digits" in log
    assert "thrown away" in log


def test_a_job_carries_the_code_and_little_else(client: JobSubmissionClient) -> None:
    status, log = finished(client, "ls -A")
    assert status == JobStatus.SUCCEEDED
    carried = set(log.splitlines())
    assert {"search_spaces", "cost_models", "workers", "orchestrator"} <= carried
    left_out = {".git", ".venv", "runs", "mlruns", "data", "tests", "docs", "benchmarks"}
    assert carried & left_out == set()
