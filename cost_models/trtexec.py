"""TensorRT, through the `trtexec` on the PATH: FP16 as in the PruNet paper, timed on the GPU.

trtexec builds an engine (seconds for a block), calls it for a second on its own, and prints
statistics of the GPU's time, from which median and quartiles are taken. Options and output are
those of TensorRT 8.5 to 10; later ones have no `--fp16`, and the error says so.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import nn

from cost_models.backends import Backend, BackendError, Work
from cost_models.latency_table import Timing
from cost_models.onnx_export import to_onnx

OPTIONS = (
    "--fp16",
    "--noDataTransfers",
    "--useCudaGraph",
    "--useSpinWait",  # the three are NVIDIA's advice for stable figures
    "--duration=1",
    "--percentile=25,75",
)
PATTERNS = {
    "Selected Device": r"Selected Device: (.+)",
    "TensorRT version": r"TensorRT version: (\S+)",
    "GPU Compute Time": (
        r"GPU Compute Time: .*median = (\S+) ms, percentile\(25%\) = (\S+) ms,"
        r" percentile\(75%\) = (\S+) ms"
    ),
}
ERROR = re.compile(r"\[E\] (.+)")


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of trtexec tells: where and by which version it ran, and how long calls took."""

    device: str
    version: str
    timing: Timing


def parse(log: str) -> Report:
    """Return what a log of trtexec with `OPTIONS` tells.

    Raises:
        BackendError: it lacks a line, as after a failure; names its first error, or the line.
    """
    found = {name: re.search(pattern, log) for name, pattern in PATTERNS.items()}
    device, version, times = found.values()
    if device is None or version is None or times is None:
        missing = next(name for name, match in found.items() if match is None)
        raise BackendError(f"backend: 'trtexec' failed: {_reason(log, missing)}")
    median_us, low_us, high_us = (1e3 * float(time_ms) for time_ms in times.groups())
    return Report(device[1].strip(), version[1], Timing(median_us, high_us - low_us))


def _reason(log: str, missing: str) -> str:
    """Return the first error: those after it are its consequences, "Engine set up failed" last."""
    if error := ERROR.search(log):
        return error[1].strip()
    last = log.strip().rpartition("\n")[2]
    return f"its output has no line {missing!r}, and ends {last!r}"


def _run(work: Work, repeats: int) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        model.write_bytes(to_onnx(work.module, work.shape[1:], work.shape[0]))
        command = ["trtexec", f"--onnx={model}", f"--iterations={repeats}", *OPTIONS]
        try:
            ended = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
        except FileNotFoundError as error:
            raise BackendError(
                "backend: 'trtexec' needs TensorRT's trtexec; there is none on the PATH"
            ) from error
    return parse(ended.stdout)


def _time(works: Sequence[Work], threads: int, repeats: int) -> list[Timing]:
    del threads  # the GPU's own
    return [_run(work, repeats).timing for work in works]


@cache
def _here() -> Report:
    """Run the smallest network for the name of the device and the version."""
    return _run(Work(nn.ReLU(), (1, 1, 4, 4)), repeats=1)


TRTEXEC = Backend(
    _time,
    version=lambda: _here().version,
    device=lambda: _here().device,
    dtype="float16",
    uses_gpu=True,
)
