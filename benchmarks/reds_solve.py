"""REDS's knapsacks, solved by the product and, as an integer program, by HiGHS (through scipy).

    python benchmarks/reds_solve.py [--highs-s 60]

One thread; times are of the processor. The networks are DS-CNN S and L with the importances of
their first weights on noise, and a chain of 50 layers that is made up. The paper's solver took 19
and 90 minutes for the first fraction of its DS-CNN S on images (Tables 8 and 9). Of torchvision's
networks (64 x 64 pixels, widths in multiples of 8, importances likewise) the gaps are printed that
the product leaves between its solutions and a bound, over 4 and 10 subnets, bottom-up and top-down.
HiGHS gets all pairs of widths, then those alone that a bound of this file's own does not rule out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp, minimize_scalar
from scipy.sparse import coo_array, csr_array
from torch.nn import functional

from search_spaces.base import SearchSpace
from search_spaces.keyword_nets import Config as SpaceConfig
from search_spaces.keyword_nets import KeywordNets
from search_spaces.torch_module import Config as ModuleConfig
from search_spaces.torch_module import TorchModule
from workers.methods.reds.chain import Chain
from workers.methods.reds.config import Config
from workers.methods.reds.formulation import build_instance
from workers.methods.reds.importance import unit_scores
from workers.methods.reds.knapsack import Instance, Solution, Solver, nested, solve
from workers.methods.reds.permutation import best_first, permuted
from workers.methods.reds.units import axes_of

MODULES = ("resnet18", "resnet50", "mobilenet_v2", "vgg11_bn", "regnet_x_400mf")
SWEEP: list[tuple[Solver, int]] = [("bu", 4), ("bu", 10), ("td", 4), ("td", 10)]

Floats = np.ndarray[Any, np.dtype[np.float64]]
Pairs = np.ndarray[Any, np.dtype[np.bool_]]
"""Of the widths of the layer before and of a layer, which are looked at, shape (U, V)."""


@dataclass(frozen=True)
class Peer:
    """What HiGHS found: the score, and the relative gap that it did not close."""

    score: int
    gap: float
    solve_s: float


def main() -> None:
    """Print times and gaps of all fractions, and a quarter of each chain beside HiGHS."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--highs-s", type=float, default=60, help="limit for each instance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chains = {f"DS-CNN {size.upper()}": ds_cnn(size) for size in ("s", "l")}
    total_s = 0.0
    for name, chain in chains.items():
        for solver, subnets in SWEEP:
            total_s += show_fractions(name, chain, solver, subnets)
    print(f"all of these: {total_s:.2f} s (to beat: 5 s)")
    for model in MODULES:
        show_gaps(model, of_module(model))
    for name, chain in {**chains, "50 layers of 32": made_up(50, 32)}.items():
        compare(name, chain, arguments.highs_s)


def show_fractions(name: str, chain: Chain, solver: Solver, subnets: int) -> float:
    """Print and return the time of all fractions (s)."""
    started = time.process_time()
    solutions = fractions(chain, solver, subnets)
    taken_s = time.process_time() - started
    gap = max(solution.gap for solution in solutions)
    print(f"{name}, {solver}, {len(solutions)} fractions: {taken_s:.2f} s, largest gap {gap:.1e}")
    return taken_s


def show_gaps(name: str, instance: Instance) -> None:
    """Print the largest and the median gap of all fractions of the sweep, and their time."""
    started = time.process_time()
    gaps = [s.gap for solver, subnets in SWEEP for s in fractions(instance, solver, subnets)]
    taken_s = time.process_time() - started
    print(
        f"{name}, {len(gaps)} fractions: {taken_s:.2f} s,"
        f" largest gap {max(gaps):.4f}, median {statistics.median(gaps):.5f}"
    )


