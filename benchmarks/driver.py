"""What the driver costs: short trials through the product's own driver, beside Tune's own loop.

    python benchmarks/driver.py [--trials 1000] [--slots 8] [--seconds 1] [--only product]

A trial sleeps and leaves one candidate that is made up. The product runs trials by
`RayCluster.run_trials`, publishes every outcome and brings an MLflow database (SQLite) up to date;
Tune alone runs the same sleep and writes nothing of ours. Time counts from where the first
processes are up; ideal is trials x seconds / slots.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from rich.console import Console

from orchestrator import publish, tracking
from orchestrator.config import load_config
from orchestrator.loading import load
from orchestrator.plan import checked
from orchestrator.results import Results
from orchestrator.telemetry import Telemetry
from orchestrator.under_way import Rows, Run
from orchestrator.view import View
from search_spaces.base import sample
from workers.executors.connection import ENVIRONMENT
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources, Row
from workers.storage import Storage
from workers.trial import Trial, build_space, to_bytes
from workers.trial_tags import tagged

STUDY = ("random_digits", ["cost=macs", "method.num_candidates=1"])
WATCHED = (100, 500, 1000, 2000, 3000)  # numbers of ended trials at which memory is looked at


def main() -> None:
    """Print the wall clock of both over the ideal, and the driver's memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8, help="CPUs that Ray is told to have")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a trial")
    parser.add_argument("--only", choices=("product", "tune"))
    arguments = parser.parse_args()
    ideal_s = arguments.trials * arguments.seconds / arguments.slots
    ray.init(
        num_cpus=arguments.slots,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": ENVIRONMENT},
    )
    print(f"{arguments.trials} trials of {arguments.seconds} s on {arguments.slots} slots")
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.only != "tune":
            watch = product(f"{scratch}/runs/driver", arguments.trials, arguments.seconds)
            watch.show("product, trials and results", ideal_s, watch.ended)
            watch.show("product, MLflow too", ideal_s, watch.tracked)
            watch.show_memory()
        if arguments.only != "product":
            watch = bare(f"{scratch}/tune", arguments.trials, arguments.seconds)
            watch.show("Tune alone", ideal_s, watch.ended)
            watch.show_memory()


class Watch:
    """Notes when trials end and, after some of them, how large this process is."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.up = self.ended = self.tracked = 0.0
        self.count = 0
        self.memory_mib: dict[int, float] = {}

    def tick(self) -> None:
        """Note the end of a trial; the first one began when its process was up."""
        self.ended = time.perf_counter()
        self.up = self.up or self.ended - self.seconds
        self.count += 1
        if self.count in WATCHED:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory_mib[self.count] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def show(self, what: str, ideal_s: float, end: float) -> None:
        """Print the time up to an end."""
        wall_s = end - self.up
        print(f"{what}: {wall_s:.1f} s, {100 * (wall_s / ideal_s - 1):+.0f} % over {ideal_s:.1f} s")

    def show_memory(self) -> None:
        """Print how large this process was."""
        for count, size in self.memory_mib.items():
            print(f"  the driver's memory after {count} trials: {size:.0f} MiB")


def product(directory: str, trials: int, seconds: float) -> Watch:
    """Run trials as a study does, in whatever Ray there is."""
    config = checked(load_config(*STUDY))
    storage, watch = Storage(directory), Watch(seconds)
    storage.write_bytes("study.yaml", json.dumps(config.as_dict()).encode())  # JSON is YAML
    telemetry = Telemetry(config.study, config.cost, np.empty((0, 2)))
    run = Run(
        config=config,
        storage=storage,
        results=Results(storage, told=telemetry.candidate),
        executor=RayCluster(Resources()),
        view=View(Console(quiet=True)),
        space=build_space(config.as_dict()),
        attempt=1,
        telemetry=telemetry,
    )

    def end(trial: Trial, outcome: Mapping[str, Any]) -> None:
        publish.searched(run.results, config, run.space, None, trial, outcome)
        watch.tick()

    pending = [run.trial(f"t{i:04d}", "search", point={"seed": i}) for i in range(trials)]
    rows = Rows(run, pending, end)
    work = partial(nap, seconds)
    with tracking.following(directory):
        run.executor.run_trials(work, pending, {}, rows, folder=run.folder("search"))
    rows.check()
    warning = tracking.sync(load(directory))
    if warning or rows.failures:
        raise RuntimeError(warning or f"failed: {rows.failures}")
    watch.tracked = time.perf_counter()
    return watch


def nap(
    seconds: float,
    trial: Trial,
    shared: Mapping[str, Any],
    report: Callable[[Row], None],
    device: torch.device,
) -> None:
    """Sleep, then leave a candidate as a search does."""
    with tagged(trial.tags):
        time.sleep(seconds)
        rng = random.Random(trial.seed)
        found = {
            "architecture": sample(build_space(trial.study), rng),
            "metrics": {"val_accuracy": rng.random()},
            "predictions": {},
            "weights": None,
        }
        step = {"step": 1, "loss": rng.random()}
        contents = {"candidates": [found], "history": [step], "seconds": seconds, "state": None}
        Storage(trial.root).write_bytes(trial.path("outcome"), to_bytes(contents))
        report({"trial": trial.id, "steps": 1, **step})
        report({"trial": trial.id, "outcome": trial.path("outcome")})


def bare(folder: str, trials: int, seconds: float) -> Watch:
    """Run as many sleeps in Tune, which reuses its actors, too."""
    watch = Watch(seconds)

    def trial(settings: dict[str, Any]) -> None:
        time.sleep(seconds)
        tune.report({"loss": settings["number"]})

    class Ends(tune.Callback):
        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            watch.tick()

    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="bare", storage_path=folder, verbose=0, callbacks=[Ends()]),
    )
    tuner.fit()
    return watch


if __name__ == "__main__":
    main()
