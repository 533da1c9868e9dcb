"""scikit-learn's bundled handwritten digits: 1,797 grey images of 8x8 pixels, 10 classes.

There is no official test split: a fifth of the images, stratified, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from search_spaces.base import Shape
from workers.datasets.base import Data, Dataset, Holdout, TensorSplit
from workers.datasets.splits import SPLIT_SEED, resident, stratified

TEST_FRACTION = 0.2
MAX_VALUE = 16.0


@dataclass(frozen=True)
class Config(Holdout):
    """Options: the share of the images outside the test split that is kept to validate."""

    val_fraction: float = 0.25


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes."""
    return (1, 8, 8), 10


def load(config: Config, root: Path) -> Data:
    """Return the data; its values 0..16 become 0..255."""
    from sklearn.datasets import load_digits  # takes a second; most processes never need it

    bundled = load_digits()
    scaled = torch.from_numpy(bundled.images) * (255 / MAX_VALUE)
    everything = TensorSplit(
        scaled.round().to(torch.uint8)[:, None], torch.from_numpy(bundled.target).long()
    )
    held, kept = stratified(everything.labels_N, TEST_FRACTION, seed=SPLIT_SEED)
    train, test = everything.subset(kept), everything.subset(held)
    return resident("digits", train, test, val_fraction=config.val_fraction, num_classes=10)


DATASET = Dataset(Config, describe, load)
