"""All subnets trained together: one set of tensors, of which each subnet uses the leading slices.

The loss is the subnets' cross entropies, weighted by pi (Figure 12); one optimiser step a batch
follows from all of them. Batch norms stay as they were and run on the statistics that they have;
at the end they are trained alone, still on these statistics, of which the sources say nothing.
With `train_norms` they train along: each subnet normalises by the batch, and all of them move the
one set of statistics that they will run on. Nothing is dropped, whatever rates a network comes
with.

Shapes: B samples of a batch, N subnets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from cost_models.params import num_params
from search_spaces.base import Architecture, SearchSpace
from workers.batches import batches, draws_for, num_batches, part_of
from workers.drop_rates import set_drop_rates
from workers.evaluation import evaluate
from workers.inputs import training_batch
from workers.methods.reds.config import Config
from workers.methods.reds.units import axes_of, norms_of, sliced
from workers.protocol import Problem, State, copied
from workers.quick_norms import quick_norms
from workers.ranks import average_buffers, average_gradients, average_tensors
from workers.sharding import load_optimizer


class JointTraining:
    """The full network and its subnets in training.

    Args:
        problem: the task.
        config: the settings.
        state: what `state()` returned, or what a search prepares: `epoch`, `metrics`, `subnets`
            (smallest first, the full network last; each has its `widths` and its own `metrics`),
            `model` (tensors of the full network) and `optimizer` (None at first).
    """

    def __init__(self, problem: Problem, config: Config, state: State) -> None:
        self.problem, self.config = problem, config
        self.epoch, self.metrics = int(state["epoch"]), dict(state["metrics"])
        self.subnets = state["subnets"]
        self.axes = axes_of(problem.space)
        self.network = quick_norms(problem.space.build(self.subnets[-1]["widths"]))
        self.network.load_state_dict(state["model"])
        set_drop_rates(self.network, drop_path=0.0, dropout=0.0)
        layout = torch.channels_last
        self.network.to(problem.device, memory_format=layout)  # type: ignore[call-overload]
        self._shells = [_shell(problem.space, subnet["widths"]) for subnet in self.subnets[:-1]]
        self._shares_N = loss_shares(problem.space, [subnet["widths"] for subnet in self.subnets])
        self._norms = norms_of(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), foreach=True)
        if state["optimizer"] is not None:
            load_optimizer(self.optimizer, state["optimizer"])

    def state(self) -> State:
        """Return copies of all that a run continues from."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "subnets": self.subnets,
            "model": copied(self.network.state_dict()),
            "optimizer": copied(self.optimizer.state_dict()),
        }

    def train_epoch(self) -> None:
        """Train for one epoch: all subnets, or, after `config.epochs`, the batch norms alone.

        Raises:
            FloatingPointError: the loss is not finite; names the epoch.
        """
        started = time.perf_counter()
        training = self.config.train_norms and self.epoch < self.config.epochs
        for network in (self.network, *self._shells):
            network.train(training)
        losses = [self._step(*batch) for batch in self._batches()]
        average_buffers(self.network)
        self.epoch += 1
        self.metrics = {
            "train_loss": _mean(losses, self.epoch),
            "lr": self.optimizer.param_groups[0]["lr"],
            **self._accuracies(),
            "epoch_s": time.perf_counter() - started,
        }

    def tensors(self, index: int) -> dict[str, torch.Tensor]:
        """Return a subnet's state dict: views of the full network's tensors."""
        return sliced(self.network.state_dict(), self.axes, self.subnets[index]["widths"])

    def standalone(self, index: int) -> nn.Module:
        """Return a subnet as the network that its widths build, with tensors of its own."""
        network = self.problem.space.build(self.subnets[index]["widths"])
        network.load_state_dict(self.tensors(index))
        return network.to(self.problem.device)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, float, float]]:
        """Yield what networks are given in an epoch, labels, learning rate, the part's weight."""
        config, data, seed = self.config, self.problem.data, self.problem.seed
        split, size = data.train.to(self.problem.device), config.batch_size
        part = part_of(split, size)
        loaded = batches(split, size, seed=seed, epoch=self.epoch)
        for step, (samples_B, labels_B) in enumerate(loaded):
            draws = draws_for(part, seed, "augment", self.epoch, step)
            augment = config.pretraining.augment
            x_BCHW, labels_B = training_batch(samples_B, labels_B, data, augment, draws)
            lr = self._learning_rate(self.epoch + step / num_batches(split, size))
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
            yield x_BCHW, labels_B, lr, part.weight

    def _step(
        self, x_BCHW: torch.Tensor, labels_B: torch.Tensor, lr: float, weight: float = 1.0
    ) -> torch.Tensor:
        (group,) = self.optimizer.param_groups
        group["lr"] = lr
        trained, total = self._trained(), torch.zeros((), device=self.problem.device)
        for index, share in enumerate(self._shares_N):
            loss = functional.cross_entropy(self._logits(index, x_BCHW), labels_B)
            loss = weight * share * loss
            torch.autograd.backward(loss, inputs=trained)
            total += loss.detach()
        average_gradients(trained)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _logits(self, index: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        if index == len(self._shells):
            logits_BK: torch.Tensor = self.network(x_BCHW)
            return logits_BK
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        narrow = sliced(tensors, self.axes, self.subnets[index]["widths"])
        return functional_call(self._shells[index], narrow, (x_BCHW,))  # type: ignore[no-any-return]

    def _trained(self) -> list[nn.Parameter]:
        if self.epoch >= self.config.epochs:
            return self._norms
        if self.config.train_norms:
            return list(self.network.parameters())
        frozen = {id(parameter) for parameter in self._norms}
        return [parameter for parameter in self.network.parameters() if id(parameter) not in frozen]

    def _learning_rate(self, epoch: float) -> float:
        if epoch >= self.config.epochs:
            return self.config.norm_lr
        return self.config.learning_rate(epoch / self.config.epochs)

    def _accuracies(self) -> dict[str, float]:
        """Return each subnet's accuracy on validation, named by its share in percent."""
        data = self.problem.data
        val = data.val.to(self.problem.device)
        return {
            f"val_accuracy_{100 * share:g}": evaluate(self.standalone(index), val, data).accuracy
            for index, share in enumerate(self.config.shares)
        }


def loss_shares(space: SearchSpace, architectures: list[Architecture]) -> list[float]:
    """Return pi: each subnet's share of the loss, by the root of its parameters (Figure 12).

    Args:
        space: which networks exist.
        architectures: of the subnets, in any order; shares are in the same and sum to 1.
    """
    roots = [math.sqrt(num_params(space.layers(architecture))) for architecture in architectures]
    return [root / sum(roots) for root in roots]


def _shell(space: SearchSpace, architecture: Architecture) -> nn.Module:
    """Return a network without tensors, which a call brings along."""
    with torch.device("meta"):
        shell = quick_norms(space.build(architecture))
    set_drop_rates(shell, drop_path=0.0, dropout=0.0)
    return shell


def _mean(losses: list[torch.Tensor], epoch: int) -> float:
    mean = torch.stack(losses).mean()
    average_tensors([mean])
    if not math.isfinite(mean.item()):
        raise FloatingPointError(f"epoch {epoch}: the loss is {mean.item()}; lower lrs may help")
    return mean.item()
