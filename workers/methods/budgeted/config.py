"""Settings of Budgeted Super Networks.

The defaults are the paper's, or its code's where it prints none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workers import schedules
from workers.augment import Augmentation

LAMBDAS_PER_SWEEP = 5


@dataclass(frozen=True)
class Config:
    """Settings of one search; a study sweeps over `budget` and `lambda_`.

    Args:
        budget: the cost from which on networks are penalised, in the unit of the study's cost;
            None penalises none.
        lambda_: weight of what a network costs above the budget. `lambda: auto` in a sweep is a
            list of values for every budget (`auto_lambdas`).
        lambda_ramp: share of `epochs` during which lambda grows from a hundredth of its value,
            evenly in the exponent; 0 has it there at once, as the paper does.
        policy: learn which edges to keep by REINFORCE; or, to compare with, draw one network
            within the budget at random and train that one.
        random_share: of the budget, which a random network costs at least.
        warmup_epochs: epochs with every edge on; all points of a sweep share them.
        epochs: epochs of the search that follows.
        batch_size: over all ranks.
        lr: first learning rate of the weights (SGD), constant during warm-up.
        lr_drops: shares of `epochs` after which the learning rate is a tenth of what it was.
        momentum: of the weights' optimiser.
        weight_decay: of the weights.
        logit_start: of every edge's logit; 3 is a probability of 0.95.
        logit_optimizer: plain SGD, or Adam, which settles sooner where the penalty is weak; where
            it is strong, edges close together, as all of Adam's steps are alike.
        logit_lr: its learning rate, constant. The gradient is a mean over the batch; the authors'
            code has a sum over 64 images at 0.001.
        amp: compute in bfloat16 where it is safe; on CUDA only.
        augment: of the training images.
    """

    budget: float | None = None
    lambda_: float = 0.0
    lambda_ramp: float = 0.0
    policy: Literal["reinforce", "random"] = "reinforce"
    random_share: float = 0.0
    warmup_epochs: int = 50
    epochs: int = 300
    batch_size: int = 64
    lr: float = 0.1
    lr_drops: tuple[float, ...] = (0.5, 0.75)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    logit_start: float = 3.0
    logit_optimizer: Literal["sgd", "adam"] = "sgd"
    logit_lr: float = 0.064
    amp: bool = False
    augment: Augmentation = Augmentation(pad=2, flip=True)

    def __post_init__(self) -> None:
        """Refuse what no search can run with.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        for name in ("warmup_epochs", "epochs"):
            self._require(name, getattr(self, name) >= 1, "1 or above")
        for name in ("lr", "logit_lr"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("lambda_", "weight_decay"):
            self._require(name, getattr(self, name) >= 0, "0 or above")
        self._require("budget", self.budget is None or self.budget > 0, "above 0")
        self._require("momentum", 0 <= self.momentum < 1, "0 up to 1")
        for name in ("lambda_ramp", "random_share"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 up to 1")
        self._require("batch_size", self.batch_size >= 2, "2 or above, for the baseline")
        self._require("lr_drops", all(0 < share < 1 for share in self.lr_drops), "between 0 and 1")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            key = name.rstrip("_")
            raise ValueError(f"{key}: {getattr(self, name)} is not allowed; allowed: {allowed}")

    def learning_rate(self, epoch: int) -> float:
        """Return the weights' learning rate; epochs are counted from the warm-up's first."""
        done = (epoch - self.warmup_epochs) / self.epochs
        return self.lr * schedules.steps(done, self.lr_drops)

    def penalty(self, search_epoch: int) -> float:
        """Return lambda in an epoch of the search, of which the first is 0."""
        return self.lambda_ * schedules.grown(search_epoch, self.lambda_ramp * self.epochs, 0.01)


def auto_lambdas(settings: Mapping[str, Any]) -> list[float]:
    """Return weights for a budget: five from 10^-(m+1) to 10^-(m-1), evenly in the exponent.

    m is the budget's order of magnitude. The supplement prints 10^(m-1) to 10^(m+1), with which
    the penalty would be about the square of the budget; the authors' code has 1e-7 for MACs.

    Args:
        settings: the method's at a point of the other axes.

    Raises:
        ValueError: there is no budget.
    """
    budget = settings.get("budget")
    if not isinstance(budget, int | float) or budget <= 0:
        raise ValueError(f"lambda: auto needs a budget above 0, got {budget}")
    middle = -math.floor(math.log10(budget))
    steps = LAMBDAS_PER_SWEEP - 1
    return [float(f"{10 ** (middle - 1 + 2 * step / steps):.3g}") for step in range(steps + 1)]
