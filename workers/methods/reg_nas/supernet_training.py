"""Training of an elastic supernet, the stage before every search.

By progressive shrinking (`shrinking`), where sampled networks learn from labels and from the full
network as it was before any shrank; or by the sandwich rule, where the smallest network and random
ones learn from the largest in every step (`subnet_losses`).

Every rank draws the same networks, so that the same parameters have gradients on all of them.
Shapes: B samples of this rank's part of a batch, C channels, H x W pixels, S steps of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import accumulate
from typing import Protocol, cast

import torch

from search_spaces.base import SearchSpace
from search_spaces.elastic import ElasticSpace, Supernet
from workers.batches import batches, draws_for, num_batches, part_of
from workers.calibration import recalibrate
from workers.evaluation import evaluate
from workers.inputs import training_batch
from workers.methods.reg_nas.shrinking import Phase, drawn, everything, phases
from workers.methods.reg_nas.subnet_losses import sandwich_losses, shrinking_losses
from workers.methods.reg_nas.supernet_settings import SupernetTraining
from workers.optimizers import decay_groups
from workers.protocol import Problem, Progress, State, copied, seeded
from workers.ranks import average_gradients, average_tensors
from workers.sharding import load_optimizer, sharded

SANDWICH_SUBNETS = 2  # random ones in a step, beside the largest and the smallest
CALIBRATION_BATCH = 128  # 16 of them give the statistics for the figures of an epoch


class Settings(Protocol):
    """The method's settings, as far as this stage reads them."""

    @property
    def supernet(self) -> SupernetTraining:
        """How the supernet is trained."""
        ...


def pretrain(problem: Problem, config: Settings, state: State | None) -> Iterator[Progress]:
    """Train the supernet; the last progress' state has its tensors under "supernet".

    Metrics: train_loss (the sum of a step's networks), lr (at the epoch's end), val_accuracy_max
    and val_accuracy_min (of those presets, with batch norms of their own).

    Raises:
        ValueError: the space is not elastic.
        FloatingPointError: the loss is not finite; names the epoch.
    """
    run = Training(problem, config.supernet, state)
    if run.epoch == run.epochs:  # it was stopped before its last progress was kept
        yield Progress(run.epoch, run.epochs, run.metrics, run.state)
    while run.epoch < run.epochs:
        run.train_epoch()
        yield Progress(run.epoch, run.epochs, run.metrics, run.state)


def elastic_of(space: SearchSpace) -> ElasticSpace:
    """Return a space as one of which there is a supernet.

    Raises:
        ValueError: there is none.
    """
    if not hasattr(space, "own_name"):
        raise ValueError(
            f"space: reg_nas searches elastic supernets; {space.name} is not allowed:"
            " use ofa_mobilenet_v3 or ofa_resnet50"
        )
    return cast(ElasticSpace, space)


def fresh_supernet(problem: Problem) -> Supernet:
    """Return the supernet of a problem's space, its weights drawn from the seed.

    Raises:
        ValueError: the space is not elastic.
    """
    return sharded(_built(problem), "ddp", problem.device)


