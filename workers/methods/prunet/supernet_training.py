"""A supernet in training: its optimisers, its two kinds of steps, and its figures of every epoch.

Weights and architecture learn from different images: a fixed share of the training data, the same
for every seed, trains the architecture alone. So the architecture's loss is one of images that no
weight was trained on, and one warm-up serves all points and seeds of a sweep.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from search_spaces.base import SearchSpace
from search_spaces.gpunet import GPUNet
from workers.batches import batches, draws_for, generator, num_batches, part_of
from workers.datasets import Data, Split
from workers.draws import Part
from workers.evaluation import lifted
from workers.inputs import training_batch
from workers.methods.prunet.config import Config
from workers.methods.prunet.meter import StepMeter
from workers.methods.prunet.supernet import Supernet
from workers.protocol import Problem, State, copied, seeded
from workers.ranks import average_gradients, average_tensors
from workers.schedules import cosine
from workers.sharding import load_optimizer, propagate, sharded


class SupernetTraining:
    """A supernet, its optimisers, the epochs done (warm-up's and the search's together), figures.

    Args:
        problem: the task; its space must be `gpunet`, its latency table cover the space.
        config: the settings.
        state: what `state()` returned, to continue from.

    Raises:
        ValueError: space, table or state do not serve.
    """

    def __init__(self, problem: Problem, config: Config, state: State | None) -> None:
        self.problem = problem
        self.config = config
        supernet = _supernet(problem, config, state)
        self.supernet = sharded(
            supernet,
            problem.sharding,
            problem.device,
            units=[branch for layer in supernet for branch in layer],
            whole=supernet.arch_parameters(),
        )
        self.weight_part, self.arch_part = _parts(problem.data, config, problem.device)
        self.weight_optimizer = torch.optim.RMSprop(
            self.supernet.weight_parameters(),
            lr=config.weight_lr,
            weight_decay=config.weight_decay,
            foreach=True,
        )
        self.arch_optimizer = torch.optim.Adam(
            self.supernet.arch_parameters(), lr=config.arch_lr, foreach=True
        )
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        if state is not None:
            self.epoch, self.metrics = state["epoch"], dict(state["metrics"])
            load_optimizer(self.weight_optimizer, state["weight_optimizer"])
            load_optimizer(self.arch_optimizer, state["arch_optimizer"])

    @property
    def search_epoch(self) -> int:
        """Epochs of the search that are done; negative during warm-up."""
        return self.epoch - self.config.warmup_epochs

    def state(self) -> State:
        """Return all that a run continues from, to the bit."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "structure": self.supernet.structure(),
            "supernet": copied(self.supernet.state_dict()),
            "weight_optimizer": copied(self.weight_optimizer.state_dict()),
            "arch_optimizer": copied(self.arch_optimizer.state_dict()),
        }

    def train_weights(self) -> None:
        """Train an epoch of warm-up."""
        self._train(0)

    def train_both(self) -> None:
        """Train an epoch of the search: steps of weights and of the architecture alternate."""
        self._train(num_batches(self.arch_part, self.config.batch_size))

    def prune(self) -> None:
        """Shrink the supernet at the end of a search epoch; the optimisers forget what is gone."""
        epoch, config = self.search_epoch, self.config
        threshold = config.threshold(epoch, self.supernet.most_blocks)
        for layer in self.supernet:
            if config.block_pruning:
                layer.prune(threshold, last=epoch == config.epochs)
            if epoch == config.epochs:
                layer.collapse()
        _follow(self.weight_optimizer, self.supernet.weight_parameters())
        _follow(self.arch_optimizer, self.supernet.arch_parameters())
        self.metrics |= {"threshold": threshold, **self._sizes()}

    def _train(self, arch_steps: int) -> None:
        self.supernet.train()
        size, seed, epoch = self.config.batch_size, self.problem.seed, self.epoch
        weight_batches = batches(self.weight_part, size, seed=seed, epoch=epoch)
        arch_batches = batches(self.arch_part, size, seed=seed, epoch=epoch)
        steps = num_batches(self.weight_part, size) + arch_steps
        losses: dict[bool, list[torch.Tensor]] = {False: [], True: []}
        parts = part_of(self.weight_part, size), part_of(self.arch_part, size)
        meter = StepMeter(self.supernet, self.problem.device)
        for step in range(steps):
            is_arch = (step + 1) * arch_steps // steps > step * arch_steps // steps
            take = self._arch_step if is_arch else self._weight_step
            images, labels = next(arch_batches if is_arch else weight_batches)
            with meter.step():
                losses[is_arch].append(take(images, labels, parts[is_arch], step, steps))
        self.epoch += 1
        self.metrics = self._figures(losses[False], losses[True])
        self.metrics |= meter.figures((self.weight_optimizer, self.arch_optimizer))

    def _weight_step(
        self, images: torch.Tensor, labels: torch.Tensor, part: Part, step: int, steps: int
    ) -> torch.Tensor:
        epochs = self.config.warmup_epochs + self.config.epochs
        lr = self.config.weight_lr * cosine(self.epoch + step / steps, epochs)
        ce, _ = self._cross_entropy(images, labels, part, step)
        self._descend(self.weight_optimizer, ce, lr)
        return ce.detach()

    def _arch_step(
        self, images: torch.Tensor, labels: torch.Tensor, part: Part, step: int, steps: int
    ) -> torch.Tensor:
        epochs, config = self.config.epochs, self.config
        lr = config.arch_lr * cosine(self.search_epoch + step / steps, epochs)
        ce, mixes = self._cross_entropy(images, labels, part, step)
        latency_us = self.supernet.expected_us(mixes)
        loss = ce + config.alpha * latency_us.log() ** config.beta  # Eq. 2
        self._descend(self.arch_optimizer, loss, lr)
        # After architecture steps alone: a weight that Algorithm 1 leaves as it is would push the
        # masks again and again, though nothing was learned in between.
        self.supernet.update_masks((self.search_epoch + (step + 1) / steps) / epochs)
        return torch.stack([loss, ce, latency_us]).detach()

    def _cross_entropy(
        self, images: torch.Tensor, labels: torch.Tensor, part: Part, step: int
    ) -> tuple[torch.Tensor, Any]:
        seed, device, data = self.problem.seed, self.problem.device, self.problem.data
        draws = draws_for(part, seed, "augment", self.epoch, step)
        x, labels = training_batch(images, labels, data, self.config.augment, draws)
        mixes = self.supernet.draw(generator(seed, "gumbel", self.epoch, step))
        amp = self.config.amp and device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if amp else nullcontext():
            logits = self.supernet(x.to(memory_format=torch.channels_last), mixes)
        return part.weight * functional.cross_entropy(lifted(logits), labels), mixes

    def _descend(self, optimizer: torch.optim.Optimizer, loss: torch.Tensor, lr: float) -> None:
        """Take one step on the optimiser's own parameters; gradients of others are of no use."""
        (group,) = optimizer.param_groups
        group["lr"] = lr
        propagate(loss, group["params"])
        average_gradients(group["params"])
        optimizer.step()
        self.supernet.zero_grad()

    def _figures(
        self, weight_losses: list[torch.Tensor], arch_losses: list[torch.Tensor]
    ) -> dict[str, float]:
        means = [torch.stack(weight_losses).mean()]
        if arch_losses:
            means += torch.stack(arch_losses).mean(0).unbind()
        average_tensors(means)
        names = ("train_loss", "search_loss", "search_ce", "latency_ms")
        figures = {name: mean.item() for name, mean in zip(names, means, strict=False)}
        if not all(map(math.isfinite, figures.values())):
            raise FloatingPointError(
                f"epoch {self.epoch}: the loss is {figures['train_loss']}, that of the search"
                f" {figures.get('search_loss')}; a lower weight_lr or arch_lr may help"
            )
        if arch_losses:
            figures["latency_ms"] /= 1000
        return figures | {"mask_steps": self.supernet.mask_steps(), **self._sizes()}

    def _sizes(self) -> dict[str, float]:
        return {
            "num_blocks": self.supernet.num_blocks(),
            "num_layers": self.supernet.num_layers(),
            "num_params": sum(parameter.numel() for parameter in self.supernet.parameters()),
        }


