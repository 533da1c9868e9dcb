"""How much each weight and unit matters: first-order Taylor scores.

A weight's score is |w g|, where g is the gradient of the cross entropy, summed with its sign over
mini-batches of training data (Molchanov et al., "Importance Estimation for Neural Network
Pruning", 2019). A unit has the sum over its own incoming weights: those of its filter, and of the
depthwise kernel that stands in the same place. Biases and batch norms have none.

Legend: U units of a layer, T units of the layer before.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

from workers.augment import Augmentation
from workers.batches import batches, draws_for, part_of
from workers.drop_rates import set_drop_rates
from workers.inputs import training_batch
from workers.methods.reds.units import Axes, Axis, Tensors
from workers.protocol import Problem
from workers.ranks import average_tensors


def taylor_scores(
    network: nn.Module,
    problem: Problem,
    augment: Augmentation,
    *,
    num_batches: int,
    batch_size: int,
) -> dict[str, torch.Tensor]:
    """Return |w g| of every weight, in its shape, on the CPU; the network stays as it is.

    Batch norms normalise by the batch, as in training, but nothing is dropped. A weight that is not
    used scores 0. All ranks return the same.
    """
    network = copy.deepcopy(network).to(problem.device).train()
    set_drop_rates(network, drop_path=0.0, dropout=0.0)
    weights = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    part = part_of(problem.data.train, batch_size)
    loaded = itertools.islice(_batches(problem, batch_size), num_batches)
    for step, (samples_B, labels_B) in enumerate(loaded):
        draws = draws_for(part, problem.seed, "importance", step)
        x_BCHW, labels_B = training_batch(samples_B, labels_B, problem.data, augment, draws)
        loss = part.weight * functional.cross_entropy(network(x_BCHW), labels_B)
        torch.autograd.backward(loss, inputs=list(weights.values()))
    gradients = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in weights.items()
    }
    average_tensors(gradients.values())
    return {name: (weights[name] * grad).abs().detach().cpu() for name, grad in gradients.items()}


def kernel_scores(score: torch.Tensor, axes: Sequence[Axis | None]) -> torch.Tensor:
    """Return a weight's scores by unit and unit of the layer before, shape (U, T), float64.

    Args:
        score: of a weight whose first dimension is a layer's units; what a unit and one before
            have in common is summed.
        axes: of the weight; T is 1 where its second dimension follows no layer.
    """
    runs = [1 if axis is None else axis.run for axis in axes[:2]]
    summed = score.double().flatten(2).sum(2) if score.ndim > 2 else score.double()
    rows, columns = summed.shape
    kernels_UT = summed.view(rows // runs[0], runs[0], columns // runs[1], runs[1]).sum((1, 3))
    return kernels_UT if axes[1] is not None else kernels_UT.sum(1, keepdim=True)


def unit_scores(scores: Tensors, axes: Axes) -> dict[str, torch.Tensor]:
    """Return, for every layer, what each of its units is worth, shape (U,), float64."""
    found: dict[str, torch.Tensor] = {}
    for name, score in scores.items():
        axis = axes[name][0]
        if axis is not None:
            unit_U = kernel_scores(score, axes[name]).sum(1)
            found[axis.layer] = found[axis.layer] + unit_U if axis.layer in found else unit_U
    return found


def _batches(problem: Problem, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of training data, epoch after epoch."""
    split = problem.data.train.to(problem.device)
    for epoch in itertools.count():
        yield from batches(split, batch_size, seed=problem.seed, epoch=epoch)
