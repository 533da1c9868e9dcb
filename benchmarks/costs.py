"""Architectures of `gpunet` a second, from an architecture to its costs, in one process.

    python benchmarks/costs.py [PRESET] [--count 2000]

The first pass over a space traces its blocks; the figures are those of architectures that were not
seen before, with blocks that were.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from cost_models import COST_MODELS
from search_spaces.base import sample
from search_spaces.gpunet import PRESETS, Config, GPUNet


def main() -> None:
    """Print a line for the records alone, for each cost model, and for all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default="gpunet_28", choices=sorted(PRESETS))
    parser.add_argument("--count", type=int, default=2000)
    arguments = parser.parse_args()
    space, rng = GPUNet(Config(preset=arguments.preset)), random.Random(0)
    for _ in range(arguments.count):
        space.layers(sample(space, rng))
    drawn = [sample(space, rng) for _ in range(arguments.count)]

    show("layers", drawn, space.layers)
    for name, model in COST_MODELS.items():
        show(f"layers, {name}", drawn, lambda a, m=model: m.function(space.layers(a)))

    def all_costs(architecture: Any) -> list[float]:
        layers = space.layers(architecture)
        return [model.function(layers) for model in COST_MODELS.values()]

    show(f"layers, all {len(COST_MODELS)}", drawn, all_costs)


def show(what: str, items: list[Any], function: Callable[[Any], object]) -> None:
    """Print how often a second of processor time `function` does an item, in the best of 5."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        for item in items:
            function(item)
        seconds.append(time.process_time() - start)
    rate = len(items) / min(seconds)
    print(f"{what:32} {rate:>9,.0f} architectures/s")


if __name__ == "__main__":
    main()
