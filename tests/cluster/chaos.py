"""Kill what a study runs on, at random, and hold what it ends with against the undisturbed study.

    python -m tests.cluster.chaos --runs 30 --first-seed 0 [--kinds worker actor raylet driver]
        [--dir FOLDER]

The study is one of PruNet with 21 trials on three nodes of one CPU each; its pretraining has two
workers. A run's seed decides when something is killed and whom it hits; where nothing of the kind
is there, the next one that comes is hit. A killed driver is started again, a killed node stays
away until the run has ended. The exit code is 1 if any run ends otherwise than the undisturbed one.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import load
from tests import conftest  # its import sets the environment
from tests.cluster.local_cluster import TRIAL, LocalCluster, local_cluster
from tests.orchestrator import tiny

STUDY = """\
study: chaos
method: {name: prunet, warmup_epochs: 2, epochs: 1, batch_size: 128}
space: {name: gpunet, preset: gpunet_8}
dataset: digits
proxy: {images: 0.1}
sweep:
  alpha: [0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.055, 0.06,
          0.065, 0.07, 0.075, 0.08, 0.085, 0.09, 0.095, 0.1, 0.11, 0.12]
training: {epochs: 1, batch_size: 64}
resources: {workers: 2}
"""
KINDS = ("worker", "actor", "raylet", "driver")
STAGES = ("pretrain:", "search:", "select:", "finish:", "report")
WORKERS = ("ray::RayTrainWorker", "ray::_Process")
NODES = 2  # beside the head
LIMIT_S = 900  # a study that takes longer hangs
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Kill:
    """What is killed in a run, and how long after its start; the seed also decides whom it hits.

    A `worker` is a process that pretrains, evaluates or measures (what leads pretraining, and what
    passes its rows on, are killed in test_failures); an `actor` a trial's process; a `raylet` a
    whole node that runs something; the `driver` the command itself.
    """

    kind: str
    seed: int
    at_s: float = 0.0


@dataclass(frozen=True)
class Ending:
    """How a run ended: what was killed amid which stage, and what is wrong with the result."""

    killed: str | None
    stage: str
    seconds: float
    problem: str | None


def main() -> None:
    """Print a line for the undisturbed study and for every run, and a table of them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--dir", type=Path, help="keep the studies here")
    arguments = parser.parse_args()
    root = arguments.dir or Path(tempfile.mkdtemp(prefix="chaos-"))
    root.mkdir(parents=True, exist_ok=True)
    with local_cluster(*[{"num_cpus": 1}] * NODES, num_cpus=1) as cluster:
        chaos = Chaos(cluster, root, STUDY)
        print(f"undisturbed: {chaos.undisturbed_s:.0f} s, in {root}", flush=True)
        runs = [
            chaos.disturbed(arguments.kinds[index % len(arguments.kinds)], seed)
            for index, seed in enumerate(
                range(arguments.first_seed, arguments.first_seed + arguments.runs)
            )
        ]
    show(runs)
    sys.exit(any(ending.problem for _, ending in runs))


class Chaos:
    """A study on a cluster, and what it ends with if nothing happens.

    Args:
        cluster: where it runs.
        root: the folder of its runs.
        study: its YAML, without the latency table, which is made up.

    Raises:
        RuntimeError: even undisturbed it does not end well.
    """

    def __init__(self, cluster: LocalCluster, root: Path, study: str) -> None:
        self.cluster, self.root = cluster, root
        self.nodes = len(cluster.nodes)
        self.file = write_study(root, study)
        self.expected: dict[str, Any] = {}
        for name in ("first", "undisturbed"):  # the first one reads programs from the disk
            ending = self.run(name)
            if ending.problem:
                raise RuntimeError(f"the undisturbed study: {ending.problem}")
            self.expected = contents(root / name)
        self.undisturbed_s = ending.seconds

    def disturbed(self, kind: str, seed: int) -> tuple[Kill, Ending]:
        """Run the study with a kill at a time that the seed decides, until one hits; print it."""
        draws = random.Random(seed)
        for attempt in range(5):
            kill = Kill(kind, seed, draws.uniform(0, self.undisturbed_s))
            ending = self.run(f"{kind}-{seed}-{attempt}", kill)
            print(line(kill, ending), flush=True)
            if ending.killed or ending.problem:
                return kill, ending
        return kill, replace(ending, problem="nothing was killed")

    def run(self, name: str, kill: Kill | None = None) -> Ending:
        """Run the study in a directory of its own, and compare what it ends with."""
        while len(self.cluster.nodes) < self.nodes:
            self.cluster.add_node(num_cpus=1)
        directory, started = self.root / name, time.monotonic()
        driver = start(self.file, directory, self.cluster.address)
        killed = None if kill is None else strike(self.cluster, driver, kill)
        stage = stage_of(directory)
        code = ended(driver)
        if killed == "driver":
            code = ended(start(self.file, directory, self.cluster.address))
        seconds = time.monotonic() - started
        problem = f"exit code {code}" if code else difference(self.expected, directory)
        return Ending(killed, stage, seconds, problem)


