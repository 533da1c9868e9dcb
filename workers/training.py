"""Training of one network by a recipe, and its evaluation.

Every random draw follows from (seed, epoch, step) and the sample: a run repeats bit for bit, goes
on after any epoch, and learns alike on any number of ranks; dropout and drop path alone follow from
the rank, too. Networks run in channels-last layout: on a CPU it is 1.3 to 2 times as fast.

Shapes: N samples of a split, B of a batch, C channels, H x W pixels, S steps of an epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer

from search_spaces.base import Architecture
from workers import schedules
from workers.augment import Augmentation
from workers.averages import MovingAverage
from workers.batches import batches, draws_for, num_batches, part_of
from workers.datasets import IGNORED, Data, Split
from workers.distillation import Teacher, load_teacher, taught_loss, teacher_logits
from workers.draws import Part
from workers.drop_rates import set_drop_rates
from workers.evaluation import counted, evaluate, lifted
from workers.inputs import training_batch
from workers.optimizers import RMSpropTF, decay_groups
from workers.protocol import Candidate, Problem, Progress, State, copied, seeded
from workers.quick_norms import quick_norms
from workers.ranks import average_buffers, average_gradients, average_tensors, place
from workers.sharding import load_optimizer, sharded

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    A network that brings weights along from its search trains for `inherited_epochs`, without
    warm-up: 0 delivers it as it is, and null trains it from scratch like all others. `batch_size`
    is that of all ranks together. The learning rate climbs from `warmup_lr` to `lr` in
    `warmup_epochs`, then follows `schedule`; `exponential` multiplies it by `lr_decay_rate`
    every `lr_decay_epochs`, `steps` makes it a tenth of what it was after each of `lr_drops`,
    shares of `epochs`. Weights decay, biases and norms do not. `ema_decay` > 0 delivers a moving
    average of the weights. `drop_path` is the last block's probability of being left out; it grows
    linearly over all blocks that expand and project, but those without a residual connection stay.
    `amp` computes in half precision, on a GPU only.
    """

    epochs: int = 30
    inherited_epochs: int | None = None
    batch_size: int = 128
    optimizer: Literal["rmsprop", "sgd", "adam", "adamw"] = "rmsprop"
    lr: float = 0.01
    schedule: Literal["cosine", "exponential", "steps", "constant"] = "cosine"
    lr_decay_rate: float = 0.97
    lr_decay_epochs: float = 2.4
    lr_drops: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: float = 0.0
    warmup_lr: float = 1e-6
    momentum: float = 0.9
    weight_decay: float = 1e-5
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    drop_path: float = 0.0
    dropout: float = 0.0
    amp: Literal["off", "bf16", "fp16"] = "off"
    augment: Augmentation = Augmentation()
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        """Refuse amounts that cannot be."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is below 1")
        for name in ("lr", "lr_decay_rate", "lr_decay_epochs"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("warmup_epochs", "warmup_lr", "weight_decay", "inherited_epochs"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        for name in ("momentum", "label_smoothing", "ema_decay", "drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is outside [0, 1)")
        if not all(0 < share < 1 for share in self.lr_drops):
            raise ValueError(f"lr_drops: {list(self.lr_drops)} are not all between 0 and 1")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} leaves none of {self.epochs}")


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Return the learning rate at a time in epochs, fractions included."""
    warmup = recipe.warmup_epochs
    if epoch < warmup:
        return schedules.linear(epoch, warmup, recipe.warmup_lr, recipe.lr)
    if recipe.schedule == "cosine":
        return recipe.lr * schedules.cosine(epoch - warmup, recipe.epochs - warmup)
    if recipe.schedule == "exponential":
        rate, every = recipe.lr_decay_rate, recipe.lr_decay_epochs
        return recipe.lr * schedules.exponential(epoch, rate, every)
    if recipe.schedule == "steps":
        return recipe.lr * schedules.steps(epoch / recipe.epochs, recipe.lr_drops)
    return recipe.lr


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    state: State | None = None,
    teacher: nn.Module | None = None,
) -> Iterator[Progress]:
    """Train a network in place and yield its progress after every epoch.

    Metrics: train_loss, val_loss, val_accuracy, val_mean_iou where labels are maps, lr (at the
    epoch's end), epoch_s.
    Validation is of the moving average where there is one; at the last progress `model`
    itself holds it. A state of the last epoch gives that progress again.

    Args:
        model: the network; all ranks give equal ones.
        data: train and validation splits are read, test is not.
        recipe: how to train.
        seed: determines order, augmentation, dropout and drop path.
        device: where to train.
        state: what an earlier progress' `state()` returned.
        teacher: the network of `recipe.teacher`, frozen.

    Raises:
        FloatingPointError: the loss is not finite; names epoch and step.
    """
    run = _Training(model, recipe, device, teacher)
    if state is not None:
        run.restore(state)
    split, val = data.train.to(device), data.val.to(device)
    if run.epoch == recipe.epochs:
        yield run.progress()
    while run.epoch < recipe.epochs:
        started = time.perf_counter()
        train_loss = run.train_epoch(split, data, seed)
        run.epoch += 1
        if run.average is not None and run.epoch == recipe.epochs:
            model.load_state_dict(run.average.model.state_dict())
        evaluation = evaluate(run.delivered, val, data)
        epoch_s = time.perf_counter() - started
        run.metrics = {
            "train_loss": train_loss,
            **evaluation.metrics("val"),
            "lr": learning_rate(recipe, run.epoch),
            "epoch_s": epoch_s,
        }
        yield run.progress()


