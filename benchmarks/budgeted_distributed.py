"""Does a search under the distributed cost find networks that run side by side?

For every seed, on scikit-learn's digits in a convolutional neural fabric, two studies: one pays for
cycles on four machines, one for cycles on a single machine, which is the number of modules. Of
every network that either found, printed is how many times as fast four machines run it as one does
(distributed_1 / distributed_4). Each network of the first study is set beside the one of the second
whose validation accuracy is closest.

    python benchmarks/budgeted_distributed.py [--seeds 0 1 2] [--dir runs/budgeted_distributed]
        [--set key=value ...]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_models import COST_MODELS
from search_spaces.base import SearchSpace
from studies import run
from workers.trial import build_space

# The whole fabric takes 53 cycles on one machine and 20 on four, its cheapest network 8.
BUDGETS = {"distributed_4": [10, 12, 14, 17], "distributed_1": [12, 18, 26, 36]}


@dataclass(frozen=True)
class Found:
    """A network that a search ended with: its validation accuracy, its cycles."""

    accuracy: float
    alone: float
    on_four: float

    @property
    def speedup(self) -> float:
        """How many times as fast four machines run it as one does."""
        return self.alone / self.on_four


def main() -> None:
    """Print what both studies of every seed found, and the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dir", type=Path, default=Path("runs/budgeted_distributed"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    pairs = []
    for seed in arguments.seeds:
        settings = [*arguments.settings, f"seed={seed}"]
        four, one = (search(cost, arguments.dir, settings) for cost in BUDGETS)
        show(f"seed {seed}, searched for four machines", four)
        show(f"seed {seed}, searched for one machine", one)
        pairs += [(network, closest(network, one)) for network in four]
    for name, networks in (("four", [a for a, _ in pairs]), ("one", [b for _, b in pairs])):
        show(f"all {len(pairs)} pairs, searched for {name}", networks)
    parallel = statistics.mean(a.speedup > b.speedup for a, b in pairs)
    print(f"of the pairs, {parallel:.0%} parallelise better when searched for four machines")


def search(cost: str, root: Path, settings: Sequence[str]) -> list[Found]:
    """Run the study of a cost, and return what it found."""
    directory = root / f"{cost}-{settings[-1].removeprefix('seed=')}"
    study = [
        f"cost={cost}",
        f"sweep.budget={BUDGETS[cost]}",
        "report.test_all=false",
        "baselines=[]",
    ]
    done = run("budgeted_cnf_digits", directory, [*study, *settings])
    space = build_space(done.config)
    return [found(space, record) for record in done.records]


def found(space: SearchSpace, record: dict[str, Any]) -> Found:
    """Return a record's network with both numbers of cycles."""
    layers = space.layers(record["architecture"])
    alone, on_four = (COST_MODELS[name].function(layers) for name in sorted(BUDGETS))
    return Found(record["val_accuracy"], float(alone), float(on_four))


def closest(network: Found, others: Iterable[Found]) -> Found:
    """Return the network whose accuracy is most like this one's."""
    return min(others, key=lambda other: abs(other.accuracy - network.accuracy))


def show(name: str, networks: Sequence[Found]) -> None:
    """Print the means of some networks."""
    accuracy = statistics.mean(network.accuracy for network in networks)
    alone = statistics.mean(network.alone for network in networks)
    on_four = statistics.mean(network.on_four for network in networks)
    speedup = statistics.mean(network.speedup for network in networks)
    print(
        f"{name}: {len(networks)} networks, accuracy {accuracy:.3f}, {alone:.1f} cycles alone,"
        f" {on_four:.1f} on four machines: {speedup:.2f}x",
        flush=True,
    )


if __name__ == "__main__":
    main()
