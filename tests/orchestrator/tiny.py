"""A study of seconds, and the command run on it in a process of its own, which may be killed.

The processes are forked from a server that has imported everything once: importing torch, Ray and
MLflow takes longer than the study.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

import workers.trial
from cost_models.latency_probe import BACKENDS
from cost_models.latency_table import LatencyTable, Timing
from orchestrator import cli, latencies, load
from orchestrator.tracking import STUDY_ID
from orchestrator.tracking_target import EXPERIMENT, locate
from search_spaces.base import Block
from search_spaces.gpunet import GPUNet
from workers.storage import Storage

STUDY = """\
study: tiny
method: {name: prunet, warmup_epochs: 1, epochs: 2, batch_size: 128}
space: {name: gpunet, preset: gpunet_8}
dataset: digits
sweep: {alpha: [0.1, 3.0]}
training: {epochs: 2, batch_size: 64}
baselines: [gpunet1]
"""
MEASURED = (
    *("wall_s", "search_wall_s"),
    *("latency_measured_ms", "latency_measured_iqr_ms"),
    *("latency_batch128_ms", "latency_batch128_iqr_ms"),
)
"""What no two runs have in common."""

Change = Callable[[], None]
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["orchestrator.commands.running", "workers.trial"])


@dataclass(frozen=True)
class Ended:
    """How a command ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The last line of the errors."""
        return self.err.splitlines()[-1] if self.err else ""

    @property
    def resume(self) -> list[str]:
        """The arguments of the line that resumes the run."""
        return shlex.split(self.line.partition("resume with: paretoray ")[2])


def paretoray(
    *arguments: object, changes: Sequence[Change] = (), environment: Mapping[str, str] | None = None
) -> Ended:
    """Run the command in a process of its own, after making these changes in it."""
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch, "out"), Path(scratch, "err")
        words = [str(argument) for argument in arguments]
        given = {**os.environ, **(environment or {})}
        process = _PROCESSES.Process(target=_child, args=(words, given, out, err, changes))
        process.start()
        process.join()
        code = process.exitcode
        assert code is not None
        return Ended(code, out.read_text(), err.read_text())


def serial(file: Path, directory: Path, *more: object, **options: Any) -> Ended:
    """Run a study without Ray."""
    return paretoray("run", file, "--dir", directory, "--executor", "serial", *more, **options)


def write_study(path: Path, table: Path | None = None, more: str = "") -> Path:
    """Write the study to a file, with the latency table that it uses."""
    path.write_text(STUDY + more + (f"latency: {{table: {table}}}\n" if table else ""))
    return path


def blocks() -> list[Block]:
    """Return every block of the study's space."""
    return list(GPUNet(GPUNet.Config(preset="gpunet_8")).all_blocks())


def made_up_table(measured: Iterable[Block]) -> LatencyTable:
    """Return latencies that grow with the blocks' weights, and depend on nothing else."""
    entries = {}
    for block in measured:
        weights = sum(weight.numel() for weight in block.build().parameters())
        entries[block.key] = Timing(1 + weights / 2000, 0.1)
    device = BACKENDS["onnxruntime"].device()  # else finished networks would not be measured
    return LatencyTable(device, "onnxruntime", "0", 1, 1, "float32", 1.0, entries)


def rows(directory: Path) -> list[dict[str, Any]]:
    """Return the candidates without what no two runs have in common."""
    return [
        {key: value for key, value in record.items() if key not in MEASURED}
        for record in load(str(directory)).records
    ]


def predictions(directory: Path) -> list[dict[str, Any]]:
    """Return the predicted classes of every candidate and split."""
    found: list[dict[str, Any]] = load(str(directory)).tables["predictions"].to_pylist()
    return found


def mlflow_runs(directory: Path) -> list[Run]:
    """Return the study's runs, its own among them."""
    client = MlflowClient(tracking_uri=locate(str(directory)).uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    study_id = (directory / "mlflow_id").read_text()
    return list(client.search_runs([experiment.experiment_id], f"tags.`{STUDY_ID}` = '{study_id}'"))


def files(directory: Path) -> dict[str, int]:
    """Return when each file was last written."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def checkpoint_always() -> None:
    """Let trials checkpoint every epoch, however short."""
    workers.trial.CHECKPOINT_EVERY_S = -1.0


def measure_made_up(log: Path) -> None:
    """Let the measure stage make latencies up, and log which blocks it measured."""

    def probe(measured: Sequence[Block], **settings: Any) -> LatencyTable:
        with log.open("a") as file:
            file.writelines(f"{block.key}\n" for block in measured)
        return made_up_table(measured)

    latencies.measure = probe


def measure_elsewhere() -> None:
    """Let the measure stage make latencies up, on another device than `made_up_table`."""

    def probe(measured: Sequence[Block], **settings: Any) -> LatencyTable:
        return dataclasses.replace(made_up_table(measured), device="another")

    latencies.measure = probe


def die_after(start: str, number: int = signal.SIGKILL) -> Change:
    """Send the process a signal once it has written the first file whose path starts like this."""
    return partial(_die_after, start, number)


def die_amid(start: str) -> Change:
    """Kill the process while such a file is written but not yet renamed."""
    return partial(_die_amid, start)


def die_logging(calls: int) -> Change:
    """Kill the process amid its talk with MLflow."""
    return partial(_die_logging, calls)


def limit_files(size: int) -> Change:
    """Refuse bytes of a file beyond this size, as a full disk does."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


def _child(
    arguments: list[str],
    environment: Mapping[str, str],
    out: Path,
    err: Path,
    changes: Sequence[Change],
) -> None:
    # A shell that runs tests in the background has them ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["paretoray", *arguments]
    for change in changes:
        change()
    cli.main()


def _die_after(start: str, number: int) -> None:
    write = Storage.write_bytes

    def fatal(self: Storage, path: str, data: bytes) -> None:
        write(self, path, data)
        if path.startswith(start):
            os.kill(os.getpid(), number)

    Storage.write_bytes = fatal  # type: ignore[method-assign]


def _die_amid(start: str) -> None:
    replace = Path.replace

    def fatal(self: Path, target: Path) -> Path:
        if f"/{start}" in str(target):
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = fatal  # type: ignore[assignment,method-assign]


def _die_logging(calls: int) -> None:
    log, left = MlflowClient.log_batch, iter(range(calls))

    def fatal(*args: Any, **settings: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return log(*args, **settings)

    MlflowClient.log_batch = fatal
