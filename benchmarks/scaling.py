"""How pretraining scales on this machine: more workers, each with as much to do, and their threads.

    python benchmarks/scaling.py [--images 256] [--steps 40] [--epochs 4] [--repeats 3]

PruNet's supernet for images of 28 pixels trains on random ones, from the executor's own door, with
Ray Train. Weak scaling sets two workers of one thread against one worker of one thread, at equal
images a worker. Oversubscription sets those two workers against two of as many threads as there are
cores, which is what torch takes if nobody tells it. Settings take turns; the best turn of each
counts. A rate is that of the steps (loading, training, averaging over workers) after the first
epoch; process starts do not count.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from cost_models.latency_table import LatencyTable, Timing
from orchestrator.config import load_config
from workers.datasets import Data
from workers.datasets.base import TensorSplit, to_arrays
from workers.executors.connection import ENVIRONMENT
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources, Row
from workers.trial import Trial, build_space
from workers.trial import run as run_trial

CORES = os.cpu_count() or 1
WANTED = 1.5  # of 2 workers, in rates of one


@dataclass(frozen=True)
class Setting:
    """Workers, and the threads that each computes with; Ray counts a thread as a CPU."""

    workers: int
    threads: int

    def __str__(self) -> str:
        """Return the setting as the table shows it."""
        return f"{self.workers} worker(s) x {self.threads} thread(s)"


def main() -> None:
    """Print the rate of every setting, and what follows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="of a worker, in each step")
    parser.add_argument("--steps", type=int, default=40, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    alone, pair, crowd = Setting(1, 1), Setting(2, 1), Setting(2, CORES)
    ray.init(
        "local",
        num_cpus=2 * CORES,  # room for the crowd: Ray takes our word for it
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": ENVIRONMENT},
    )
    rates: dict[Setting, list[float]] = {alone: [], pair: [], crowd: []}
    for _ in range(arguments.repeats):
        for setting, found in rates.items():
            found.append(rate(setting, arguments.images, arguments.steps, arguments.epochs))
            print(f"{setting}: {found[-1]:,.0f} images/s", flush=True)
    best = {setting: max(found) for setting, found in rates.items()}
    print(f"\n{CORES} cores, {arguments.images} images a worker, best of {arguments.repeats}")
    for setting, images_s in best.items():
        print(f"{setting}: {images_s:>8,.0f} images/s")
    print(f"weak scaling: {best[pair] / best[alone]:.2f}x (wanted: {WANTED}x)")
    print(f"one thread a worker / a thread per core: {best[pair] / best[crowd]:.2f}x")


def rate(setting: Setting, images: int, steps: int, epochs: int) -> float:
    """Pretrain, and return the images a second of all workers together."""
    batch = images * setting.workers
    study = study_of(setting, batch, epochs)
    executor = RayCluster(Resources(workers=setting.workers, cpus_per_worker=setting.threads))
    arch_fraction = study["method"]["arch_fraction"]
    # A share of the images trains the architecture, which warm-up leaves alone.
    data = made_up_data(round((steps + 0.5) * batch / (1 - arch_fraction)))
    space = build_space(study)
    entries = {block.key: Timing(1.0, 0.1) for block in space.all_blocks()}
    table = LatencyTable("made up", "onnxruntime", "0", 1, 1, "float32", 1.0, entries)
    shared = {"data": executor.share(to_arrays(data)), "table": table.to_bytes(), "start": None}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root:
        trial = Trial("supernet", "pretrain", study, root, attempt=1)
        executor.train_sharded(run_trial, trial, shared, rows.append, f"{root}/train/pretrain")
    return images_per_second([row for row in rows if "step_ms" in row], batch)


def study_of(setting: Setting, batch: int, epochs: int) -> dict[str, Any]:
    """Return a ready study's settings, with this batch over all workers."""
    settings = [f"method.batch_size={batch}", f"method.warmup_epochs={epochs}", "proxy={}"]
    asked = [f"resources.workers={setting.workers}", f"resources.cpus_per_worker={setting.threads}"]
    study = load_config("prunet_fashion_mnist", [*settings, *asked]).as_dict()
    study["space"] |= {"in_shape": [1, 28, 28], "num_classes": 10}
    return study


def made_up_data(images: int) -> Data:
    """Return random images in the shape of Fashion-MNIST's."""
    draws = torch.Generator().manual_seed(0)
    splits = [
        TensorSplit(
            torch.randint(0, 256, (size, 1, 28, 28), generator=draws, dtype=torch.uint8),
            torch.randint(0, 10, (size,), generator=draws),
        )
        for size in (images, 1, 1)
    ]
    return Data("random", *splits, 10, (0.5,), (0.29,))


def images_per_second(rows: Sequence[Row], batch: int) -> float:
    """Return the mean rate of the epochs after the first, from the mean time of their steps."""
    steps_ms = {row["step"]: row["step_ms"] for row in rows if row["step"] > 1}
    return 1000 * batch * len(steps_ms) / sum(steps_ms.values())


if __name__ == "__main__":
    main()
