"""Under costs that are random, even measured anew for every sample, edges settle nevertheless."""

import dataclasses

import pytest

from tests.workers.methods.tiny_fabric import SPACE, fabric_problem
from workers.augment import Augmentation
from workers.costs import Machines, cost_function, expected
from workers.methods.budgeted import Config
from workers.methods.budgeted.search import pretrain, search

CONFIG = Config(
    warmup_epochs=3,
    epochs=80,
    batch_size=32,
    lr=0.05,
    logit_optimizer="adam",
    logit_lr=0.3,
    augment=Augmentation(pad=1),
)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["network_latency_ms", "measured_latency_ms"])
def test_edges_settle_under_a_random_cost(name):
    cost = cost_function(name, SPACE, None, Machines())
    least, most = (expected(cost, SPACE.presets[preset]) for preset in ("min", "max"))
    budget = (least + most) / 2
    config = dataclasses.replace(CONFIG, budget=budget, lambda_=10.0 / (most - least))
    *_, warm = pretrain(fabric_problem(cost=cost), config, None)
    problem = fabric_problem(start=warm.state(), cost=cost)
    *_, last = search(problem, config, None)
    (candidate,) = last.candidates
    settled, took = candidate.metrics["settled"], expected(cost, candidate.architecture)
    print(f"{name}: {settled:.0%} settled, {least:.3f} <= {took:.3f} <= {most:.3f} ms")
    assert settled > 0.9
    assert took < most - (most - budget) / 2
