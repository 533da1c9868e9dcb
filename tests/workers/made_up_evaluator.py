"""A predictor for the executors' tests: it logs what it evaluates, and fails or dies when told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workers.protocol import Predict

Architecture = dict[str, Any]


def key(architecture: Architecture) -> str:
    """Tell networks apart."""
    return str(architecture["n"])


def make(folder: str, shared: Mapping[str, Any]) -> Predict:
    """Return what predicts n, n + the shared number, ...; every evaluation adds a byte to a file.

    Networks that have the key "fails" fail; "dies" says how many processes die of a network.
    """

    def predict(architectures: Sequence[Architecture]) -> list[torch.Tensor]:
        return [_predicted(folder, shared, architecture) for architecture in architectures]

    return predict


def _predicted(folder: str, shared: Mapping[str, Any], architecture: Architecture) -> torch.Tensor:
    number, deaths = architecture["n"], len(list(Path(folder).glob("died-*")))
    with (Path(folder) / str(number)).open("ab") as log:
        log.write(b".")
    time.sleep(architecture.get("sleeps", 0))
    if deaths < architecture.get("dies", 0):
        (Path(folder) / f"died-{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "fails" in architecture:
        raise ValueError(f"network {number}: it fails")
    step = int(shared["numbers"].sum())
    return torch.arange(number, number + 3 * step, step, dtype=torch.int16)


def evaluations(folder: Path) -> dict[int, int]:
    """Return how often each network was evaluated."""
    return {int(path.name): path.stat().st_size for path in folder.glob("[0-9]*")}


def ask(
    trial: Any,
    shared: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
) -> None:
    """Run a trial that asks for networks 0 to 7 and reports the sum of the answers."""
    predictions = shared["predict"]([{"n": n, "sleeps": 0.1} for n in range(8)])
    total = sum(int(predicted_N.sum()) for predicted_N in predictions)
    report({"trial": trial.id, "outcome": f"{total} on {device}"})
