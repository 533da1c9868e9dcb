"""A study as a job: submitted with Ray's own client, and a token, to a head on this machine."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator import load
from tests.orchestrator import tiny

ROOT = Path(__file__).resolve().parents[2]
START_S, JOB_S = 60, 900  # a busy machine is no failure
TINY = {
    "method.warmup_epochs": "1",
    "method.epochs": "3",
    "training.epochs": "2",
    "sweep": "[{alpha: [0.03, 0.2, 0.8, 3.0], phi: [1.1], lambda: [0.55]}]",
}
TOKEN = secrets.token_hex(32)  # of these tests alone; the user's own is not touched

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
            env={
                **os.environ,
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": TOKEN,
            },
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
            return JobSubmissionClient(address, headers={"Authorization": f"Bearer {TOKEN}"})
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


def submitted(client: JobSubmissionClient, entrypoint: str) -> str:
    """Submit a job from the project's root."""
    job: str = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(ROOT)})
    return job


def ended(
    client: JobSubmissionClient, job: str, due: Callable[[], bool] = lambda: False
) -> tuple[JobStatus, str]:
    """Return status and log of a job at its end; it is stopped once that is due."""
    deadline, stopped = time.monotonic() + JOB_S, False
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise TimeoutError(f"{job} took over {JOB_S} s:\n{client.get_job_logs(job)}")
        if not stopped and due():
            stopped = client.stop_job(job)
        time.sleep(0.2)
    return status, client.get_job_logs(job)


def finished(client: JobSubmissionClient, entrypoint: str) -> tuple[JobStatus, str]:
    """Submit a job, wait for its end, and return status and log."""
    return ended(client, submitted(client, entrypoint))


def study_command(directory: Path, **settings: object) -> str:
    """Return the line that runs the small study."""
    words = ["python", "-m", "orchestrator", "run", "prunet_digits", "--dir", str(directory)]
    return shlex.join([*words, *(f"--set={k}={value}" for k, value in (TINY | settings).items())])


@pytest.fixture(scope="module")
def undisturbed(client: JobSubmissionClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that a job left which nobody stopped."""
    directory = tmp_path_factory.mktemp("runs") / "digits"
    status, log = finished(client, study_command(directory))
    assert status == JobStatus.SUCCEEDED, log
    return directory


def test_a_job_leaves_a_study_with_a_front(undisturbed: Path) -> None:
    study = load(str(undisturbed))
    assert study.damaged == ()
    assert study.candidates()["alpha"].dropna().unique().tolist() == [0.03, 0.2, 0.8, 3.0]
    assert study.front()
    assert all(record["test_accuracy"] is not None for record in study.front())
    assert (undisturbed / "report.html").stat().st_size > 0


def test_a_stopped_job_goes_on_when_it_is_submitted_again(
    client: JobSubmissionClient, undisturbed: Path, tmp_path: Path
) -> None:
    directory, table = tmp_path / "digits", undisturbed / "latency.parquet"
    command = study_command(directory, **{"latency.table": table})

    def searched() -> int:
        return len(list(directory.glob("results/history/search-*.parquet")))

    status, log = ended(client, submitted(client, command), due=lambda: searched() > 0)
    assert status == JobStatus.STOPPED, log
    assert 0 < searched() < 4
    assert not (directory / "selection.json").exists()
    status, log = finished(client, command)
    assert status == JobStatus.SUCCEEDED, log
    assert tiny.rows(directory) == tiny.rows(undisturbed)
    assert tiny.predictions(directory) == tiny.predictions(undisturbed)
    # Progress: the stages, and trials as they end.
    lines = log.splitlines()
    assert any(line.startswith("search: 4 points, ") for line in lines)
    assert any(line.startswith("search: t00") and " done " in line for line in lines)
    assert any(line.startswith("finish: ") and " done " in line for line in lines)


def test_nobody_submits_without_the_token(client: JobSubmissionClient) -> None:
    address = f"{client.get_address()}/api/jobs/"
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(address)
    error.value.close()
    assert error.value.code == 401


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
