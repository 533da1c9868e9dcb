"""Does REDS keep what the paper says? Its ready studies, over seeds.

    python benchmarks/reds_pays.py images [--dir runs/reds_pays] [--executor serial]
        [--set key=value ...]
    python benchmarks/reds_pays.py speech
    python benchmarks/reds_pays.py speech --study reds_speech_dnn

`images` runs `reds_fashion_mnist` and prints each subnet's test accuracy beside Table 8's. `speech`
runs a study of spoken words, in which subnets of a pretrained network (bottom-up, "bu", and
top-down, "td") stand beside REDS trained from scratch, for as many epochs in all (Tables 5 and 6),
and prints the differences of their mean accuracies, seed by seed, with a 95 % interval of the mean.
From scratch, batch norms stay as they begin, as in the paper's code, until they are trained alone;
where there are any, a second variant, which the paper does not have, trains them along.
A study that is there already goes on, and is not run again where it is complete.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t

from studies import run

TABLE_8 = {1.0: 91.6, 0.75: 91.51, 0.5: 90.75, 0.25: 89.22}  # percent
SLACK = 0.5  # points

Records = Sequence[dict[str, Any]]
Means = dict[int, float]
"""Seed -> test accuracy, the mean over subnets, in percent."""


def main() -> None:
    """Run a study and print what it says of the paper's claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("images", "speech"), nargs="?", default="speech")
    parser.add_argument("--study")
    parser.add_argument("--dir", type=Path, default=Path("runs/reds_pays"))
    parser.add_argument("--executor", default="ray", choices=("ray", "serial"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    ready = {"images": "reds_fashion_mnist", "speech": "reds_speech"}
    name = arguments.study or ready[arguments.data]
    directory, executor = arguments.dir / name, arguments.executor
    found = run(name, directory, arguments.settings, executor=executor).finished()
    show_fractions(found) if arguments.data == "images" else show_starts(found)


def show_fractions(found: Records) -> None:
    """Print the accuracy of every fraction, over seeds, beside Table 8."""
    for fraction, table in TABLE_8.items():
        accuracies = [100 * r["test_accuracy"] for r in found if r["fraction"] == fraction]
        print(
            f"{fraction:4.0%} of MACs: {described(accuracies)};"
            f" to reach: {table - SLACK:.2f} (Table 8: {table})"
        )


def show_starts(found: Records) -> None:
    """Print each variant's accuracy by fraction, and what the paper compares, seed by seed."""
    variants = {
        "bu": [r for r in found if r["params"].get("solver") == "bu"],
        "td": [r for r in found if r["params"].get("solver") == "td"],
        "from scratch": [r for r in found if starts(r["params"]) == (True, False)],
        "from scratch, norms too": [r for r in found if starts(r["params"]) == (True, True)],
    }
    variants = {name: records for name, records in variants.items() if records}
    for name, records in variants.items():
        for fraction in sorted({record["fraction"] for record in records}, reverse=True):
            accuracies = [100 * r["test_accuracy"] for r in records if r["fraction"] == fraction]
            print(f"{name}, {fraction:4.0%} of MACs: {described(accuracies)}")
    means = {name: means_of(records) for name, records in variants.items()}
    bu = means.pop("bu")
    for other, mean in means.items():
        print(f"bu less {other}: {difference(bu, mean)}")


def starts(params: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether a trial's subnets start with new weights, and whether norms train along."""
    return params.get("from_scratch", False), params.get("train_norms", False)


def means_of(records: Records) -> Means:
    """Return the mean accuracy of each seed's subnets."""
    by_seed: dict[int, list[float]] = {}
    for record in records:
        by_seed.setdefault(record["seed"], []).append(100 * record["test_accuracy"])
    return {seed: statistics.mean(accuracies) for seed, accuracies in by_seed.items()}


def difference(one: Means, two: Means) -> str:
    """Return the mean of paired differences and the half width of its 95 % interval, in points."""
    gains = [one[seed] - two[seed] for seed in sorted(one.keys() & two.keys())]
    mean = statistics.mean(gains)
    if len(gains) < 2:
        return f"{mean:+.2f} points (1 seed: no interval)"
    half = t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / math.sqrt(len(gains))
    return f"{mean:+.2f} +- {half:.2f} points (95 %, {len(gains)} seeds)"


def described(values: Sequence[float]) -> str:
    """Return mean and standard deviation, as the paper's tables do."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.2f} +- {deviation:.2f} ({len(values)} seeds)"


if __name__ == "__main__":
    main()
