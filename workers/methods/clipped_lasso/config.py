"""Settings of clipped-Lasso subnets; `Config` says which defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workers import schedules
from workers.augment import Augmentation

Penalty = Literal["clipped", "group", "none"]


@dataclass(frozen=True)
class Config:
    """Settings of one study, which sweeps over `lambda_` and `a`.

    Defaults of `lambda_`, `lr`, `lr_drops` (of 200 epochs) and `augment` are the paper's for
    CIFAR-10 (section IV-A). The others are ours: of `a` it has three values, 0.3, 0.75 and 1.5, and
    it gives no momentum, weight decay, batch size, epochs or threshold of zero.

    Args:
        penalty: what makes filters vanish: the clipped Lasso (Eq. 3) or Group Lasso (Eq. 1). With
            "none" nothing is trained: the subnet has uniform widths, as slimmable networks have.
        lambda_: weight of the penalty.
        a: filters whose norm is below `a` times their layer's mean are penalised; more of them
            vanish for a larger one. For the clipped Lasso alone.
        width_mult: the uniform subnet's share of all widths. For "none" alone.
        update: let the penalty act as a proximal step, which zeroes filters, or as a term of the
            loss, which SGD only brings near zero.
        zero_below: a filter whose norm is up to this share of its layer's mean counts as zero.
        pretrain_epochs: of the full network, without penalty; all points of a sweep start there.
        epochs: of the generation that follows.
        fused_epochs: of the training of all subnets together.
        widths: "own": the subnets as they were generated, each with batch norms of its own; "any":
            every width between the smallest of them and the full network (section V-A).
        num_widths: how many of "any" are delivered, evenly spaced from the smallest to the full.
        batch_size: over all ranks.
        lr: first learning rate of all three trainings (SGD).
        lr_drops: shares of a training's epochs after which it is a tenth of what it was.
        momentum: of SGD, Nesterov's.
        weight_decay: of weights; norms and biases have none.
        amp: compute in bfloat16 where it is safe; on CUDA only.
        augment: of the training images.
    """

    penalty: Penalty = "clipped"
    lambda_: float = 0.01
    a: float = 1.0
    width_mult: float = 0.5
    update: Literal["proximal", "gradient"] = "proximal"
    zero_below: float = 1e-3
    pretrain_epochs: int = 200
    epochs: int = 200
    fused_epochs: int = 200
    widths: Literal["own", "any"] = "own"
    num_widths: int = 9
    batch_size: int = 128
    lr: float = 0.1
    lr_drops: tuple[float, ...] = (0.4, 0.6, 0.8)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    amp: bool = False
    augment: Augmentation = Augmentation(pad=4, flip=True)

    def __post_init__(self) -> None:
        """Refuse what no training can run with.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        for name in ("pretrain_epochs", "epochs", "fused_epochs"):
            self._require(name, getattr(self, name) >= 1, "1 or above")
        for name in ("a", "lr"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("lambda_", "weight_decay"):
            self._require(name, getattr(self, name) >= 0, "0 or above")
        for name in ("momentum", "zero_below"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 or above, below 1")
        self._require("width_mult", 0 < self.width_mult <= 1, "above 0, up to 1")
        self._require("num_widths", self.num_widths >= 2, "2 or above")
        self._require("batch_size", self.batch_size >= 2, "2 or above, for batch norm")
        self._require("lr_drops", all(0 < share < 1 for share in self.lr_drops), "between 0 and 1")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            key = name.rstrip("_")
            raise ValueError(f"{key}: {getattr(self, name)} is not allowed; allowed: {allowed}")

    def learning_rate(self, done: float) -> float:
        """Return the learning rate after a share of a training's epochs."""
        return self.lr * schedules.steps(done, self.lr_drops)
