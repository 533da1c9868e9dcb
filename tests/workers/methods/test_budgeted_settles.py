"""Proposition 1 of the paper in small: edges end as good as decided, in the best architecture.

On a fabric of ten edges whose weights are frozen, all architectures can be tried. The frozen
weights come from training with random edges, or only the whole fabric would work.
"""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from search_spaces.resnet_fabric import ResNetFabric
from tests.workers.methods.tiny_fabric import fabric_problem
from workers.augment import Augmentation
from workers.datasets import DATASETS
from workers.inputs import network_input
from workers.methods.budgeted import Config
from workers.methods.budgeted.fabric_training import FabricTraining
from workers.methods.budgeted.search import pretrain, search

IMAGES, STEPS, SEEDS = 64, 800, 10
RANDOM_EDGES = Config(
    warmup_epochs=1,
    epochs=2,
    lr=0.05,
    logit_start=1.5,
    logit_lr=1e-9,  # edges stay random
    augment=Augmentation(),
)
FROZEN = dataclasses.replace(
    RANDOM_EDGES,
    budget=45_000.0,
    lambda_=1e-4,
    lr=1e-12,
    weight_decay=0.0,
    logit_start=3.0,
    logit_optimizer="adam",
    logit_lr=0.2,
)


def digits():
    dataset = DATASETS["digits"]
    space = ResNetFabric(ResNetFabric.Config(depth=8, filters=4, in_shape=(1, 8, 8)))
    data = dataset.load(dataset.Config(), Path())
    return dataclasses.replace(fabric_problem(space=space), data=data)


def frozen_weights(problem):
    *_, warm = pretrain(problem, RANDOM_EDGES, None)
    *_, last = search(dataclasses.replace(problem, start=warm.state()), RANDOM_EDGES, None)
    return last.state()["network"]


def frozen_run(problem, weights, seed):
    """A search past its warm-up, whose norms use running statistics."""
    run = FabricTraining(dataclasses.replace(problem, seed=seed), FROZEN, None)
    run.supernet.network.load_state_dict(weights)
    run.epoch = FROZEN.warmup_epochs
    run.supernet.eval()
    return run


@torch.no_grad()
def penalised_losses(run, x_BCHW, labels_B):
    """Of every architecture that there is, and of none, by its edges."""
    losses = {}
    for on in itertools.product((False, True), repeat=len(run.wiring.names)):
        architecture = run.problem.space.canonical(dict(zip(run.wiring.names, on, strict=True)))
        if tuple(architecture) not in losses:
            on_E = torch.tensor([name in architecture for name in run.wiring.names])
            logits_BK = run.supernet(x_BCHW, on_E[:, None].expand(-1, len(x_BCHW)))
            cost = run.problem.cost(architecture) if architecture else 0.0
            penalty = FROZEN.lambda_ * max(0.0, cost - FROZEN.budget)
            loss = functional.cross_entropy(logits_BK, labels_B).item()
            losses[tuple(architecture)] = loss + penalty
    return losses


@pytest.mark.slow
def test_edges_settle_in_the_best_architecture():
    problem = digits()
    weights = frozen_weights(problem)
    images, labels_B = problem.data.train.batch(torch.arange(IMAGES))
    x_BCHW = network_input(images, problem.data)
    losses = penalised_losses(frozen_run(problem, weights, 0), x_BCHW, labels_B)
    assert len(losses) == problem.space.size() + 1
    best = min(losses.values())
    whole = losses[tuple(problem.space.presets["full"])]
    assert whole > 1.5 * best  # where the search starts

    succeeded = 0
    for seed in range(SEEDS):
        run = frozen_run(problem, weights, seed)
        for step in range(STEPS):
            run._search_step(x_BCHW, labels_B, step)
        probabilities_E = run.probabilities_E
        drawable_E = run.wiring.drawable(probabilities_E > 0.01)
        decided_E = (probabilities_E < 0.01) | (probabilities_E > 0.99)
        found = problem.space.canonical(run.wiring.architecture(run.likely_E()))
        excess = losses[tuple(found)] / best - 1
        print(f"seed {seed}: {decided_E[drawable_E].float().mean():.0%} decided, {excess:+.1%}")
        succeeded += bool(decided_E[drawable_E].all()) and excess < 0.01
    assert succeeded >= 8
