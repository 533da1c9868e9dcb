"""CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32x32 pixels, 10 classes.

torchvision reads the published Python files and checks them against their known MD5 sums first.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision

from search_spaces.base import Shape
from workers.datasets.base import Data, Dataset, Holdout, TensorSplit, may_download, require
from workers.datasets.splits import resident

Config = Holdout


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes.

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
    """
    require("cifar10", root / "cifar-10" / "cifar-10-batches-py", downloadable=True)
    return (3, 32, 32), 10


def load(config: Config, root: Path) -> Data:
    """Return the data.

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
        ValueError: a file is damaged.
    """
    describe(config, root)
    splits = published_splits(torchvision.datasets.CIFAR10, root / "cifar-10")
    return resident("cifar10", *splits, val_fraction=config.val_fraction, num_classes=10)


def published_splits(
    cifar: type[torchvision.datasets.CIFAR10], folder: Path
) -> tuple[TensorSplit, TensorSplit]:
    """Return the published train and test splits of CIFAR-10 or CIFAR-100.

    Raises:
        ValueError: a file is absent or damaged.
    """
    splits = []
    for train in (True, False):
        try:
            part = cifar(folder, train=train, download=may_download())
        except RuntimeError as error:
            raise ValueError(f"{folder}: a file is absent or damaged; fetch it again") from error
        images_NCHW = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        splits.append(TensorSplit(images_NCHW, torch.tensor(part.targets)))
    return splits[0], splits[1]


DATASET = Dataset(Config, describe, load)