def fractions(instance: Instance, solver: Solver, subnets: int) -> list[Solution]:
    """Return the solutions of all evenly spaced fractions of a number of subnets, but the last."""
    capacities = [instance.full_cost * index // subnets for index in range(1, subnets)]
    return nested(instance, capacities, solver)


def compare(name: str, chain: Chain, time_limit_s: float) -> None:
    """Print a quarter's solution beside HiGHS's, which gets all pairs of widths, then a few.

    The few are those that solutions of at least 99 % of the bound may contain.
    """
    capacity = chain.full_cost // 4
    started = time.process_time()
    ours = solve(chain, capacity)
    ours_s = time.process_time() - started
    print(f"{name}, 25 %: {ours.score} in {ours_s:.2f} s, gap {ours.gap:.1e}")
    bound = bounds(chain, capacity)[0].max()
    for least in (0, int(0.99 * bound)):
        pairs = promising(chain, capacity, least)
        peer = integer_program(chain, capacity, time_limit_s, pairs)
        count = sum(int(pair_UV.sum()) for pair_UV in pairs)
        print(f"  HiGHS, {count} pairs: {peer.score} in {peer.solve_s:.1f} s, gap {peer.gap:.1e}")


def promising(chain: Chain, capacity: int, least: int) -> list[Pairs]:
    """Return, for every layer, the pairs of widths that a chain of such a score may contain."""
    return [bound_UV >= least - 1 for bound_UV in bounds(chain, capacity)]


def bounds(chain: Chain, capacity: int) -> list[Floats]:
    """Return, for every layer and pair of widths, what chains with it are worth at most, (U, V).

    That holds at any price of a unit of cost; it is the one at which the largest bound is lowest,
    found apart from the product's own search for it. The capacity exceeds the least cost.
    """
    # At this price the narrowest chain alone is worth more than all units without a price.
    most = sum(int(score_UV[-1, -1]) for score_UV in chain.scores) / (capacity - chain.least_cost)
    found = minimize_scalar(
        lambda price: bounds_at(chain, capacity, price)[0].max(),
        bounds=(0, most),
        method="bounded",
        options={"xatol": 1e-9 * most},
    )
    return bounds_at(chain, capacity, found.x)


def bounds_at(chain: Chain, capacity: int, price: float) -> list[Floats]:
    """Return the bounds at a price: what the best chain through a pair is worth there."""
    values = [s - price * c for s, c in zip(chain.scores, chain.costs, strict=True)]
    first, last = [np.zeros(1)], [np.zeros(len(chain.widths[-1]))]
    for value_UV in values[:-1]:
        first.append((first[-1][:, None] + value_UV).max(0))
    for value_UV in values[:0:-1]:
        last.insert(0, (value_UV + last[0]).max(1))
    return [
        one_U[:, None] + value_UV + two_V + price * capacity
        for one_U, value_UV, two_V in zip(first, values, last, strict=True)
    ]


def integer_program(
    chain: Chain, capacity: int, time_limit_s: float, pairs: Sequence[Pairs] | None = None
) -> Peer:
    """Solve an instance by HiGHS: a width for each layer (binary), a flow for each of the pairs."""
    pairs = pairs or [np.ones(score_UV.shape, dtype=bool) for score_UV in chain.scores]
    places = [np.nonzero(pair_UV) for pair_UV in pairs]
    scores = np.concatenate([s[at] for s, at in zip(chain.scores, places, strict=True)])
    costs = np.concatenate([c[at] for c, at in zip(chain.costs, places, strict=True)])
    num_widths = sum(map(len, chain.widths))
    none = np.zeros(num_widths)
    balance, right = _balance(chain, places)
    started = time.process_time()
    found = milp(
        np.concatenate([none, -scores]),
        integrality=np.arange(num_widths + len(scores)) < num_widths,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(balance, right, right),
            LinearConstraint(np.concatenate([none, costs])[None], -np.inf, capacity),
        ],
        options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
    )
    solve_s = time.process_time() - started
    if found.x is None:
        return Peer(0, float("inf"), solve_s)
    return Peer(round(-found.fun), float(found.mip_gap), solve_s)


def _balance(chain: Chain, places: Sequence[Any]) -> tuple[csr_array, np.ndarray]:
    """Return equations over (widths, flows): 1 flows into a chosen width and out of it again."""
    widths = np.cumsum([0, *map(len, chain.widths)])
    flows = widths[-1] + np.cumsum([0, *(len(columns) for _, columns in places)])
    rows, columns, values, row = [], [], [], 0
    for layer, (before, own) in enumerate(places):
        sides = [(layer, own)] if layer == 0 else [(layer, own), (layer - 1, before)]
        for chosen, ends in sides:
            count = len(chain.widths[chosen])
            rows += [row + ends, row + np.arange(count)]
            columns += [flows[layer] + np.arange(len(ends)), widths[chosen] + np.arange(count)]
            values += [np.ones(len(ends)), -np.ones(count)]
            row += count
    rows.append(np.full(widths[1], row))
    columns.append(np.arange(widths[1]))
    values.append(np.ones(widths[1]))
    cells = tuple(np.concatenate(axis) for axis in (rows, columns))
    balance = coo_array((np.concatenate(values), cells), shape=(row + 1, flows[-1])).tocsr()
    return balance, np.eye(row + 1)[row]  # the first layer has one width


def ds_cnn(size: str, channel_multiple: int = 1, min_units: int = 1) -> Chain:
    """Return the knapsack of a DS-CNN, with the importances that its first weights have."""
    chain = instance_of(
        KeywordNets(SpaceConfig("ds_cnn", size, channel_multiple=channel_multiple)), min_units
    )
    assert isinstance(chain, Chain)
    return chain


def of_module(model: str, pixels: int = 64) -> Instance:
    """Return the knapsack of a network of torchvision's, with importances likewise."""
    config = ModuleConfig(
        f"torchvision.models:{model}",
        in_shape=(3, pixels, pixels),
        num_classes=10,
        channel_multiple=8,
    )
    return instance_of(TorchModule(config))


def instance_of(space: SearchSpace, min_units: int = 1) -> Instance:
    """Return a space's knapsack, with the importances of the full network's first weights."""
    torch.manual_seed(0)
    network = space.build(space.presets["full"])
    features = torch.randn(100, *space.in_shape)
    labels = torch.randint(space.num_classes, (100,))
    functional.cross_entropy(network(features), labels).backward()
    scores = {
        name: (weight * weight.grad).abs().detach()
        for name, weight in network.named_parameters()
        if weight.ndim > 1 and weight.grad is not None
    }
    axes = axes_of(space)
    ordered = permuted(scores, axes, best_first(unit_scores(scores, axes)))
    return build_instance(space, Config(min_units=min_units), ordered, axes)


def made_up(layers: int, units: int) -> Chain:
    """Return a chain of pointwise layers with maps of all sizes, and scores that are drawn."""
    rng, widths = np.random.default_rng(0), np.arange(1, units + 1)
    scores, costs = [], []
    for layer in range(layers):
        before = widths if layer else np.ones(1, dtype=np.int64)
        kernels = rng.lognormal(5, 1, (len(before), units)).round().astype(np.int64)
        kernels = -np.sort(-kernels, axis=1)
        scores.append(kernels.cumsum(0).cumsum(1))
        positions = int(rng.integers(1, 50))
        costs.append(positions * (9 * before[:, None] + before[:, None] * widths))
    memory = tuple(np.zeros_like(cost) for cost in costs)
    return Chain((widths,) * layers, tuple(scores), tuple(costs), memory)


if __name__ == "__main__":
    main()
