"""Knowledge distillation: which teacher, and what the student learns from it.

Shapes: B images of a batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from search_spaces.base import SearchSpace


@dataclass(frozen=True)
class Teacher:
    """A network to learn from.

    `network` is the folder of a finished candidate of the same search space (`models/<candidate>`
    of a study), or the name of a torchvision model, whose published weights are downloaded.
    Images are scaled to `resolution` for it (None: as they are). The loss is (1 - weight) times
    the labels' plus weight times the teacher's, whose logits are divided by `temperature`.
    """

    network: str
    resolution: int | None = None
    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse amounts that cannot be."""
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight: {self.weight} is outside (0, 1]")
        if self.temperature <= 0:
            raise ValueError(f"temperature: {self.temperature} is not positive")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution: {self.resolution} is below 1")


def load_teacher(teacher: Teacher, space: SearchSpace) -> nn.Module:
    """Return the teacher's network, frozen and in evaluation mode.

    Raises:
        FileNotFoundError: a candidate's folder lacks a file.
        ValueError: no such network, or its weights or classes do not fit the study.
    """
    if "/" in teacher.network or Path(teacher.network).is_dir():
        network = _candidate(Path(teacher.network), space)
    elif teacher.network in torchvision.models.list_models(module=torchvision.models):
        network = torchvision.models.get_model(teacher.network, weights="DEFAULT")
    else:
        raise ValueError(
            f"teacher.network: {teacher.network!r} is neither a folder nor a torchvision"
            " classifier such as 'efficientnet_b5'"
        )
    network.eval().requires_grad_(False)
    _check_output(network, teacher, space)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def teacher_logits(network: nn.Module, teacher: Teacher, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the teacher's logits (B, K) for normalised images, at its own resolution."""
    size = teacher.resolution
    if size is not None and size != x_BCHW.shape[-1]:
        x_BCHW = functional.interpolate(x_BCHW, (size, size), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits_BK: torch.Tensor = network(x_BCHW)
    return logits_BK


def distillation_loss(
    student_BK: torch.Tensor, teacher_BK: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2; the factor
    T^2 keeps the gradients' size independent of T.
    """
    student_log_BK = functional.log_softmax(student_BK / temperature, 1)
    teacher_log_BK = functional.log_softmax(teacher_BK / temperature, 1)
    divergence = functional.kl_div(
        student_log_BK, teacher_log_BK, reduction="batchmean", log_target=True
    )
    return divergence * temperature**2


def _candidate(folder: Path, space: SearchSpace) -> nn.Module:
    try:
        architecture = json.loads((folder / "architecture.json").read_text())
        weights = load_file(folder / "weights.safetensors")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"teacher.network: {folder} has no architecture.json and weights.safetensors; expected"
            " the folder models/<candidate> of a study"
        ) from error
    network = space.build(architecture)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"teacher.network: the weights in {folder} do not fit space {space.name} with"
            f" {space.num_classes} classes; expected a candidate of the same space"
        ) from error
    return network


def _check_output(network: nn.Module, teacher: Teacher, space: SearchSpace) -> None:
    channels, *size = space.in_shape
    if teacher.resolution is not None:
        size = [teacher.resolution, teacher.resolution]
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, channels, *size)).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"teacher.network: {teacher.network!r} does not take images of {channels} channels"
            f" and {size[0]} x {size[1]} pixels"
        ) from error
    if found != space.num_classes:
        raise ValueError(
            f"teacher.network: {teacher.network!r} knows {found} classes; the data set has"
            f" {space.num_classes}"
        )
