"""What random edges cost: a step of a budgeted search beside a step of the whole fabric.

    python benchmarks/budgeted.py [--rounds 7] [--batch 64] [--fabric 20 16 32] [--fabric 8 8 28]

One thread; times are of the processor, the least of all rounds, in which the steps take turns.
Fabrics are ResNets' of a depth, with so many filters, on square images of noise. Edges are on with
probability 0.95, where every search begins: nearly every sample of a batch has a network of its
own. Their costs are all new to the search, or all known from an earlier step.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping

import torch

from search_spaces.resnet_fabric import ResNetFabric, ResNetFabricConfig
from workers.augment import Augmentation
from workers.costs import Machines, cost_function
from workers.datasets import Data, TensorSplit
from workers.methods.budgeted import Config
from workers.methods.budgeted.fabric_training import FabricTraining
from workers.protocol import Cost, Problem

COSTS = ("macs", "distributed_1", "distributed_4")
SEARCH = Config(budget=1.0, lambda_=1e-9, logit_lr=1e-9, augment=Augmentation())


def main() -> None:
    """Print the times of all steps of every fabric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    fabric = {"type": int, "nargs": 3, "metavar": ("DEPTH", "FILTERS", "PIXELS")}
    parser.add_argument("--fabric", action="append", dest="fabrics", **fabric)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for depth, filters, pixels in arguments.fabrics or [(20, 16, 32), (8, 8, 28)]:
        problem = noise(depth, filters, pixels, arguments.batch)
        print(f"depth {depth}, {filters} filters, {pixels} x {pixels}, {arguments.batch} images:")
        show(least_times(steps(problem), arguments.rounds))


def show(seconds: Mapping[str, float]) -> None:
    """Print every step's time, beside the whole fabric's and beside that under `macs`."""
    whole_s, macs_s = seconds["whole fabric"], seconds["macs, known"]
    for name, taken_s in seconds.items():
        ratios = (
            f"{taken_s / whole_s:.2f} of the whole fabric, {taken_s / macs_s:.2f} of known MACs"
        )
        print(f"  {name}: {1e3 * taken_s:.0f} ms, {ratios}")


def noise(depth: int, filters: int, pixels: int, images: int) -> Problem:
    """Return a problem whose epochs are one step."""
    shape = (3, pixels, pixels)
    space = ResNetFabric(ResNetFabricConfig(depth=depth, filters=filters, in_shape=shape))
    draws = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (images, *shape), generator=draws, dtype=torch.uint8)
    split = TensorSplit(samples, torch.arange(images) % space.num_classes)
    data = Data("noise", split, split, split, space.num_classes, (0.5,) * 3, (0.5,) * 3)
    cost = cost_function("macs", space, None, Machines())
    return Problem(space, data, None, cost, seed=0, device=torch.device("cpu"))


def steps(problem: Problem) -> dict[str, Callable[[], None]]:
    """Return a step of the whole fabric, and of searches under every cost, new and known."""
    config = dataclasses.replace(SEARCH, batch_size=len(problem.data.train))
    found = {"whole fabric": step(problem, config, epoch=0)}
    for name in COSTS:
        known = dataclasses.replace(problem, cost=counted(problem, name))
        found[f"{name}, new"] = step(problem, config, config.warmup_epochs, new=name)
        found[f"{name}, known"] = step(known, config, config.warmup_epochs)
    return found


def step(
    problem: Problem, config: Config, epoch: int, new: str | None = None
) -> Callable[[], None]:
    """Return what makes a certain step again and again, each time with a new cost if it says so."""
    run = FabricTraining(problem, config, None)

    def make() -> None:
        run.epoch = epoch
        if new is not None:
            run.problem = dataclasses.replace(problem, cost=counted(problem, new))
        run.train_epoch()

    return make


def counted(problem: Problem, name: str) -> Cost:
    """Return a cost function that knows no network yet."""
    return cost_function(name, problem.space, None, Machines())


def least_times(functions: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the least processor time of each function, called in turn (s)."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):  # the first round warms up, and makes costs known
        for name, function in functions.items():
            started = time.process_time()
            function()
            times[name].append(time.process_time() - started)
    return {name: min(taken[1:]) for name, taken in times.items()}


if __name__ == "__main__":
    main()