def searchable(space: SearchSpace) -> GPUNet:
    """Return the space as one that PruNet searches.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(space, GPUNet):
        raise ValueError(f"space: prunet searches gpunet; {space.name} is not allowed")
    return space


def _supernet(problem: Problem, config: Config, state: State | None) -> Supernet:
    if problem.table is None:
        raise ValueError("latency: prunet needs a latency table; the measure stage makes one")
    structure = state["structure"] if state else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "weights").getrandbits(63))
        supernet = Supernet(searchable(problem.space), config, problem.table, structure)
    if state is not None:
        supernet.load_state_dict(state["supernet"])
    return supernet


def _parts(data: Data, config: Config, device: torch.device) -> tuple[Split, Split]:
    """Return the weights' and the architecture's parts of the training data; no seed enters."""
    total = len(data.train)
    order = torch.randperm(total, generator=generator("architecture part", total))
    size = max(1, min(total - 1, round(config.arch_fraction * total)))
    train = data.train.to(device)
    return train.subset(order[size:]), train.subset(order[:size])


def _follow(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Make the optimiser forget what is gone; its order is the model's, as after a resume."""
    optimizer.param_groups[0]["params"] = parameters
    kept = {id(parameter) for parameter in parameters}
    for parameter in list(optimizer.state):
        if id(parameter) not in kept:
            del optimizer.state[parameter]
