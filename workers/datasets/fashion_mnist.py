"""Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 grey images of 28x28 pixels, 10 classes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
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
    require("fashion_mnist", _file(root, "train-images-idx3-ubyte"), downloadable=True)
    return (1, 28, 28), 10


def load(config: Config, root: Path) -> Data:
    """Return the data, from the .gz files as published (or as torchvision unpacks them).

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
        ValueError: a file is damaged.
    """
    describe(config, root)
    if not _file(root, "t10k-labels-idx1-ubyte").exists() and may_download():
        torchvision.datasets.FashionMNIST(root / "fashion-mnist", download=True)
    train, test = _split(root, "train"), _split(root, "t10k")
    name, share = "fashion_mnist", config.val_fraction
    return resident(name, train, test, val_fraction=share, num_classes=10)


def _split(root: Path, prefix: str) -> TensorSplit:
    images = _read_idx(_file(root, f"{prefix}-images-idx3-ubyte"), (-1, 1, 28, 28))
    labels = _read_idx(_file(root, f"{prefix}-labels-idx1-ubyte"), (-1,)).long()
    if len(images) != len(labels):
        raise ValueError(
            f"dataset fashion_mnist: {len(images)} {prefix} images and {len(labels)} labels;"
            " fetch the files again"
        )
    return TensorSplit(images, labels)


def _file(root: Path, name: str) -> Path:
    folder = root / "fashion-mnist" / "FashionMNIST" / "raw"
    unpacked = folder / name
    return unpacked if unpacked.is_file() else folder / f"{name}.gz"


def _read_idx(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """Read an IDX file of bytes: a header of 4 bytes and 4 per dimension, then the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        values = np.frombuffer(bytearray(data), np.uint8, offset=4 + 4 * data[3])
        return torch.from_numpy(values).view(shape)
    except (EOFError, IndexError, RuntimeError, ValueError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged ({error}); fetch it again") from error


DATASET = Dataset(Config, describe, load)
