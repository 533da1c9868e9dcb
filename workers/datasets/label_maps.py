"""Images in which every pixel has a label: what their data sets share.

Shapes: N samples, C channels, H x W pixels; (..., H, W) are images or maps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from workers.datasets.base import IGNORED, Data, TensorSplit
from workers.datasets.splits import moments


def mapped(
    name: str, splits: Mapping[str, TensorSplit], num_classes: int, *, side: int | None = None
) -> Data:
    """Return the published splits `train`, `val` and `test` as a data set.

    `side` puts black pixels with ignored labels around, up to a square of that size. Mean and
    standard deviation are of the training images without them.
    """
    mean, std = moments(splits["train"].samples_N)
    if side is not None:
        splits = {key: _amid(split, side) for key, split in splits.items()}
    train, val, test = (splits[key] for key in ("train", "val", "test"))
    return Data(name, train, val, test, num_classes, mean, std)


def pixels(image: Image.Image) -> torch.Tensor:
    """Return a picture's pixels, (3, H, W) uint8."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _amid(split: TensorSplit, side: int) -> TensorSplit:
    return TensorSplit(_padded(split.samples_N, side, 0), _padded(split.labels_N, side, IGNORED))


def _padded(values: torch.Tensor, side: int, value: int) -> torch.Tensor:
    height, width = values.shape[-2:]
    top, left = (side - height) // 2, (side - width) // 2
    return functional.pad(
        values, (left, side - width - left, top, side - height - top), value=value
    )
