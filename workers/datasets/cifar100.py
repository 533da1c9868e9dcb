"""CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32x32 pixels, 100 classes."""

from __future__ import annotations

from pathlib import Path

import torchvision

from search_spaces.base import Shape
from workers.datasets.base import Data, Dataset, Holdout, require
from workers.datasets.cifar10 import published_splits
from workers.datasets.splits import resident

Config = Holdout


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes.

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
    """
    require("cifar100", root / "cifar-100" / "cifar-100-python", downloadable=True)
    return (3, 32, 32), 100


def load(config: Config, root: Path) -> Data:
    """Return the data.

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
        ValueError: a file is damaged.
    """
    describe(config, root)
    splits = published_splits(torchvision.datasets.CIFAR100, root / "cifar-100")
    return resident("cifar100", *splits, val_fraction=config.val_fraction, num_classes=100)


DATASET = Dataset(Config, describe, load)
