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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import Study
from orchestrator.pareto import hypervolume, objectives, reference_point
from studies import run

STUDY = "prunet_fashion_mnist"
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
# From networks whose latency is free to the fastest.
WIDE = ["sweep.alpha=[0.0,0.01,0.05,0.2,1.0,4.0]"]
RANDOM = ["search.sampler=grid", "sweep={}", "finish=all"]


def front_volume(records: list[dict[str, Any]], reference: Any) -> float:
    """Return the hypervolume of finished networks: error against predicted latency."""
    return float(hypervolume(objectives(records), reference))


def searched(seed: int, root: Path, settings: list[str]) -> Study:
    """Run the PruNet study of a seed."""
    return run(STUDY, root / f"prunet-{seed}", [*settings, *WIDE])


def drawn(seed: int, root: Path, settings: list[str], count: int) -> list[dict[str, Any]]:
    """Run the random study of a seed, with the table of its PruNet study."""
    table = f"latency.table={root}/prunet-{seed}/latency.parquet"
    method = f"method={{name: random, num_candidates: {count}, even_over_cost: true}}"
    directory = root / f"random-{seed}-{count}"
    return run(STUDY, directory, [*settings, *RANDOM, table, method]).finished()


def affordable(study: Study) -> int:
    """Return how many networks could have been finished in the time of the whole study."""
    took = study.trial_seconds()
    each = statistics.mean(seconds for (stage, _), seconds in took.items() if stage == "finish")
    return max(len(study.finished()), round(sum(took.values()) / each))


def main() -> None:
    """Compare on every seed and print the means; at equal networks first, which takes less time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dir", type=Path, default=Path("runs/search_pays"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    counts: dict[str, Callable[[Study], int]] = {
        "equal networks": lambda study: len(study.finished()),
        "equal compute": affordable,
    }
    for name, count in counts.items():
        ratios = []
        for seed in arguments.seeds:
            settings = [*SHORT, *arguments.settings, f"seed={seed}"]
            study = searched(seed, arguments.dir, settings)
            found, rivals = study.finished(), drawn(seed, arguments.dir, settings, count(study))
            reference = reference_point(objectives([*found, *rivals]))
            ratios.append(front_volume(found, reference) / front_volume(rivals, reference))
            many = f"{len(found)} searched against {len(rivals)} random"
            print(f"seed {seed}, {name}: {many}: {ratios[-1]:.3f}x", flush=True)
        print(f"{name}: mean {statistics.mean(ratios):.3f}x, least {min(ratios):.3f}x", flush=True)


if __name__ == "__main__":
    main()