class Training:
    """A supernet in training, the epochs done and the figures of the last one.

    Args:
        problem: space, data, seed and device.
        settings: how to train.
        state: what `state()` returned, to continue from.
    """

    def __init__(self, problem: Problem, settings: SupernetTraining, state: State | None) -> None:
        self.problem, self.settings = problem, settings
        self.supernet = self._sharded(_built(problem, None if state is None else state["supernet"]))
        self.phases = _phases(self.supernet.space, settings)
        self._ends = list(accumulate(phase.lesson.epochs for phase in self.phases))
        self.optimizer = self._fresh_optimizer()
        self.split = problem.data.train.to(problem.device)
        self.teacher: Supernet | None = None
        self._taught: State | None = None  # the teacher's tensors
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        if state is not None:
            self._restore(state)

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return self._ends[-1]

    def state(self) -> State:
        """Return all that a run continues from, to the bit; at the end, what a search needs."""
        state = {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "supernet": copied(self.supernet.state_dict()),
        }
        if self.epoch == self.epochs:
            return state
        optimizer = copied(self.optimizer.state_dict())
        return {**state, "teacher": self._taught, "optimizer": optimizer}

    def train_epoch(self) -> None:
        """Train for one epoch of the phase that it belongs to, and compute its figures.

        Raises:
            FloatingPointError: the loss is not finite; names the epoch.
        """
        index = next(index for index, end in enumerate(self._ends) if self.epoch < end)
        phase = self.phases[index]
        done = self.epoch - self._ends[index] + phase.lesson.epochs
        if done == 0:
            self._begin(phase)
        steps = num_batches(self.split, self.settings.batch_size)
        self.supernet.train()
        losses = []
        for step, (x_BCHW, labels_B, weight) in enumerate(self._batches()):
            lr = self.settings.learning_rate(phase.lesson, done + step / steps)
            losses.append(self._step(self._losses(phase, x_BCHW, labels_B, step), lr, weight))
        self.epoch += 1
        self.metrics = {
            "train_loss": self._mean(torch.stack(losses)),
            "lr": self.settings.learning_rate(phase.lesson, done + 1),
            **self._accuracies(),
        }

    def _begin(self, phase: Phase) -> None:
        """Begin a phase: the full network becomes the teacher, and the optimiser forgets."""
        if self.epoch > 0 and self._taught is None:
            self._taught = copied(self.supernet.state_dict())
            self._load_teacher(self._taught)
        if phase.sorted_after is not None:  # of whole tensors, which ranks may not hold
            supernet = _built(self.problem, copied(self.supernet.state_dict()))
            supernet.sort_channels(phase.sorted_after)
            self.supernet = self._sharded(supernet)
        self.optimizer = self._fresh_optimizer()

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        """Yield what networks are given in an epoch, labels, and the part's weight."""
        data, settings, seed = self.problem.data, self.settings, self.problem.seed
        part = part_of(self.split, settings.batch_size)
        loaded = batches(self.split, settings.batch_size, seed=seed, epoch=self.epoch)
        for step, (samples_B, labels_B) in enumerate(loaded):
            draws = draws_for(part, seed, "augment", self.epoch, step)
            x_BCHW, labels_B = training_batch(samples_B, labels_B, data, settings.augment, draws)
            yield x_BCHW.contiguous(memory_format=torch.channels_last), labels_B, part.weight

    def _losses(
        self, phase: Phase, x_BCHW: torch.Tensor, labels_B: torch.Tensor, step: int
    ) -> Iterator[torch.Tensor]:
        settings, supernet = self.settings, self.supernet
        rng = seeded(self.problem.seed, "subnets", self.epoch, step)
        subnets = drawn(self.problem.space, phase.offered, phase.subnets, rng)
        if settings.strategy == "sandwich":
            return sandwich_losses(supernet, subnets, x_BCHW, labels_B, settings)
        return shrinking_losses(supernet, subnets, x_BCHW, labels_B, settings, self.teacher)

    def _step(self, losses: Iterator[torch.Tensor], lr: float, weight: float) -> torch.Tensor:
        """Make a step on the weighted sum of the losses; parameters that no network used stay."""
        total = torch.zeros((), device=self.problem.device)
        self.optimizer.zero_grad()
        for loss in self._computed(losses):
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            total += weight * loss.detach()
        average_gradients(self.supernet.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return total

    def _computed(self, losses: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the losses; what computes them runs in half precision, where that is asked for."""
        amp = self.settings.amp and self.problem.device.type == "cuda"
        while True:
            with torch.autocast("cuda", torch.bfloat16) if amp else nullcontext():
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _mean(self, losses_S: torch.Tensor) -> float:
        mean = losses_S.mean()
        average_tensors([mean])
        loss = mean.item()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"epoch {self.epoch}: the loss is {loss}; smaller lr in method.supernet may help"
            )
        return loss

    def _accuracies(self) -> dict[str, float]:
        """Return what the largest and the smallest network reach, with statistics of their own."""
        data, accuracies = self.problem.data, {}
        val = data.val.to(self.problem.device)
        for name in ("max", "min"):
            self.supernet.set_active(self.problem.space.presets[name])
            recalibrate(self.supernet, self.split, data, CALIBRATION_BATCH)
            accuracies[f"val_accuracy_{name}"] = evaluate(self.supernet, val, data).accuracy
        return accuracies

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.SGD(
            decay_groups(self.supernet, settings.weight_decay),
            lr=0.0,  # every step sets its own
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            foreach=True,
        )

    def _load_teacher(self, taught: State) -> None:
        """Make the teacher; as the authors' it normalises by the batch, at any resolution."""
        self.teacher = self._sharded(_built(self.problem, taught))
        self.teacher.train()

    def _sharded(self, supernet: Supernet) -> Supernet:
        return sharded(supernet, self.problem.sharding, self.problem.device)

    def _restore(self, state: State) -> None:
        self.epoch, self.metrics = state["epoch"], dict(state["metrics"])
        if self.epoch == self.epochs:
            return
        load_optimizer(self.optimizer, state["optimizer"])
        self._taught = state["teacher"]
        if self._taught is not None:
            self._load_teacher(self._taught)


def _built(problem: Problem, tensors: State | None = None) -> Supernet:
    """Return the supernet on the CPU, with these tensors, or with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "weights").getrandbits(63))
        supernet = Supernet(elastic_of(problem.space))
    if tensors is not None:
        supernet.load_state_dict(tensors)
    return supernet


def _phases(space: SearchSpace, settings: SupernetTraining) -> list[Phase]:
    if settings.strategy == "sandwich":
        return [Phase("sandwich", settings.sandwich, everything(space), SANDWICH_SUBNETS)]
    return list(phases(space, settings.lessons))
