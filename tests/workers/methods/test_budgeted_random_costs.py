"""Under costs that are random, even measured anew for every sample, edges settle nevertheless."""

import dataclasses
import math
import statistics

import pytest
import torch

from search_spaces.base import Architecture
from tests.workers.methods.tiny_fabric import SPACE, fabric_problem
from workers.augment import Augmentation
from workers.costs import Machines, cost_function
from workers.methods.budgeted import Config
from workers.methods.budgeted.search import pretrain, search
from workers.protocol import Cost

CONFIG = Config(
    warmup_epochs=3,
    epochs=80,
    batch_size=32,
    lr=0.05,
    logit_optimizer="adam",
    logit_lr=0.3,
    augment=Augmentation(pad=1),
)


def typical(cost: Cost, architecture: Architecture) -> float:
    """Return the median of many draws: other work on this machine prolongs a few of them."""
    return statistics.median(cost(architecture) for _ in range(101))


def decided(logits_E: torch.Tensor) -> list[bool]:
    """Tell which edges settled, of those on a path whose others are likelier than 0.05."""
    logits = dict(zip([choice.name for choice in SPACE.choices], logits_E.tolist(), strict=True))
    on = {name: 1 / (1 + math.exp(-logit)) for name, logit in logits.items()}
    there = {name: True for name in on if on[name] > 0.05}
    return [
        not 0.05 <= on[name] <= 0.95 and abs(logits[name] - CONFIG.logit_start) > 0.25
        for name in on
        if name in SPACE.canonical({**there, name: True})
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["network_latency_ms", "measured_latency_ms"])
def test_edges_settle_under_a_random_cost(name):
    cost = cost_function(name, SPACE, None, Machines())
    least, most = (typical(cost, SPACE.presets[preset]) for preset in ("min", "max"))
    budget = (least + most) / 2
    config = dataclasses.replace(CONFIG, budget=budget, lambda_=2.0 / (most - least))
    *_, warm = pretrain(fabric_problem(cost=cost), config, None)
    problem = fabric_problem(start=warm.state(), cost=cost)
    *_, last = search(problem, config, None)
    (candidate,) = last.candidates
    edges, took = decided(last.state()["logits_E"]), typical(cost, candidate.architecture)
    settled = sum(edges) / len(edges)
    print(f"{name}: {settled:.0%} settled, {least:.3f} <= {took:.3f} <= {most:.3f} ms")
    assert settled > 0.9
    assert not candidate.metrics["most_probable_path"]  # the likely edges are a network
    assert took < most - (most - budget) / 2
