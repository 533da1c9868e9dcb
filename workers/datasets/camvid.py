"""CamVid (Brostow et al., 2009): road scenes in which every pixel has one of 11 classes.

The archive holds the published splits at 192 x 144 pixels, images losslessly compressed:
`{images,labels}/{train,val,test}/<frame>`. Class 11, unlabelled, is ignored.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from PIL import Image

from search_spaces.base import Shape
from workers.datasets.base import IGNORED, Data, Dataset, TensorSplit, require
from workers.datasets.label_maps import mapped, pixels

ARCHIVE = "camvid/camvid_192x144.tar"
CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip
SMALL = (128, 96)
SIDE = 256


@dataclass(frozen=True)
class Config:
    """Options: frames amid a black square of 256 x 256 pixels, or 128 wide and 96 high."""

    size: Literal["padded_256x256", "resized_128x96"] = "padded_256x256"


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes.

    Raises:
        FileNotFoundError: the archive is absent.
    """
    require("camvid", root / ARCHIVE, downloadable=False)
    width, height = SMALL if config.size == "resized_128x96" else (SIDE, SIDE)
    return (3, height, width), len(CLASSES)


def load(config: Config, root: Path) -> Data:
    """Return the data; images are resized bilinearly, labels take the nearest pixel's.

    Raises:
        FileNotFoundError: the archive is absent.
        ValueError: the archive is damaged.
    """
    describe(config, root)
    resized = config.size == "resized_128x96"
    try:
        frames = _frames(root / ARCHIVE, SMALL if resized else None)
        splits = {split: _split(frames, split) for split in ("train", "val", "test")}
    except (tarfile.TarError, EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{root / ARCHIVE}: damaged ({error}); fetch it again") from error
    return mapped("camvid", splits, len(CLASSES), side=None if resized else SIDE)


def _frames(archive: Path, size: tuple[int, int] | None) -> dict[tuple[str, ...], torch.Tensor]:
    """Return images (3, H, W) and labels (H, W) under ("images" or "labels", split, frame)."""
    frames = {}
    with tarfile.open(archive, "r|") as members:
        for member in members:
            if member.isfile():
                key = PurePosixPath(member.name).with_suffix("").parts
                with Image.open(io.BytesIO(members.extractfile(member).read())) as image:  # type: ignore[union-attr]
                    frames[key] = _decoded(image, size, is_map=key[0] == "labels")
    return frames


def _decoded(image: Image.Image, size: tuple[int, int] | None, *, is_map: bool) -> torch.Tensor:
    if size is not None:
        kind = Image.Resampling.NEAREST if is_map else Image.Resampling.BILINEAR
        image = image.resize(size, kind)
    if not is_map:
        return pixels(image)
    labels_HW = torch.from_numpy(np.array(image)).to(torch.int16)
    return torch.where(labels_HW < len(CLASSES), labels_HW, IGNORED)


def _split(frames: dict[tuple[str, ...], torch.Tensor], split: str) -> TensorSplit:
    names = sorted(name for kind, part, name in frames if (kind, part) == ("images", split))
    images, labels = (
        torch.stack([frames[kind, split, name] for name in names]) for kind in ("images", "labels")
    )
    return TensorSplit(images, labels)


DATASET = Dataset(Config, describe, load, kind="label_maps")
