"""Work for the executors' tests: importable, since workers of a cluster load it by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray.train._internal.session import get_session

from workers.trial_tags import NAMES, tagged


@dataclass(frozen=True)
class Task:
    """A trial for `count`: what it does is told by its id."""

    id: str
    folder: str
    stage: str = "search"
    attempt: int = 1


def count(
    trial: Task,
    shared: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
) -> None:
    """Report three steps and the sum of the shared array; fail or die where the id says so."""
    for step in range(3):
        report({"trial": trial.id, "step": step})
    mark = Path(trial.folder) / f"{trial.id}-died"
    if trial.id == "diverges":
        raise FloatingPointError("loss is NaN\nat step 3")
    if trial.id == "dies-once" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if trial.id == "loses-gpu-once" and not mark.exists():
        mark.touch()
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    total = float(shared["numbers"].sum())
    report({"trial": trial.id, "outcome": f"{total} on {ranks} of {device}"})


def count_for_long(
    trial: Task,
    shared: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
) -> None:
    """Report a step every tenth of a second, for a minute."""
    for step in range(600):
        report({"trial": trial.id, "step": step})
        time.sleep(0.1)


def count_once_reused(
    trial: Task,
    shared: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
) -> None:
    """Count in a process that dies, the first time, as the next trial is given to it."""
    with suppress(FileExistsError):
        (Path(trial.folder) / "lost").touch(exist_ok=False)
        session = get_session()  # which ends as the process is given to another trial
        session.finish = lambda timeout: os.kill(os.getpid(), signal.SIGKILL)
    count(trial, shared, report, device)


def double(prepared: int, item: int) -> tuple[int, int]:
    """Return a number that depends on what `setup` prepared, and the process."""
    return prepared * item, os.getpid()


def prepare(shared: Mapping[str, Any]) -> int:
    """Return what `double` multiplies with."""
    return int(shared["numbers"].sum())


def tagged_count(
    trial: Task,
    shared: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
) -> None:
    """Report two steps under tags that are the trial's own, and a number of its own name."""
    with tagged({**dict.fromkeys(NAMES, ""), "trial": trial.id, "alpha": f"of {trial.id}"}):
        for step in (1, 2):
            report({"trial": trial.id, "step": step, "steps": 2, f"loss_{trial.id}": 0.5})
        report({"trial": trial.id, "outcome": "none"})


def double_or_die(prepared: int, item: tuple[int, str]) -> int:
    """Double a number; the process dies of a negative one that it meets first, or loses its GPU."""
    number, folder = item
    if number < 0:
        with suppress(FileExistsError):
            (Path(folder) / f"died{number}").touch(exist_ok=False)
            if number % 2:
                raise torch.AcceleratorError("CUDA error: device-side assert triggered")
            os.kill(os.getpid(), signal.SIGKILL)
    return prepared * number
