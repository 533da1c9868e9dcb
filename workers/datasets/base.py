"""What a data set is: three splits that give batches of samples by index.

A sample is a uint8 image (C, H, W) or an int16 clip of speech (T,). Its label is a class, or, of an
image, a map of classes (H, W) in which IGNORED marks pixels that do not count.

Shapes: N samples of a split, B of a batch, M of a subset; C channels, H x W pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from search_spaces.base import Shape
from workers.audio_ops import FrontEnd

IGNORED = -100  # the label that torch's cross-entropy leaves out
Kind = Literal["images", "clips", "label_maps"]


class Split(Protocol):
    """Samples and labels that are fetched by index."""

    @property
    def labels_N(self) -> torch.Tensor:  # noqa: N802
        """The label of every sample: classes (N,), or maps of them (N, H, W)."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples as they are held, images (B, C, H, W) uint8, and labels as int64."""
        ...

    def subset(self, index_M: torch.Tensor) -> Split:
        """Return a split of the samples at these indices, in this order."""
        ...

    def to(self, device: torch.device) -> Split:
        """Return the split with its tensors on the device."""
        ...


@dataclass(frozen=True)
class TensorSplit:
    """A split that is wholly resident: images (N, C, H, W) uint8 or clips (N, T) int16.

    Labels are classes (N,) int64, or maps (N, H, W) of a smaller integer type.
    """

    samples_N: torch.Tensor
    labels_N: torch.Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels_N)

    def batch(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples as they are held and labels as int64."""
        index_B = index_B.to(self.labels_N.device)
        return self.samples_N[index_B], self.labels_N[index_B].long()

    def subset(self, index_M: torch.Tensor) -> TensorSplit:
        """Return a split of the samples at these indices, in this order."""
        index_M = index_M.to(self.labels_N.device)
        return TensorSplit(self.samples_N[index_M], self.labels_N[index_M])

    def to(self, device: torch.device) -> TensorSplit:
        """Return the split with its tensors on the device."""
        return TensorSplit(self.samples_N.to(device), self.labels_N.to(device))


def truth(split: Split) -> torch.Tensor:
    """Return what is to be predicted: every sample's class, or every labelled pixel's, in order."""
    return split.labels_N[split.labels_N != IGNORED].long()


@dataclass(frozen=True)
class Data:
    """A data set in three splits.

    `mean` and `std` are those of training samples: of images per channel, of values in [0, 1]; of
    clips per coefficient that the `front_end` gives.
    """

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    front_end: FrontEnd | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set's entry in `DATASETS`.

    `Config` holds its options. `describe(config, root)` returns the shape in which a network sees
    a sample and the number of classes, and raises FileNotFoundError with the remedy if the files
    are absent; it reads no samples. `load(config, root)` returns the data. `root` is the folder
    that `PARETORAY_DATA` names. `kind` says what a sample and its label are.
    """

    Config: type
    describe: Callable[[Any, Path], tuple[Shape, int]]
    load: Callable[[Any, Path], Data]
    kind: Kind = "images"


@dataclass(frozen=True)
class Holdout:
    """Options of a data set that has its own test split: the share of train kept to validate."""

    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        """Refuse shares that leave a split empty."""
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_fraction: {self.val_fraction} is outside (0, 1)")


def data_root() -> Path:
    """Return the folder of data sets: `PARETORAY_DATA`, else ../shared/data, else the cache's."""
    if os.environ.get("PARETORAY_DATA"):
        return Path(os.environ["PARETORAY_DATA"]).expanduser().absolute()
    shared = Path("../shared/data").absolute()
    return shared if shared.is_dir() else cache_root() / "data"


def cache_root() -> Path:
    """Return the folder of decoded images: `PARETORAY_CACHE`, else ~/.cache/paretoray."""
    return Path(os.environ.get("PARETORAY_CACHE") or "~/.cache/paretoray").expanduser().absolute()


def may_download() -> bool:
    """Tell whether the user allows downloads: `PARETORAY_DOWNLOAD=1`."""
    return os.environ.get("PARETORAY_DOWNLOAD") == "1"


def require(name: str, path: Path, *, downloadable: bool) -> None:
    """Refuse a data set whose file or folder is absent and cannot be fetched.

    Raises:
        FileNotFoundError: one line with what is missing and what to do.
    """
    if path.exists() or (downloadable and may_download()):
        return
    remedy = "set PARETORAY_DATA to the folder that holds the data sets"
    if downloadable:
        remedy += ", or PARETORAY_DOWNLOAD=1 to have it downloaded"
    raise FileNotFoundError(f"dataset {name}: {path} is missing; {remedy}")


def to_arrays(data: Data) -> Mapping[str, Any] | None:
    """Return a data set as NumPy arrays and plain values, for an object store.

    Returns:
        What `from_arrays` takes, or None if the samples are not resident in memory.
    """
    splits = {"train": data.train, "val": data.val, "test": data.test}
    arrays: dict[str, Any] = {
        "name": data.name,
        "num_classes": data.num_classes,
        "mean": data.mean,
        "std": data.std,
    }
    for name, split in splits.items():
        if not isinstance(split, TensorSplit):
            return None
        arrays[f"{name}_samples"] = split.samples_N.cpu().numpy()
        arrays[f"{name}_labels"] = split.labels_N.cpu().numpy()
    if data.front_end is not None:
        arrays["stride_ms"] = data.front_end.stride_ms
        arrays["noise"] = data.front_end.noise_MT.cpu().numpy()
    return arrays


def from_arrays(arrays: Mapping[str, Any]) -> Data:
    """Rebuild a data set from what `to_arrays` returned, sharing the arrays' memory.

    Arrays from an object store are read-only; nothing writes into a split.
    """
    splits = {
        name: TensorSplit(_shared(arrays[f"{name}_samples"]), _shared(arrays[f"{name}_labels"]))
        for name in ("train", "val", "test")
    }
    front_end = None
    if "noise" in arrays:
        front_end = FrontEnd(arrays["stride_ms"], _shared(arrays["noise"]))
    return Data(
        name=arrays["name"],
        **splits,
        num_classes=arrays["num_classes"],
        mean=tuple(arrays["mean"]),
        std=tuple(arrays["std"]),
        front_end=front_end,
    )


def _shared(array: np.ndarray[Any, Any]) -> torch.Tensor:
    with warnings.catch_warnings():
        # torch knows no read-only tensors and warns; a split is only ever indexed.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
