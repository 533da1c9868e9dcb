"""From samples of a data set to what a network is given: normalised, and augmented in training.

Samples are uint8 images (B, C, H, W) with one class each or with a map of classes (B, H, W), or
int16 clips (B, T) that a front end turns into features (B, 1, F, K).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch

from search_spaces.base import SearchSpace
from workers.audio_ops import mfcc, shifted, with_noise
from workers.augment import Augmentation, augmented, flip_together, normalise
from workers.datasets import Data, Kind
from workers.draws import Draws

CLIP_FIELDS = ("shift_ms", "noise_share", "noise_volume")
APPLICABLE: Mapping[Kind, tuple[str, ...]] = {
    "images": tuple(f.name for f in fields(Augmentation) if f.name not in CLIP_FIELDS),
    "clips": CLIP_FIELDS,
    "label_maps": ("flip",),
}


def network_input(samples_B: torch.Tensor, data: Data) -> torch.Tensor:
    """Return samples as networks see them when they are evaluated, float32 (B, C, H, W)."""
    if data.front_end is None:
        return normalise(samples_B, data.mean, data.std)
    features_B1FK = mfcc(samples_B, data.front_end.stride_ms)
    mean_K, std_K = (features_B1FK.new_tensor(value) for value in (data.mean, data.std))
    return (features_B1FK - mean_K) / std_K


def training_batch(
    samples_B: torch.Tensor,
    labels_B: torch.Tensor,
    data: Data,
    augmentation: Augmentation,
    draws: Draws,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return augmented samples as networks see them, float32 (B, C, H, W), and their labels.

    Args:
        samples_B: a batch of `data`, on any device.
        labels_B: classes (B,) or maps of them (B, H, W); maps turn with their images.
        data: says what the samples are, and their mean and standard deviation.
        augmentation: what is done.
        draws: all random numbers come from it.

    Raises:
        ValueError: the augmentation cannot be done to such samples.
    """
    if data.front_end is not None:
        check_augmentation(augmentation, "clips")
        clips_BT = _augmented_clips(samples_B, data.front_end.noise_MT, augmentation, draws)
        return network_input(clips_BT, data), labels_B
    if labels_B.dim() > 1:
        check_augmentation(augmentation, "label_maps")
        if augmentation.flip:
            samples_B, labels_B = flip_together(samples_B, labels_B, draws)
        return network_input(samples_B, data), labels_B
    x_BCHW = augmented(samples_B, augmentation, draws, mean=data.mean, std=data.std)
    return x_BCHW, labels_B


def check_augmentation(augmentation: Augmentation, kind: Kind) -> None:
    """Refuse what cannot be done to samples of this kind.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    for setting in fields(Augmentation):
        value = getattr(augmentation, setting.name)
        if value != setting.default and setting.name not in APPLICABLE[kind]:
            raise ValueError(
                f"augment.{setting.name}: {value!r} cannot be done to {kind};"
                f" allowed: {', '.join(APPLICABLE[kind])}"
            )


def check_output(space: SearchSpace, kind: Kind) -> None:
    """Refuse a space whose networks do not give what the labels of such a data set need.

    Raises:
        ValueError: names the space, the shape of its output and the one that is needed.
    """
    given = space.layers(space.presets["max"])[-1].out_shape
    size = space.in_shape[1:] if kind == "label_maps" else ()
    if given != (space.num_classes, *size):
        raise ValueError(
            f"space: {space.name} gives outputs of shape {list(given)};"
            f" a data set of {kind} needs {[space.num_classes, *size]}"
        )


def _augmented_clips(
    clips_BT: torch.Tensor,
    noise_MT: torch.Tensor,
    augmentation: Augmentation,
    draws: Draws,
) -> torch.Tensor:
    if augmentation.shift_ms:
        clips_BT = shifted(clips_BT, augmentation.shift_ms, draws)
    if augmentation.noise_share:
        share, volume = augmentation.noise_share, augmentation.noise_volume
        clips_BT = with_noise(clips_BT, noise_MT, draws, share=share, volume=volume)
    return clips_BT
