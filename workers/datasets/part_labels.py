"""LFW Part Labels (Kae et al., CVPR 2013): faces whose pixels are hair, skin or background.

The published files, below `part-labels`: `lfw_funneled/<name>/<name>_<number>.jpg` of 250 x 250
pixels, `parts_lfw_funneled_gt_images/<name>_<number>.ppm`, and the lists of the splits
(1,500 / 500 / 927), `parts_{train,validation,test}.txt`, with a name and a number in every line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from search_spaces.base import Shape
from workers.datasets.base import IGNORED, Data, Dataset, TensorSplit, require
from workers.datasets.label_maps import mapped, pixels

CLASSES = ("hair", "skin", "background")  # red, green and blue; black has no label
SIDE = 256
LISTS = {"train": "parts_train.txt", "val": "parts_validation.txt", "test": "parts_test.txt"}


@dataclass(frozen=True)
class Config:
    """No options: faces lie amid a black square of 256 x 256 pixels, whose border is ignored."""


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes.

    Raises:
        FileNotFoundError: a list or a folder is absent.
    """
    for name in ("lfw_funneled", "parts_lfw_funneled_gt_images", *LISTS.values()):
        require("part_labels", root / "part-labels" / name, downloadable=False)
    return (3, SIDE, SIDE), len(CLASSES)


def load(config: Config, root: Path) -> Data:
    """Return the data.

    Raises:
        FileNotFoundError: a list or a folder is absent.
        ValueError: a list or an image is absent or damaged.
    """
    describe(config, root)
    folder = root / "part-labels"
    splits = {split: _split(folder, folder / name) for split, name in LISTS.items()}
    return mapped("part_labels", splits, len(CLASSES), side=SIDE)


def _split(folder: Path, names: Path) -> TensorSplit:
    images, labels = [], []
    for name, number in _listed(names):
        face = f"{name}_{number:04d}"
        images.append(_read(folder / "lfw_funneled" / name / f"{face}.jpg"))
        colours_3HW = _read(folder / "parts_lfw_funneled_gt_images" / f"{face}.ppm")
        if colours_3HW.shape != images[-1].shape:
            raise ValueError(f"{folder}: image and labels of {face} differ in size")
        most_HW, classes_HW = colours_3HW.max(0)
        labels.append(torch.where(most_HW > 0, classes_HW, IGNORED).to(torch.int16))
    return TensorSplit(torch.stack(images), torch.stack(labels))


def _listed(path: Path) -> list[tuple[str, int]]:
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        return [(name, int(number)) for name, number in lines]
    except ValueError as error:
        raise ValueError(f"{path}: expected a name and a number in every line") from error


def _read(path: Path) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            return pixels(image)
    except OSError as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


DATASET = Dataset(Config, describe, load, kind="label_maps")
