"""Proposition 1 of the paper in small: edges end as good as decided, in the best architecture.

On a fabric of ten edges whose weights are frozen, all architectures can be tried. The frozen
weights come from training with random edges, or only the whole fabric would work. What every
architecture makes of every image is computed once; the search's own steps then look it up.

Shapes: A sets of edges, B images, K classes, E edges.
"""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.resnet_fabric import ResNetFabric
from tests.workers.methods.tiny_fabric import fabric_problem
from workers.augment import Augmentation
from workers.datasets import DATASETS
from workers.draws import cut
from workers.inputs import network_input
from workers.methods.budgeted import Config
from workers.methods.budgeted.fabric_training import FabricTraining
from workers.methods.budgeted.search import pretrain, search

IMAGES, STEPS, SEEDS = 64, 1400, 10
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
    logit_start=3.0,
    logit_optimizer="adam",
    logit_lr=0.1,
)


class Tabulated(nn.Module):
    """A super network that is frozen and sees one batch only: a table of its logits."""

    def __init__(self, logits_ABK, logits_E):
        super().__init__()
        self.network = nn.Identity()
        self.logits_ABK, self.logits_E = logits_ABK, logits_E

    def forward(self, x_BCHW, gates_EB, used_E=None):
        """Return what every sample's own edges give."""
        return self.logits_ABK[row(gates_EB), torch.arange(len(x_BCHW))]


def row(on_EX):
    """Return where sets of edges are in the table: the numbers whose bits they are."""
    return (on_EX * 2 ** torch.arange(len(on_EX))[:, None]).sum(0)


def digits():
    dataset = DATASETS["digits"]
    space = ResNetFabric(ResNetFabric.Config(depth=8, filters=4, in_shape=(1, 8, 8)))
    data = dataset.load(dataset.Config(), Path())
    return dataclasses.replace(fabric_problem(space=space), data=data)


def trained(problem):
    """A search that is over, whose edges stayed random; norms use running statistics."""
    *_, warm = pretrain(problem, RANDOM_EDGES, None)
    *_, last = search(dataclasses.replace(problem, start=warm.state()), RANDOM_EDGES, None)
    run = FabricTraining(problem, RANDOM_EDGES, last.state())
    run.supernet.eval()
    return run


@torch.no_grad()
def table(run, x_BCHW, architectures_EA):
    """Return the logits of these architectures on these images; others have none."""
    rows = row(architectures_EA)
    logits_ABK = torch.full((2 ** len(run.wiring.names), len(x_BCHW), 10), torch.nan)
    for index, on_E in zip(rows, architectures_EA.T, strict=True):
        logits_ABK[index] = run.supernet(x_BCHW, on_E[:, None].expand(-1, len(x_BCHW)))
    return logits_ABK


def architectures(problem):
    """Return all that there are, and the one without edges, as columns."""
    names = [edge.name for edge in problem.space.fabric.edges]
    sets = itertools.product((False, True), repeat=len(names))
    found = {tuple(problem.space.canonical(dict(zip(names, on, strict=True)))) for on in sets}
    assert len(found) == problem.space.size() + 1
    return torch.tensor([[name in edges for name in names] for edges in sorted(found)]).T


def penalised_loss(run, on_E, x_BCHW, labels_B):
    architecture = run.wiring.architecture(on_E)
    logits_BK = run.supernet(x_BCHW, on_E[:, None].expand(-1, len(x_BCHW)))
    cost = run.problem.cost(architecture) if architecture else 0.0
    penalty = FROZEN.lambda_ * max(0.0, cost - FROZEN.budget)
    return functional.cross_entropy(logits_BK, labels_B).item() + penalty


def frozen_run(problem, logits_ABK, seed):
    """A search that begins, which has no weights to learn."""
    run = FabricTraining(dataclasses.replace(problem, seed=seed), FROZEN, None)
    run.supernet = Tabulated(logits_ABK, run.supernet.logits_E)
    run.weight_optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    run.epoch = FROZEN.warmup_epochs
    return run


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_edges_settle_in_the_best_architecture():
    problem = digits()
    images, labels_B = problem.data.train.batch(torch.arange(IMAGES))
    x_BCHW = network_input(images, problem.data)
    all_EA = architectures(problem)
    logits_ABK = table(trained(problem), x_BCHW, all_EA)
    run = frozen_run(problem, logits_ABK, 0)
    best = min(penalised_loss(run, on_E, x_BCHW, labels_B) for on_E in all_EA.T)
    whole = penalised_loss(run, torch.ones(len(all_EA), dtype=torch.bool), x_BCHW, labels_B)
    assert whole > 1.5 * best  # where the search starts

    succeeded = 0
    for seed in range(SEEDS):
        run = frozen_run(problem, logits_ABK, seed)
        for step in range(STEPS):
            run._search_step(x_BCHW, labels_B, cut(len(x_BCHW), 0, 1), step)
        probabilities_E = run.probabilities_E
        drawable_E = run.wiring.drawable(probabilities_E > 0.01)
        decided_E = (probabilities_E < 0.01) | (probabilities_E > 0.99)
        found = problem.space.canonical(run.wiring.architecture(run.likely_E()))
        found_E = torch.tensor([name in found for name in run.wiring.names])
        excess = penalised_loss(run, found_E, x_BCHW, labels_B) / best - 1
        print(f"seed {seed}: {decided_E[drawable_E].float().mean():.0%} decided, {excess:+.1%}")
        succeeded += bool(decided_E[drawable_E].all()) and excess < 0.01
    assert succeeded >= 8
