"""Folders of generated JPEGs in ImageNet's layout."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image


def write_image_folder(root: Path, *, classes: int, images: int, size: tuple[int, int]) -> None:
    """Write random images of a size (height, width) under root/imagenet, as many for each class."""
    generator = torch.Generator().manual_seed(0)
    for index in range(classes * images):
        for split in ("train", "val"):
            folder = root / "imagenet" / split / f"n{index % classes:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / f"{index}.jpeg")
