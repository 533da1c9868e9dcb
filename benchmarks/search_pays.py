"""Does the search pay? PruNet's front against random architectures finished with the same recipe.

For every seed, on Fashion-MNIST: a PruNet study, and a random study that draws as many
architectures, evenly over the latency range, from the same space, latency table and recipe. Printed
are both hypervolumes at a shared reference point, and their ratio: at an equal number of finished
networks, and at equal total compute (what the search cost buys the random study more networks).

    python benchmarks/search_pays.py [--seeds 0 1 2] [--dir runs/search_pays] [--set key=value ...]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import load
from orchestrator.pareto import hypervolume, objectives, reference_point

# Shorter than the ready study, so that three seeds fit an hour: 24,000 images to train on, and
# 36,000 to validate on, which tells close networks apart.
SHORT = [
    "dataset.val_fraction=0.6",
    "proxy.images=0.25",
    "method.warmup_epochs=2",
    "method.epochs=6",
    "training.epochs=3",
    "baselines=[]",
]
RANDOM = ["search.sampler=grid", "sweep={}", "finish=all"]


def run(directory: Path, settings: list[str]) -> Any:
    """Run a study in a process of its own, and load it."""
    command = [sys.executable, "-m", "orchestrator", "run", "prunet_fashion_mnist"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    subprocess.run([*command, "--dir", str(directory), *arguments], check=True)
    return load(str(directory))


def front_volume(records: list[dict[str, Any]], reference: Any) -> float:
    """Return the hypervolume of finished networks: error against predicted latency."""
    return float(hypervolume(objectives(records), reference))


def compare(seed: int, root: Path, extra: list[str]) -> tuple[float, float]:
    """Run both studies of a seed; return the ratios at equal networks and at equal compute."""
    settings = [*SHORT, *extra, f"seed={seed}"]
    searched = run(root / f"prunet-{seed}", settings)
    found = searched.finished()
    table = f"latency.table={searched.directory}/latency.parquet"
    took = searched.trial_seconds()
    each = statistics.mean(seconds for (stage, _), seconds in took.items() if stage == "finish")
    many = max(len(found), round(sum(took.values()) / each))
    arms = {}
    for name, count in (("equal networks", len(found)), ("equal compute", many)):
        method = f"method={{name: random, num_candidates: {count}, even_over_cost: true}}"
        folder = root / f"random-{seed}-{count}"
        arms[name] = run(folder, [*settings, *RANDOM, table, method]).finished()
    reference = reference_point(objectives([*found, *(r for arm in arms.values() for r in arm)]))
    ours = front_volume(found, reference)
    ratios = {name: ours / front_volume(records, reference) for name, records in arms.items()}
    for name, ratio in ratios.items():
        count = len(arms[name])
        print(f"seed {seed}, {name}: {len(found)} searched against {count} random: {ratio:.3f}x")
    return ratios["equal networks"], ratios["equal compute"]


def main() -> None:
    """Compare on every seed and print the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dir", type=Path, default=Path("runs/search_pays"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    ratios = np.array([compare(s, arguments.dir, arguments.settings) for s in arguments.seeds])
    for name, column in zip(("equal networks", "equal compute"), ratios.T, strict=True):
        print(f"{name}: mean ratio {column.mean():.3f}, least {column.min():.3f}")


if __name__ == "__main__":
    main()
