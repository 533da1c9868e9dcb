"""Images in ImageNet's layout, decoded when they are asked for.

`<path>/train/<class>/*` is cut into train and validation; `<path>/val/<class>/*`, whose labels
are public and whose figures papers print, is the TEST split.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from search_spaces.base import Shape
from workers.datasets.base import Data, Dataset, Holdout, require
from workers.datasets.splits import SPLIT_SEED, stratified

# Of ImageNet's training images, as every published network uses them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Config(Holdout):
    """Options of a folder of images.

    `path` is relative to the data folder, or absolute. The shorter side is resized to
    `resolution / crop_pct` pixels, and a centred square of `resolution` is cut out.
    `val_fraction` of train is kept to validate.
    """

    path: str = "imagenet"
    resolution: int = 224
    crop_pct: float = 1.0
    val_fraction: float = 0.02

    def __post_init__(self) -> None:
        """Refuse sizes and shares that cannot be."""
        if self.resolution < 1:
            raise ValueError(f"resolution: {self.resolution} is below 1")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct: {self.crop_pct} is outside (0, 1]")
        super().__post_init__()


@dataclass(frozen=True)
class FileSplit:
    """A split that is decoded by index; batches come out on the labels' device."""

    paths: tuple[str, ...]
    labels_N: torch.Tensor
    resolution: int
    crop_pct: float

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.paths)

    def batch(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, 3, resolution, resolution) as uint8 and labels (B,) as int64.

        Raises:
            ValueError: a file is not a readable image.
        """
        device = self.labels_N.device
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # decoding frees the lock
            images = list(threads.map(self._decode, index_B.tolist()))
        return torch.stack(images).to(device), self.labels_N[index_B.to(device)]

    def subset(self, index_M: torch.Tensor) -> FileSplit:
        """Return a split of the samples at these indices, in this order."""
        paths = tuple(self.paths[i] for i in index_M.tolist())
        labels_M = self.labels_N[index_M.to(self.labels_N.device)]
        return FileSplit(paths, labels_M, self.resolution, self.crop_pct)

    def to(self, device: torch.device) -> FileSplit:
        """Return the split whose batches come out on the device."""
        return FileSplit(self.paths, self.labels_N.to(device), self.resolution, self.crop_pct)

    def _decode(self, index: int) -> torch.Tensor:
        path, shorter_side = self.paths[index], round(self.resolution / self.crop_pct)
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except OSError as error:
            raise ValueError(f"{path}: not a readable image ({error})") from error
        resized = tv.resize(image, [shorter_side], InterpolationMode.BICUBIC)
        cut: torch.Tensor = tv.pil_to_tensor(tv.center_crop(resized, [self.resolution]))
        return cut


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes.

    Raises:
        FileNotFoundError: a folder is absent.
        ValueError: train and val have different classes.
    """
    return (3, config.resolution, config.resolution), len(_classes(config, root))


def load(config: Config, root: Path) -> Data:
    """Return the data; lists files, reads no images.

    Raises:
        FileNotFoundError: a folder is absent, or a class has no image.
        ValueError: train and val have different classes.
    """
    classes = _classes(config, root)
    everything, test = (_split(config, root, part, classes) for part in ("train", "val"))
    held, kept = stratified(everything.labels_N, config.val_fraction, seed=SPLIT_SEED)
    train, val = everything.subset(kept), everything.subset(held)
    return Data("image_folder", train, val, test, len(classes), MEAN, STD)


def _classes(config: Config, root: Path) -> list[str]:
    found = []
    for part in ("train", "val"):
        folder = root / config.path / part
        require("image_folder", folder, downloadable=False)
        found.append(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if found[0] != found[1]:
        odd = sorted(set(found[0]) ^ set(found[1]))
        raise ValueError(
            f"dataset image_folder: {root / config.path}: train and val have different classes,"
            f" such as {odd[0]!r}"
        )
    return found[0]


def _split(config: Config, root: Path, part: str, classes: list[str]) -> FileSplit:
    folder = str(root / config.path / part)
    numbers = {name: number for number, name in enumerate(classes)}
    samples = make_dataset(folder, numbers, extensions=IMG_EXTENSIONS)
    paths, labels = zip(*samples, strict=True)
    return FileSplit(paths, torch.tensor(labels), config.resolution, config.crop_pct)


DATASET = Dataset(Config, describe, load)