def write_study(folder: Path, study: str) -> Path:
    """Write a study to a file, with a latency table that is made up."""
    table, file = folder / "table.parquet", folder / "study.yaml"
    table.write_bytes(tiny.made_up_table(tiny.blocks()).to_bytes())
    file.write_text(f"{study}latency: {{table: {table}}}\n")
    return file


def start(study: Path, directory: Path, address: str) -> subprocess.Popen[bytes]:
    """Start a driver; its output is added to a file beside the study's directory."""
    command = [sys.executable, "-m", "orchestrator", "run", str(study)]
    where = ["--dir", str(directory), "--address", address]
    with log_of(directory).open("ab") as log:
        return subprocess.Popen(
            [*command, *where], cwd=conftest.ROOT, stdout=log, stderr=subprocess.STDOUT
        )


def log_of(directory: Path) -> Path:
    """Return where the drivers of a study's directory write."""
    return directory.with_name(f"{directory.name}.log")


def strike(cluster: LocalCluster, driver: subprocess.Popen[bytes], kill: Kill) -> str | None:
    """Kill when it is time, or once there is something to kill; None if the study ends first."""
    draws, due = random.Random(kill.seed), time.monotonic() + kill.at_s
    while driver.poll() is None and time.monotonic() < due + LIMIT_S:
        if time.monotonic() >= due:
            killed = hit(cluster, driver, kill.kind, draws)
            if killed:
                return killed
        time.sleep(LOOK_EVERY_S)
    return None


def hit(
    cluster: LocalCluster, driver: subprocess.Popen[bytes], kind: str, draws: random.Random
) -> str | None:
    """Kill something of a kind at once, and say what; None if there is nothing of it."""
    if kind == "driver":
        driver.kill()
        driver.wait()
        return kind
    processes = sorted(cluster.processes(), key=lambda process: process.pid)
    if kind == "raylet":
        busy = sorted({process.node for process in processes} - {0})
        if not busy:
            return None
        node = draws.choice(busy)
        cluster.kill_node(node)
        on_it = {process.title for process in processes if process.node == node}
        return f"node {node} with {', '.join(sorted(on_it))}"
    titles = TRIAL if kind == "actor" else WORKERS
    victims = [process for process in processes if process.title.startswith(titles)]
    if not victims:
        return None
    victim = draws.choice(victims)
    victim.kill()
    return f"{victim.title} on node {victim.node}"


def ended(driver: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a driver, which is killed if it hangs."""
    try:
        return driver.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def contents(directory: Path) -> dict[str, Any]:
    """Return what a study ended with, without what no two runs have in common."""
    history = load(str(directory)).history()
    steps = history[["trial", "stage", "step", "metric"]].itertuples(index=False, name=None)
    return {
        "candidates": tiny.rows(directory),
        "predictions": tiny.predictions(directory),
        "selection": (directory / "selection.json").read_text(),
        "steps": sorted(steps),
        "MLflow's runs": sorted(str(run.info.run_name) for run in tiny.mlflow_runs(directory)),
    }


def difference(expected: Mapping[str, Any], directory: Path) -> str | None:
    """Return what differs from what a study should end with, and which candidates do."""
    found = contents(directory)
    kinds = [kind for kind in expected if found[kind] != expected[kind]]
    if not kinds:
        return None
    pairs = [Counter(row["candidate"] for row in of["candidates"]) for of in (expected, found)]
    lost, twice = pairs[0] - pairs[1], pairs[1] - pairs[0]
    return f"other {', '.join(kinds)}; lost: {sorted(lost)}, too many: {sorted(twice)}"


def stage_of(directory: Path) -> str:
    """Return the stage that the driver spoke of last."""
    said = log_of(directory).read_text(errors="replace").splitlines()
    stages = [each.split(":")[0] for each in said if each.startswith(STAGES)]
    return stages[-1] if stages else "start"


def line(kill: Kill, ending: Ending) -> str:
    """Return a run as a line."""
    hit = ending.killed or f"no {kill.kind} was left to kill"
    how = "started again" if kill.kind == "driver" else "went on"
    outcome = ending.problem or "the same candidates"
    return (
        f"seed {kill.seed}: {hit}, at {kill.at_s:.1f} s or after, amid {ending.stage};"
        f" {how}, {ending.seconds:.0f} s in all: {outcome}"
    )


def show(runs: Sequence[tuple[Kill, Ending]]) -> None:
    """Print how many kills of each kind fell into each stage, and how they ended."""
    counts = Counter((k.kind, e.stage, e.problem or "the same candidates") for k, e in runs)
    print(f"\n{'killed':<8} {'amid':<10} {'runs':>4}  outcome")
    for (kind, stage, outcome), count in sorted(counts.items()):
        print(f"{kind:<8} {stage:<10} {count:>4}  {outcome}")


if __name__ == "__main__":
    main()
