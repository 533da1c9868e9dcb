"""Settings of PruNet; the defaults are the paper's (sections 3 and A.2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from workers.augment import Augmentation

LayerSkipping = Literal["late", "from_start", "off"]
PAPER_THRESHOLD = 0.15  # section A.2.1


@dataclass(frozen=True)
class Config:
    """Settings of one search; a study sweeps over `alpha`, and over `phi` and `lambda_`.

    Args:
        alpha: weight of the latency term (Eq. 2).
        beta: exponent of the latency term (Eq. 2).
        phi: factor of an inserted skip's output, as long as it competes with a block.
        lambda_: factor of that block's output; smaller values keep more layers.
        temperature: of the Gumbel-softmax, constant. The paper gives no value.
        warmup_epochs: epochs that train weights alone; all points of a sweep share them.
        epochs: epochs of the search that follows.
        batch_size: over all ranks.
        arch_fraction: share of the training data that trains the architecture.
        weight_lr: first learning rate of the weights (RMSprop, cosine over warm-up and search).
        arch_lr: first learning rate of the architecture (Adam, cosine over the search).
        weight_decay: of the weights.
        threshold_initial: probability below which blocks are removed, at the end of warm-up; None
            means the paper's 0.15, or 1/N where a layer has N > 6 blocks (without Prunodes).
        threshold_final: the same at the end of the search; from 0.5 on, one block remains.
        prunode: search widths by Prunodes; otherwise every width is a block of its own.
        num_widths: widths per kind of block without Prunodes, evenly spaced; None means all.
        block_pruning: remove blocks as the search goes; otherwise the likeliest stays at the end.
        layer_skipping: replace the penultimate block of a layer by a skip, or offer skips from
            the start (without `phi` and `lambda_`), or never.
        amp: compute in bfloat16 where it is safe; on CUDA only.
        augment: of the training images, both parts.
    """

    alpha: float = 1.0
    beta: float = 0.6
    phi: float = 1.1
    lambda_: float = 0.55
    temperature: float = 1.0
    warmup_epochs: int = 70
    epochs: int = 130
    batch_size: int = 256
    arch_fraction: float = 0.2
    weight_lr: float = 0.002
    arch_lr: float = 0.1
    weight_decay: float = 1e-5
    threshold_initial: float | None = None
    threshold_final: float = 0.55
    prunode: bool = True
    num_widths: int | None = None
    block_pruning: bool = True
    layer_skipping: LayerSkipping = "late"
    amp: bool = False
    augment: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        """Refuse what no search can run with.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name.rstrip('_')}: {value} is not a finite number")
        for name in ("beta", "phi", "lambda_", "temperature", "weight_lr", "arch_lr"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("alpha", "weight_decay"):
            self._require(name, getattr(self, name) >= 0, "0 or above")
        for name in ("warmup_epochs", "epochs"):
            self._require(name, getattr(self, name) >= 1, "1 or above")
        self._require("batch_size", self.batch_size >= 2, "2 or above, for batch norm")
        self._require("num_widths", self.num_widths is None or self.num_widths >= 1, "1 or above")
        self._require("arch_fraction", 0 < self.arch_fraction < 1, "between 0 and 1")
        initial, final = self.threshold_initial or 0.0, self.threshold_final
        self._require("threshold_initial", 0 <= initial <= 1, "0 to 1")
        self._require("threshold_final", max(0.5, initial) <= final < 1, "0.5 to 1")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            key = name.rstrip("_")
            raise ValueError(f"{key}: {getattr(self, name)} is not allowed; allowed: {allowed}")

    def first_threshold(self, most_blocks: int) -> float:
        """Return the threshold at the end of warm-up, if a layer starts with so many blocks.

        Raises:
            ValueError: `threshold_initial` would remove blocks before they had a chance.
        """
        if self.threshold_initial is None:
            return min(PAPER_THRESHOLD, 1 / most_blocks)
        if self.block_pruning and self.threshold_initial > 1 / most_blocks:
            raise ValueError(
                f"threshold_initial: {self.threshold_initial} removes all blocks at once;"
                f" allowed: up to 1/{most_blocks}, as a layer has {most_blocks} blocks"
            )
        return self.threshold_initial

    def threshold(self, epoch: int, most_blocks: int) -> float:
        """Return the probability below which blocks go at the end of a search epoch (Eq. 6).

        `epoch` counts from 1 to `epochs`, so that the last one has the final threshold;
        `most_blocks` is the number of blocks that the largest layer starts with.
        """
        initial = self.first_threshold(most_blocks)
        return initial + (self.threshold_final - initial) * epoch / self.epochs