def finish(
    problem: Problem, architecture: Architecture, recipe: Recipe, state: State | None
) -> Iterator[Progress]:
    """Train an architecture; the last progress carries it (`protocol.Finish`).

    It starts from scratch, or, as `recipe.inherited_epochs` says, from the weights of its search.
    The candidate has the validation's figures (`Evaluation.metrics`), its predictions, and its
    weights (their moving average where the recipe has one).

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: the recipe's teacher does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "weights").getrandbits(63))
        network = quick_norms(problem.space.build(architecture))
    teacher = None
    if problem.start is not None and recipe.inherited_epochs is not None:
        network.load_state_dict(problem.start["weights"])
        if recipe.inherited_epochs == 0:
            candidate = _candidate(problem, architecture, network.to(problem.device))
            yield Progress(1, 1, candidate.metrics, dict, (candidate,))
            return
        recipe = replace(recipe, epochs=recipe.inherited_epochs, warmup_epochs=0.0)
    if recipe.teacher is not None:
        teacher = load_teacher(recipe.teacher, problem.space).to(problem.device)
    for progress in train(
        network,
        problem.data,
        recipe,
        seed=problem.seed,
        device=problem.device,
        state=state,
        teacher=teacher,
    ):
        if progress.step == progress.steps:
            candidate = _candidate(problem, architecture, network)
            progress = replace(progress, candidates=(candidate,))
        yield progress


def _candidate(problem: Problem, architecture: Architecture, network: nn.Module) -> Candidate:
    data = problem.data
    evaluation = evaluate(network, data.val.to(problem.device), data)
    return Candidate(
        architecture,
        metrics=evaluation.metrics("val"),
        predictions={"val": evaluation.predictions_N},
        weights=copied(network.state_dict()),
    )


class _Training:
    """A training under way: the network and all that a resumed run needs to go on with it."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        device: torch.device,
        teacher: nn.Module | None,
    ) -> None:
        self.model = sharded(model, "ddp", device)  # a chosen network has room on one device
        self.recipe, self.device, self.teacher = recipe, device, teacher
        set_drop_rates(model, drop_path=recipe.drop_path, dropout=recipe.dropout)
        self.optimizer = _optimizer(model, recipe)
        self.amp = recipe.amp != "off" and device.type == "cuda"
        self.scaler = GradScaler(device.type, enabled=self.amp and recipe.amp == "fp16")
        self.average = MovingAverage(model, recipe.ema_decay) if recipe.ema_decay else None
        self.epoch = 0
        self.metrics: dict[str, float] = {}

    @property
    def delivered(self) -> nn.Module:
        """The network whose figures count."""
        return self.model if self.average is None else self.average.model

    def train_epoch(self, split: Split, data: Data, seed: int) -> float:
        """Train for one epoch and return the mean loss."""
        recipe, (rank, _) = self.recipe, place()
        part = part_of(split, recipe.batch_size)
        steps = num_batches(split, recipe.batch_size)
        losses: list[torch.Tensor] = []
        self.model.train()
        # Dropout and drop path draw from torch's global generators.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seeded(seed, "dropout", self.epoch, rank).getrandbits(63))
            loaded = batches(split, recipe.batch_size, seed=seed, epoch=self.epoch)
            for step, (samples_B, labels_B) in enumerate(loaded):
                draws = draws_for(part, seed, "augment", self.epoch, step)
                x_BCHW, labels_B = training_batch(samples_B, labels_B, data, recipe.augment, draws)
                x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
                weight = _weight(part, labels_B)
                losses.append(self.train_step(x_BCHW, labels_B, self.epoch + step / steps, weight))
        average_buffers(self.model)
        if self.average is not None:
            average_buffers(self.average.model)
        return _mean_loss(losses, self.epoch)

    def train_step(
        self,
        x_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        epoch: float,
        weight: float | torch.Tensor = 1.0,
    ) -> torch.Tensor:
        """Make one step on what `inputs` gives; return the loss, which is on the device.

        Both are multiplied by the weight of this rank's part of the batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, epoch)
        self.optimizer.zero_grad()
        dtype = AMP_DTYPES.get(self.recipe.amp)
        with torch.autocast(self.device.type, dtype, enabled=self.amp):
            loss = self.loss(x_BCHW, labels_B) * weight
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        average_gradients(self.model.parameters())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return loss.detach()

    def loss(self, x_BCHW: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Return the batch's loss: the labels', and the teacher's where there is one."""
        logits_BK, classes_B = counted(lifted(self.model(x_BCHW)), labels_B)
        smoothing = self.recipe.label_smoothing
        loss = functional.cross_entropy(logits_BK, classes_B, label_smoothing=smoothing)
        teacher = self.recipe.teacher
        if self.teacher is None or teacher is None:
            return loss
        taught_BK = lifted(teacher_logits(self.teacher, teacher, x_BCHW))
        taught_BK, _ = counted(taught_BK, labels_B)
        return taught_loss(teacher, loss, logits_BK, taught_BK, classes_B)

    def progress(self) -> Progress:
        """Return the progress that the last epoch made."""
        return Progress(self.epoch, self.recipe.epochs, dict(self.metrics), self.state)

    def state(self) -> State:
        """Return copies of everything that changes."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "model": copied(self.model.state_dict()),
            "optimizer": copied(self.optimizer.state_dict()),
            "scaler": dict(self.scaler.state_dict()),
            "average": None if self.average is None else self.average.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.epoch, self.metrics = state["epoch"], dict(state["metrics"])
        self.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        if state["scaler"]:  # not of a training that scaled nothing
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.restore(state["average"])


def _optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    momentum = recipe.momentum
    kinds: Mapping[str, Callable[[Any], Optimizer]] = {
        "rmsprop": lambda groups: RMSpropTF(groups, recipe.lr, momentum=momentum),
        "sgd": lambda groups: SGD(
            groups, recipe.lr, momentum=momentum, nesterov=momentum > 0, foreach=True
        ),
        "adam": lambda groups: Adam(groups, recipe.lr, foreach=True),
        "adamw": lambda groups: AdamW(groups, recipe.lr, foreach=True),
    }
    return kinds[recipe.optimizer](decay_groups(model, recipe.weight_decay))


def _weight(part: Part, labels_B: torch.Tensor) -> float | torch.Tensor:
    """Return what this rank's mean loss counts in the mean over ranks.

    Means are over samples; where labels are maps, over labelled pixels, of which ranks have more
    or fewer.
    """
    if labels_B.dim() == 1:
        return part.weight
    labelled = (labels_B != IGNORED).sum().float()
    mean = labelled.clone()
    average_tensors([mean])
    return labelled / mean


def _mean_loss(losses: list[torch.Tensor], epoch: int) -> float:
    """Return the epoch's mean loss over steps and ranks; one wait for the device, not one a step.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    losses_S = torch.stack(losses)
    average_tensors([losses_S])
    values = losses_S.tolist()
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"training loss is {value} in epoch {epoch + 1}, step {step};"
                " a smaller learning rate or a longer warm-up may help"
            )
    return float(sum(values) / len(values))
