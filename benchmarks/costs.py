"""Architectures a second, from an architecture to its costs, in one process.

    python benchmarks/costs.py [--count 2000]

For five spaces: their records alone, each cost model, all of them, and all of them in one batched
call, with what that call gains over single ones. The first pass over a space traces its parts; the
figures are those of architectures that were not seen before, of parts that were.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

from cost_models import COST_MODELS
from cost_models.batch import batch_costs
from search_spaces import SPACES
from search_spaces.base import Architecture, SearchSpace, sample

CASES = {  # space, its options, the share of --count that is drawn
    "gpunet, 28 pixels": ("gpunet", {"preset": "gpunet_28"}, 1.0),
    "ResNet-110 fabric": ("resnet_fabric", {"depth": 110}, 0.05),
    "conv fabric, 8 x 6": ("conv_fabric", {"columns": 8}, 0.1),
    "DS-CNN L": ("keyword_nets", {"size": "l"}, 1.0),
    "ResNet-20, 1x1": ("slimmable_resnet", {"shortcut": "conv1x1"}, 1.0),
}


def main() -> None:
    """Print the rates of every space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    count = parser.parse_args().count
    for title, (name, options, share) in CASES.items():
        space = SPACES[name](SPACES[name].Config(**options))
        compare(title, space, max(20, round(share * count)))


def compare(title: str, space: SearchSpace, count: int) -> None:
    """Print a space's rates."""
    rng = random.Random(0)
    for _ in range(count):
        space.layers(sample(space, rng))
    drawn = [sample(space, rng) for _ in range(count)]

    def one_by_one(names: Sequence[str]) -> None:
        for architecture in drawn:
            layers = space.layers(architecture)
            for name in names:
                COST_MODELS[name].function(layers)

    def batched(architectures: Sequence[Architecture]) -> None:
        batch_costs(map(space.layers, architectures), COST_MODELS)

    print(f"{title}: {count} architectures")
    show("records", count, lambda: one_by_one([]))
    for name in COST_MODELS:
        show(f"records, {name}", count, lambda n=name: one_by_one([n]))
    single = show(f"records, all {len(COST_MODELS)}", count, lambda: one_by_one(list(COST_MODELS)))
    batch = show("  in one batched call", count, lambda: batched(drawn))
    print(f"  batched / single: {batch / single:.2f}x")


def show(what: str, count: int, function: Callable[[], object]) -> float:
    """Print and return how many architectures a second of processor time does, in the best of 3."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    rate = count / min(seconds)
    print(f"  {what:34} {rate:>9,.0f} architectures/s")
    return rate


if __name__ == "__main__":
    main()
