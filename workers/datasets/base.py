"""What a data set is: three splits that give batches of uint8 images by index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from search_spaces.base import Shape


class Split(Protocol):
    """Images and labels that are fetched by index."""

    labels_N: torch.Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) as uint8 and labels (B,) as int64."""
        ...

    def subset(self, index_M: torch.Tensor) -> Split:
        """Return a split of the samples at these indices, in this order."""
        ...

    def to(self, device: torch.device) -> Split:
        """Return the split with its tensors on the device."""
        ...


@dataclass(frozen=True)
class TensorSplit:
    """A split that is wholly resident: images (N, C, H, W) uint8, labels (N,) int64."""

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels_N)

    def batch(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) as uint8 and labels (B,) as int64."""
        index_B = index_B.to(self.labels_N.device)
        return self.images_NCHW[index_B], self.labels_N[index_B]

    def subset(self, index_M: torch.Tensor) -> TensorSplit:
        """Return a split of the samples at these indices, in this order."""
        return TensorSplit(*self.batch(index_M))

    def to(self, device: torch.device) -> TensorSplit:
        """Return the split with its tensors on the device."""
        return TensorSplit(self.images_NCHW.to(device), self.labels_N.to(device))


@dataclass(frozen=True)
class Data:
    """A data set in three splits; `mean` and `std` are per channel, of values in [0, 1]."""

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set's entry in `DATASETS`.

    `Config` holds its options. `describe(config, root)` returns the shape of a sample and the
    number of classes, and raises FileNotFoundError with the remedy if the files are absent; it
    reads no images. `load(config, root)` returns the data. `root` is the folder that
    `PARETORAY_DATA` names.
    """

    Config: type
    describe: Callable[[Any, Path], tuple[Shape, int]]
    load: Callable[[Any, Path], Data]


def to_arrays(data: Data) -> Mapping[str, Any] | None:
    """Return the images and labels as NumPy arrays for an object store; None if not resident."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    arrays: dict[str, Any] = {}
    for name, split in splits.items():
        if not isinstance(split, TensorSplit):
            return None
        arrays[f"{name}_images"] = split.images_NCHW.cpu().numpy()
        arrays[f"{name}_labels"] = split.labels_N.cpu().numpy()
    return arrays
