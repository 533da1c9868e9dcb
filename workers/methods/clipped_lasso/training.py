"""Training by SGD, an epoch at a time, on losses that the caller yields.

Losses of a step are propagated one after another and their gradients add up, so that of several
networks only one holds its activations at a time. Shapes: B samples of this rank's part of a batch,
C channels, H x W pixels, S steps of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from workers.batches import batches, draws_for, part_of
from workers.inputs import training_batch
from workers.methods.clipped_lasso.config import Config
from workers.optimizers import decay_groups
from workers.protocol import Problem, State, copied
from workers.ranks import average_buffers, average_gradients, average_tensors
from workers.sharding import load_optimizer, sharded

Losses = Callable[[torch.Tensor, torch.Tensor, torch.Generator], Iterator[torch.Tensor]]
"""Yields a step's losses, from images (B, C, H, W), labels (B,) and draws, equal on all ranks."""


class Training:
    """A network in training, its optimiser, the epochs done and the figures of the last one.

    Args:
        model: the network, trained in place.
        problem: data, seed and device.
        config: the settings.
        epochs: to train for.
        state: what `state()` returned, to continue from.
    """

    def __init__(
        self, model: nn.Module, problem: Problem, config: Config, epochs: int, state: State | None
    ) -> None:
        self.problem, self.config, self.epochs = problem, config, epochs
        if state is not None:
            model.load_state_dict(state["model"])
        self.model = sharded(model, problem.sharding, problem.device)
        self.optimizer = torch.optim.SGD(
            decay_groups(model, config.weight_decay),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            foreach=True,
        )
        self.split = problem.data.train.to(problem.device)
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        if state is not None:
            self.epoch, self.metrics = state["epoch"], dict(state["metrics"])
            load_optimizer(self.optimizer, state["optimizer"])

    def state(self) -> State:
        """Return all that a run continues from, to the bit."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "model": copied(self.model.state_dict()),
            "optimizer": copied(self.optimizer.state_dict()),
        }

    def run(self, losses: Losses, after: Callable[[float], None] | None = None) -> Iterator[bool]:
        """Train; yield after every epoch whether it was the last.

        A training that had ended yields once more: its last progress may not have been kept.

        Args:
            losses: of a step.
            after: is called after every step of the optimiser, with its learning rate.

        Raises:
            FloatingPointError: a loss is not finite; names the epoch.
        """
        if self.epoch == self.epochs:
            yield True
        while self.epoch < self.epochs:
            self._train_epoch(losses, after)
            yield self.epoch == self.epochs

    def _train_epoch(self, losses: Losses, after: Callable[[float], None] | None) -> None:
        data, config, seed = self.problem.data, self.config, self.problem.seed
        lr = config.learning_rate(self.epoch / self.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        taken: list[torch.Tensor] = []
        part = part_of(self.split, config.batch_size)
        loaded = batches(self.split, config.batch_size, seed=seed, epoch=self.epoch)
        for step, (samples, labels) in enumerate(loaded):
            draws = draws_for(part, seed, "step", self.epoch, step)
            x_BCHW, labels_B = training_batch(samples, labels, data, config.augment, draws)
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
            taken.append(self._step(losses(x_BCHW, labels_B, draws.generator), part.weight))
            if after is not None:
                after(lr)
        average_buffers(self.model)
        self.epoch += 1
        self.metrics = {"train_loss": self._mean(torch.stack(taken)), "lr": lr}

    def _step(self, losses: Iterator[torch.Tensor], weight: float) -> torch.Tensor:
        """Make a step on the sum of the losses, times a weight; return it, on the device."""
        total = torch.zeros((), device=self.problem.device)
        self.optimizer.zero_grad()
        while True:
            with self._autocast():
                loss = next(losses, None)
            if loss is None:
                break
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            total += weight * loss.detach()
        average_gradients(self.model.parameters())
        self.optimizer.step()
        return total

    def _autocast(self) -> AbstractContextManager[object]:
        use = self.config.amp and self.problem.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if use else nullcontext()

    def _mean(self, losses_S: torch.Tensor) -> float:
        mean = losses_S.mean()
        average_tensors([mean])
        loss = mean.item()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"epoch {self.epoch}: the loss is {loss}; a lower method.lr may help"
            )
        return loss
