"""Work for the tests on clusters: importable, since workers load it by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from tests.cluster.local_cluster import ray_processes
from tests.workers.made_up_evaluator import key, make
from tests.workers.work import Task
from workers.executors.kept import KeptPredictions
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources
from workers.protocol import Predict
from workers.ranks import place
from workers.trial import Trial, run

PATIENCE_S = 120  # a busy machine is no failure
Report = Callable[[dict[str, Any]], None]


def node_of(item: object) -> str:
    """Return the node that this runs on."""
    return str(ray.get_runtime_context().get_node_id())


def meet(trial: Task, shared: Mapping[str, Any], report: Report, device: torch.device) -> None:
    """Wait for another trial to run at the same time; end with how many do, where and on what."""
    report({"trial": trial.id, "step": 0})
    marks = Path(trial.folder) / "marks"
    marks.mkdir(exist_ok=True)
    (marks / trial.id).touch()
    limit = time.monotonic() + PATIENCE_S
    while len(list(marks.iterdir())) < 2 and time.monotonic() < limit:
        time.sleep(0.1)
    time.sleep(1)  # time for one too many
    count, gpus = len(list(marks.iterdir())), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    report({"trial": trial.id, "outcome": f"{count} on {device} {gpus} of {node_of(trial)}"})


def run_out(trial: Task, shared: Mapping[str, Any], report: Report, device: torch.device) -> None:
    """Run out of memory where the trial's id says so; of several ranks, on the last one alone."""
    report({"trial": trial.id, "step": 0})
    rank, ranks = place()
    if trial.id == "too-large" and rank == ranks - 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")
    report({"trial": trial.id, "outcome": "done"})


def compute(trial: Task, shared: Mapping[str, Any], report: Report, device: torch.device) -> None:
    """Compute on the device that the trial was given."""
    report({"trial": trial.id, "outcome": str(torch.ones(1, device=device).sum().item())})


def lose_rank(
    trial: Trial, shared: Mapping[str, Any], report: Report, device: torch.device
) -> None:
    """Run a trial of the product's, whose last rank dies once, in its third epoch."""
    _disturbed(trial, shared, report, device, os.getpid, at_rank=-1)


def lose_leader(
    trial: Trial, shared: Mapping[str, Any], report: Report, device: torch.device
) -> None:
    """Run a trial of the product's; what leads the ranks dies once, in the third epoch."""
    _disturbed(trial, shared, report, device, partial(_one, "TrainController"), at_rank=0)


def lose_queue(
    trial: Trial, shared: Mapping[str, Any], report: Report, device: torch.device
) -> None:
    """Run a trial of the product's; what passes its rows on dies once, in the third epoch."""
    _disturbed(trial, shared, report, device, partial(_one, "_QueueActor"), at_rank=0)


class LoseStarter:
    """Run a trial of the product's; the first rank that is handed this work dies of it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        titles = {pid: title for pid, _, title in ray_processes()}
        if not titles.get(os.getpid(), "").startswith("ray::RayTrainWorker"):
            return
        with suppress(FileExistsError):
            (Path(self.root) / "killed").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(
        self, trial: Trial, shared: Mapping[str, Any], report: Report, device: torch.device
    ) -> None:
        """Run the trial."""
        run(trial, shared, report, device)


def _disturbed(
    trial: Trial,
    shared: Mapping[str, Any],
    report: Report,
    device: torch.device,
    victim: Callable[[], int],
    at_rank: int,
) -> None:
    rank, ranks = place()
    mark = Path(trial.root) / "killed"

    def deadly(row: dict[str, Any]) -> None:
        # By now all ranks have passed the second epoch, and the first one has kept it.
        if row.get("step") == 3 and rank == at_rank % ranks and not mark.exists():
            mark.touch()
            os.kill(victim(), signal.SIGKILL)
        report(row)

    run(trial, shared, deadly, device)


def _one(kind: str) -> int:
    """Return the one process of a kind of actor on this node."""
    own = os.getppid()
    (found,) = [
        pid
        for pid, parent, title in ray_processes()
        if parent == own and title.startswith(f"ray::{kind}")
    ]
    return found


def predict_numbers(folder: str) -> list[int]:
    """Evaluate networks 0 to 19 by evaluators that trials would share."""
    cluster = RayCluster(Resources())
    shared = {"numbers": cluster.share(np.ones(1))}
    keep = partial(KeptPredictions, f"{folder}/study", "one", 1)
    with cluster.predictor(partial(make, folder), shared, key=key, keep=keep) as predict:
        return [int(found[0]) for found in predict([_slow(number) for number in range(20)])]


def map_numbers(folder: str) -> list[int]:
    """Evaluate networks 0 to 19, each by itself."""
    cluster = RayCluster(Resources())
    shared = {"numbers": cluster.share(np.ones(1))}
    setup = partial(make, folder)
    return list(cluster.map(_predicted, list(range(20)), setup=setup, shared=shared))


def _predicted(predict: Predict, number: int) -> int:
    return int(predict([_slow(number)])[0][0])


def _slow(number: int) -> dict[str, float]:
    return {"n": number, "sleeps": 0.3}
