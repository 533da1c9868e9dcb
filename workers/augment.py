"""Augmentation as batched tensor operations in which every image gets its own draw.

What is done to clips of speech is in audio_ops.

Small random numbers are drawn on the CPU, so those of a run are the same on every device and cost a
GPU no wait. Images that drew the same operation are transformed together.

Shapes: B images of a batch, C channels, H x W pixels, K 2x3 matrices. Amounts are one an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from workers.draws import Draws
from workers.image_ops import OPERATIONS, sampled

NAMES = tuple(OPERATIONS)
IDLE = len(NAMES)  # the number of "no operation"

Policy = Literal[
    "none",
    "rand_augment",
    "auto_augment_imagenet",
    "auto_augment_cifar10",
    "auto_augment_svhn",
]


@dataclass(frozen=True)
class Augmentation:
    """What is done to training samples, images in this order; the defaults do nothing.

    `min_crop_area` < 1 cuts out a random part of at least that share of the area (aspect 3/4 to
    4/3) and scales it back (Szegedy et al., 2015). `pad` adds that many black pixels around and
    crops at random. `flip` mirrors left and right half of the time. `policy` is RandAugment
    (Cubuk et al., 2020) with `num_ops` operations, each applied with probability 0.5 at a
    strength drawn from a normal distribution (`magnitude` of 10, `magnitude_std`; timm's
    "m9-mstd0.5"), or one of AutoAugment's policies (Cubuk et al., 2019). `erase` is the
    probability that a rectangle becomes noise (Zhong et al., 2020). Of images whose labels are
    maps, only `flip` is done. Clips of speech are moved in time by up to `shift_ms`; a
    `noise_share` of them gets noise at a volume of up to `noise_volume`.
    """

    min_crop_area: float = 1.0
    pad: int = 0
    flip: bool = False
    policy: Policy = "none"
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    num_ops: int = 2
    erase: float = 0.0
    shift_ms: float = 0.0
    noise_share: float = 0.0
    noise_volume: float = 0.1

    def __post_init__(self) -> None:
        """Refuse amounts that cannot be."""
        if not 0 < self.min_crop_area <= 1:
            raise ValueError(f"min_crop_area: {self.min_crop_area} is outside (0, 1]")
        for name in ("erase", "noise_share", "noise_volume"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is outside [0, 1]")
        if not 0 <= self.shift_ms < 1000:
            raise ValueError(f"shift_ms: {self.shift_ms} is outside [0, 1000)")
        if not 0 <= self.magnitude <= 10:
            raise ValueError(f"magnitude: {self.magnitude} is outside [0, 10]")
        for name in ("pad", "magnitude_std", "num_ops"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")


def augmented(
    images_BCHW: torch.Tensor,
    augmentation: Augmentation,
    draws: Draws,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """Return uint8 images augmented and normalised, float32.

    Args:
        images_BCHW: uint8, on any device.
        augmentation: what is done.
        draws: all random numbers come from it.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
    """
    x_BCHW = normalise(transform(images_BCHW, augmentation, draws), mean, std)
    return erase(x_BCHW, augmentation.erase, draws) if augmentation.erase else x_BCHW


def transform(images_BCHW: torch.Tensor, augmentation: Augmentation, draws: Draws) -> torch.Tensor:
    """Return the images (uint8) after all of the augmentation but the erasing."""
    if augmentation.min_crop_area < 1:
        images_BCHW = crop_and_resize(images_BCHW, augmentation.min_crop_area, draws)
    if augmentation.pad or augmentation.flip:
        images_BCHW = shift_and_flip(images_BCHW, augmentation.pad, draws, flip=augmentation.flip)
    if augmentation.policy == "rand_augment":
        return _rand_augment(images_BCHW, augmentation, draws)
    if augmentation.policy != "none":
        name = augmentation.policy.removeprefix("auto_augment_")
        return _auto_augment(images_BCHW, AutoAugmentPolicy(name), draws)
    return images_BCHW


def normalise(
    images_BCHW: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Return uint8 images as float32 with mean 0 and standard deviation 1 in each channel."""
    mean_C11 = torch.tensor(mean)[:, None, None]
    std_C11 = torch.tensor(std)[:, None, None]
    # One multiplication and one addition a pixel: (x / 255 - mean) / std.
    scale_C11 = (1 / (255 * std_C11)).to(images_BCHW.device, non_blocking=True)
    shift_C11 = (-mean_C11 / std_C11).to(images_BCHW.device, non_blocking=True)
    return torch.addcmul(shift_C11, images_BCHW.float(), scale_C11)


def shift_and_flip(
    images_BCHW: torch.Tensor, pad: int, draws: Draws, *, flip: bool
) -> torch.Tensor:
    """Return random crops of the images padded with black, mirrored at random if `flip`."""
    batch, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    offset_2B = draws.integers(0, 2 * pad + 1, 2)
    rows_BH = offset_2B[0, :, None] + torch.arange(height)
    cols_BW = offset_2B[1, :, None] + torch.arange(width)
    if flip:
        mirrored_B = draws.uniform() < 0.5
        cols_BW = torch.where(mirrored_B[:, None], cols_BW.flip(1), cols_BW)
    padded_BCHW = functional.pad(images_BCHW, (pad, pad, pad, pad))
    return padded_BCHW[
        torch.arange(batch, device=device)[:, None, None, None],
        torch.arange(images_BCHW.shape[1], device=device)[:, None, None],
        rows_BH.to(device)[:, None, :, None],
        cols_BW.to(device)[:, None, None, :],
    ]


