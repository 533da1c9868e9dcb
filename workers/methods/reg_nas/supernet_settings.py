"""Settings of the supernet's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workers.augment import Augmentation
from workers.schedules import cosine, linear

BASE_BATCH = 64  # of which lessons give the learning rate


@dataclass(frozen=True)
class Lesson:
    """How long to train, and how fast: `lr` is for a batch of 64, and grows with the batch.

    It climbs from 0 in `warmup_epochs`, then falls along half a cosine.
    """

    epochs: int
    lr: float
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.epochs < 1:
            raise ValueError(f"epochs: {self.epochs}; allowed: 1 or above")
        if self.lr <= 0:
            raise ValueError(f"lr: {self.lr}; allowed: above 0")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs}; allowed: 0 up to {self.epochs} epochs"
            )


@dataclass(frozen=True)
class SupernetTraining:
    """Settings of the supernet's training; the defaults are Once-for-all's for ImageNet.

    Args:
        strategy: progressive shrinking, or the sandwich rule.
        full: lesson of the full network; the first phase of shrinking. Its warm-up is ours.
        kernel: lessons of the phases in which kernels shrink; of several, each offers one more
            option, and the last all.
        depth: the same of depths.
        expand: the same of expand ratios.
        width: the same of widths, which ResNets have; as `expand`, for want of published ones.
        sandwich: the one lesson of the sandwich rule; as `full`, for want of published ones.
        batch_size: over all ranks; a lesson's learning rate is multiplied by batch_size / 64.
        momentum: of SGD, Nesterov's.
        weight_decay: of weights; norms and biases have none.
        label_smoothing: of the labels.
        distillation: weight of the full network's answers beside the labels, in shrinking.
        amp: compute in bfloat16 where it is safe; on CUDA only.
        augment: of the training images.
    """

    strategy: Literal["progressive_shrinking", "sandwich"] = "progressive_shrinking"
    full: Lesson = Lesson(180, 0.08, 5)
    kernel: tuple[Lesson, ...] = (Lesson(120, 3e-2, 5),)
    depth: tuple[Lesson, ...] = (Lesson(25, 2.5e-3), Lesson(120, 7.5e-3, 5))
    expand: tuple[Lesson, ...] = (Lesson(25, 2.5e-3), Lesson(120, 7.5e-3, 5))
    width: tuple[Lesson, ...] = (Lesson(25, 2.5e-3), Lesson(120, 7.5e-3, 5))
    sandwich: Lesson = Lesson(180, 0.08, 5)
    batch_size: int = 2048
    momentum: float = 0.9
    weight_decay: float = 3e-5
    label_smoothing: float = 0.1
    distillation: float = 1.0
    amp: bool = False
    augment: Augmentation = Augmentation(min_crop_area=0.08, flip=True)

    def __post_init__(self) -> None:
        """Refuse what no training can run with.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        for name in ("kernel", "depth", "expand", "width"):
            self._require(name, bool(getattr(self, name)), "one lesson or more")
        for name in ("momentum", "label_smoothing"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 up to 1")
        for name in ("weight_decay", "distillation"):
            self._require(name, getattr(self, name) >= 0, "0 or above")
        self._require("batch_size", self.batch_size >= 2, "2 or above, for batch norm")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name}: {getattr(self, name)} is not allowed; allowed: {allowed}")

    @property
    def lessons(self) -> Mapping[str, tuple[Lesson, ...]]:
        """The lessons of progressive shrinking by the names of their phases."""
        return {
            "full": (self.full,),
            "kernel": self.kernel,
            "depth": self.depth,
            "expand": self.expand,
            "width": self.width,
        }

    def learning_rate(self, lesson: Lesson, epoch: float) -> float:
        """Return the learning rate at a time in a lesson's epochs, fractions included."""
        peak = lesson.lr * self.batch_size / BASE_BATCH
        if epoch < lesson.warmup_epochs:
            return linear(epoch, lesson.warmup_epochs, 0.0, peak)
        return peak * cosine(epoch - lesson.warmup_epochs, lesson.epochs - lesson.warmup_epochs)
