"""Settings of REDS; the defaults are those of its DS-CNN."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from workers.training import Recipe


@dataclass(frozen=True)
class Config:
    """Settings of one trial: a full network and the subnets inside it.

    Args:
        solver: "bu" takes the smallest subnet first and keeps its units in all others; "td" takes
            the largest first and gives others its units only.
        num_subnets: with the full network, at evenly spaced shares of its multiply-accumulates.
        fractions: those shares themselves, increasing; the full network, 1, is always there.
        min_units: that every layer keeps.
        keep: layers that keep all their units (the paper's CNN: `low_rank` and `fc1`).
        linear_cost: price units as the paper's DNN and CNN do, as if the layer before were whole.
        peak_memory_bytes: that every subnet but the full network must fit into.
        importance_batches: whose gradients are summed.
        from_scratch: train the subnets that were found with new weights: the baseline of Tables 5
            and 6.
        train_norms: train batch norms along with all else; the paper leaves them as they are.
        epochs: of all subnets together.
        norm_epochs: of the batch norms alone, afterwards.
        batch_size: over all ranks, of importance and training.
        lrs: learning rates of the joint training (Adam), one after another.
        lr_changes: shares of `epochs` after which the next one is taken. The paper's are 15,000 of
            27,700 steps for its DNN, 20,000 of 36,900 for its DS-CNN, and 10,000 and 20,000 of
            27,700, with 5e-4, 1e-4 and 2e-5, for its CNN.
        norm_lr: learning rate of the batch norms (Adam).
        pretraining: how the full network is trained first, once for all points of a sweep; what
            it augments is augmented throughout.
    """

    solver: Literal["bu", "td"] = "bu"
    num_subnets: int = 4
    fractions: tuple[float, ...] | None = None
    min_units: int = 1
    keep: tuple[str, ...] = ()
    linear_cost: bool = False
    peak_memory_bytes: int | None = None
    importance_batches: int = 100
    from_scratch: bool = False
    train_norms: bool = False
    epochs: int = 100
    norm_epochs: int = 10
    batch_size: int = 100
    lrs: tuple[float, ...] = (1e-3, 1e-4)
    lr_changes: tuple[float, ...] = (0.54,)
    norm_lr: float = 5e-4
    pretraining: Recipe = Recipe(
        epochs=100, batch_size=100, optimizer="adam", lr=1e-3, weight_decay=0.0
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        for name in ("min_units", "importance_batches", "epochs"):
            self._require(name, getattr(self, name) >= 1, "1 or above")
        self._require("num_subnets", self.num_subnets >= 2, "2 or above")
        self._require("norm_epochs", self.norm_epochs >= 0, "0 or above")
        self._require("batch_size", self.batch_size >= 2, "2 or above, for batch norm")
        self._require("lrs", bool(self.lrs) and min(self.lrs) > 0, "numbers above 0")
        self._require("norm_lr", self.norm_lr > 0, "above 0")
        changes = len(self.lrs) - 1
        known = len(self.lr_changes) == changes and _increases((0.0, *self.lr_changes, 1.0))
        self._require("lr_changes", known, f"{changes}, increasing, between 0 and 1")
        if self.fractions is not None:
            alone = self.num_subnets == type(self).num_subnets
            self._require("num_subnets", alone, "one of num_subnets and fractions")
            known = bool(self.fractions) and _increases((0.0, *self.fractions, math.inf))
            self._require("fractions", known and self.fractions[-1] <= 1, "increasing, up to 1")
        if self.peak_memory_bytes is not None:
            self._require("peak_memory_bytes", self.peak_memory_bytes >= 1, "1 or above")
        for name in ("teacher", "inherited_epochs"):
            if getattr(self.pretraining, name) is not None:
                raise ValueError(f"pretraining.{name}: is not allowed; pretraining has none")

    @property
    def shares(self) -> tuple[float, ...]:
        """The subnets' shares of the multiply-accumulates, smallest first, the full network's 1."""
        if self.fractions is None:
            return tuple(index / self.num_subnets for index in range(1, self.num_subnets + 1))
        return self.fractions if self.fractions[-1] == 1 else (*self.fractions, 1.0)

    def learning_rate(self, progress: float) -> float:
        """Return the joint training's learning rate at a share of its epochs, in [0, 1)."""
        return self.lrs[sum(progress >= change for change in self.lr_changes)]

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            value = getattr(self, name)
            raise ValueError(f"{name}: {value} is not allowed; allowed: {allowed}")


def _increases(values: tuple[float, ...]) -> bool:
    return all(one < two for one, two in itertools.pairwise(values))