def flip_together(
    images_BCHW: torch.Tensor, maps_BHW: torch.Tensor, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and their maps of labels, mirrored left and right half of the time."""
    mirrored_B = draws.uniform() < 0.5
    mirrored_B11 = mirrored_B.to(images_BCHW.device)[:, None, None]
    images_BCHW = torch.where(mirrored_B11[:, None], images_BCHW.flip(-1), images_BCHW)
    return images_BCHW, torch.where(mirrored_B11, maps_BHW.flip(-1), maps_BHW)


def crop_and_resize(images_BCHW: torch.Tensor, min_area: float, draws: Draws) -> torch.Tensor:
    """Return random parts of the images, scaled to the images' size (bilinear)."""
    batch = len(images_BCHW)
    area_B, ratio_B, x_B, y_B = draws.uniform(4)
    area_B = min_area + (1 - min_area) * area_B
    ratio_B = torch.exp((2 * ratio_B - 1) * math.log(4 / 3))
    width_B = torch.sqrt(area_B * ratio_B).clamp(max=1)
    height_B = torch.sqrt(area_B / ratio_B).clamp(max=1)
    zero_B = torch.zeros(batch)
    # In grid_sample's coordinates, where the image spans -1 .. 1.
    rows = (
        (width_B, zero_B, (2 * x_B - 1) * (1 - width_B)),
        (zero_B, height_B, (2 * y_B - 1) * (1 - height_B)),
    )
    theta_B23 = torch.stack([torch.stack(row, 1) for row in rows], 1).to(images_BCHW.device)
    grid_BHW2 = functional.affine_grid(theta_B23, list(images_BCHW.shape), align_corners=False)
    return sampled(images_BCHW, grid_BHW2)


def erase(x_BCHW: torch.Tensor, probability: float, draws: Draws) -> torch.Tensor:
    """Replace a rectangle of some normalised images by normal noise.

    It covers 2 to 33 % of the area, at an aspect of 0.3 to 3.3 (Zhong et al., 2020, section 4).
    """
    height, width = x_BCHW.shape[2:]
    chosen_B, area_B, ratio_B, x_B, y_B = draws.uniform(5)
    area_B = (0.02 + (1 / 3 - 0.02) * area_B) * height * width
    ratio_B = torch.exp((2 * ratio_B - 1) * math.log(10 / 3))
    tall_B = torch.sqrt(area_B * ratio_B).round().clamp(1, height)
    wide_B = torch.sqrt(area_B / ratio_B).round().clamp(1, width)
    rows_BH = _between(y_B, tall_B, height)
    cols_BW = _between(x_B, wide_B, width)
    chosen_B = chosen_B < probability
    mask_BHW = chosen_B[:, None, None] & rows_BH[:, :, None] & cols_BW[:, None, :]
    noise_BCHW = draws.normal_maps(x_BCHW)
    return torch.where(mask_BHW[:, None].to(x_BCHW.device), noise_BCHW, x_BCHW)


def _between(position_B: torch.Tensor, length_B: torch.Tensor, size: int) -> torch.Tensor:
    """Mark `length` of `size` places, beginning at a share `position` of the possible starts."""
    start_B = torch.floor(position_B * (size - length_B + 1))
    place_S = torch.arange(size)
    return (place_S >= start_B[:, None]) & (place_S < (start_B + length_B)[:, None])


def _rand_augment(
    images_BCHW: torch.Tensor, augmentation: Augmentation, draws: Draws
) -> torch.Tensor:
    for _ in range(augmentation.num_ops):
        op_B = draws.integers(0, len(NAMES))
        op_B[draws.uniform() < 0.5] = IDLE
        level_B = draws.normal() * augmentation.magnitude_std
        severity_B = (level_B + augmentation.magnitude).clamp(0, 10) / 10
        images_BCHW = _applied(images_BCHW, op_B, severity_B, draws)
    return images_BCHW


def _auto_augment(
    images_BCHW: torch.Tensor, policy: AutoAugmentPolicy, draws: Draws
) -> torch.Tensor:
    policies = AutoAugment(policy).policies  # 25 pairs of (operation, probability, bin of 10)
    drawn_B = draws.integers(0, len(policies))
    for place in range(2):
        names, chances, bins = zip(*(pair[place] for pair in policies), strict=True)
        op_B = torch.tensor([NAMES.index(name) for name in names])[drawn_B]
        chance_B = torch.tensor(chances)[drawn_B]
        op_B[draws.uniform() >= chance_B] = IDLE
        severity_B = torch.tensor([(step or 0) / 9 for step in bins])[drawn_B]
        images_BCHW = _applied(images_BCHW, op_B, severity_B, draws)
    return images_BCHW


def _applied(
    images_BCHW: torch.Tensor,
    op_B: torch.Tensor,
    severity_B: torch.Tensor,
    draws: Draws,
) -> torch.Tensor:
    """Apply to every image its own operation, images of one operation together."""
    sign_B = draws.integers(0, 2) * 2 - 1
    result_BCHW = images_BCHW.clone()
    for number, name in enumerate(NAMES):
        index = (op_B == number).nonzero()[:, 0]
        if len(index):
            op = OPERATIONS[name]
            amount = op.amount(severity_B[index], sign_B[index])
            place = index.to(images_BCHW.device)
            result_BCHW[place] = op.apply(images_BCHW[place], amount)
    return result_BCHW
