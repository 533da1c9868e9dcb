"""Knowledge distillation: which teacher, and what the student learns from it.

Shapes: B images of a batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from search_spaces.base import Architecture, SearchSpace

ARCHITECTURE, WEIGHTS = "architecture.json", "weights.safetensors"  # of a finished candidate
EXPECTED = f"expected the folder models/<candidate> of a study, with {ARCHITECTURE} and {WEIGHTS}"


@dataclass(frozen=True)
class Focal:
    """Focal distillation: what the teacher has right counts more, so that the student keeps it.

    Yan et al., "Positive-Congruent Training: Towards Regression-Free Model Updates", CVPR 2021. A
    sample's distance from the teacher counts `alpha`, and `beta` on top where the teacher is right;
    alpha 1 and beta 0 is plain distillation. `distance` is the divergence of the softened
    probabilities, for which the paper has temperature 100, or the squared one of the logits.
    """

    alpha: float = 1.0
    beta: float = 5.0
    distance: Literal["kl", "logits"] = "kl"

    def __post_init__(self) -> None:
        """Refuse weights below zero, or none at all."""
        for name in ("alpha", "beta"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        if self.alpha + self.beta == 0:
            raise ValueError("beta: 0.0 leaves nothing to learn from the teacher, as alpha is 0")


@dataclass(frozen=True)
class Teacher:
    """A network to learn from.

    `network` is the folder of a finished candidate of the same search space (`models/<candidate>`
    of a study), or the name of a torchvision model, whose published weights are downloaded.
    Images are scaled to `resolution` for it (None: as they are). The loss is (1 - weight) times
    the labels' plus weight times the teacher's, whose logits are divided by `temperature`; with
    `focal`, it is the labels' in full plus weight times focal distillation.
    """

    network: str
    resolution: int | None = None
    weight: float = 0.5
    temperature: float = 1.0
    focal: Focal | None = None

    def __post_init__(self) -> None:
        """Refuse amounts that cannot be."""
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight: {self.weight} is outside (0, 1]")
        if self.temperature <= 0:
            raise ValueError(f"temperature: {self.temperature} is not positive")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution: {self.resolution} is below 1")

    @property
    def folder(self) -> Path | None:
        """The candidate's folder; None where `network` names a torchvision model."""
        path = Path(self.network)
        return path if "/" in self.network or path.is_dir() else None


def check_teacher(teacher: Teacher, space: SearchSpace) -> None:
    """Refuse a teacher that is not there or does not fit the space; no weights are loaded.

    Raises:
        ValueError: names `training.teacher.network`, what was given and what is expected.
    """
    if teacher.folder is not None:
        _check_folder(teacher.folder, space)
    else:
        _check_published(teacher, space)


def load_teacher(teacher: Teacher, space: SearchSpace) -> nn.Module:
    """Return the teacher's network, frozen and in evaluation mode.

    Raises:
        ValueError: no such network, or its weights or classes do not fit the study.
    """
    check_teacher(teacher, space)
    if teacher.folder is not None:
        network = space.build(_architecture(teacher.folder, space))
        network.load_state_dict(load_file(teacher.folder / WEIGHTS))
    else:
        network = torchvision.models.get_model(teacher.network, weights="DEFAULT")
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


def taught_loss(
    teacher: Teacher,
    labels_loss: torch.Tensor,
    student_BK: torch.Tensor,
    teacher_BK: torch.Tensor,
    labels_B: torch.Tensor,
) -> torch.Tensor:
    """Return the loss of a student: its labels' and its teacher's, weighted as the teacher says."""
    if teacher.focal is None:
        distilled = distillation_loss(student_BK, teacher_BK, teacher.temperature)
        return torch.lerp(labels_loss, distilled, teacher.weight)
    focal = focal_loss(teacher.focal, student_BK, teacher_BK, labels_B, teacher.temperature)
    return labels_loss + teacher.weight * focal


def focal_loss(
    focal: Focal,
    student_BK: torch.Tensor,
    teacher_BK: torch.Tensor,
    labels_B: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return the mean over the batch of (alpha + beta [teacher is right]) times the distance.

    Weights and distances are both of shape (B,). The authors' code multiplies (B,) by (B, 1), so
    that every distance meets every weight, and what the teacher has right no longer counts more.
    """
    if focal.distance == "kl":
        distance_B = _divergence(student_BK, teacher_BK, temperature).sum(1) * temperature**2
    else:
        distance_B = (student_BK - teacher_BK).square().sum(1)
    right_B = teacher_BK.argmax(1) == labels_B
    return ((focal.alpha + focal.beta * right_B) * distance_B).mean()


def distillation_loss(
    student_BK: torch.Tensor, teacher_BK: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2; the factor
    T^2 keeps the gradients' size independent of T.
    """
    divergence_BK = _divergence(student_BK, teacher_BK, temperature)
    return divergence_BK.sum() / len(divergence_BK) * temperature**2


def _divergence(
    student_BK: torch.Tensor, teacher_BK: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) by sample and class."""
    student_log_BK = functional.log_softmax(student_BK / temperature, 1)
    teacher_log_BK = functional.log_softmax(teacher_BK / temperature, 1)
    return functional.kl_div(student_log_BK, teacher_log_BK, reduction="none", log_target=True)


def _check_folder(folder: Path, space: SearchSpace) -> None:
    architecture = _architecture(folder, space)
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _refusal(f"{folder / WEIGHTS} cannot be read; {EXPECTED}") from error
    with torch.device("meta"):
        tensors = space.build(architecture).state_dict()
    if found != {name: list(tensor.shape) for name, tensor in tensors.items()}:
        raise _refusal(
            f"the weights in {folder} do not fit space {space.name} with {space.num_classes}"
            " classes; expected a candidate of the same space"
        )


def _architecture(folder: Path, space: SearchSpace) -> Architecture:
    try:
        return space.canonical(json.loads((folder / ARCHITECTURE).read_text()))
    except OSError as error:
        raise _refusal(f"{folder / ARCHITECTURE} cannot be read; {EXPECTED}") from error
    except ValueError as error:  # no JSON, or a network of another space
        raise _refusal(f"{folder / ARCHITECTURE}: {error}") from error


def _check_published(teacher: Teacher, space: SearchSpace) -> None:
    name = teacher.network
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise _refusal(
            f"{name!r} is neither a folder nor a torchvision classifier such as 'efficientnet_b5'"
        )
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    height, width = _image_size(teacher, space)
    least = meta["min_size"]
    if space.in_shape[0] != 3 or height < least[0] or width < least[1]:
        raise _refusal(
            f"{name!r} does not take images of {space.in_shape[0]} channels and {height} x {width}"
            f" pixels; allowed: 3 channels, {least[0]} x {least[1]} or more"
        )
    _check_classes(len(meta["categories"]), teacher, space)


def _check_output(network: nn.Module, teacher: Teacher, space: SearchSpace) -> None:
    channels, (height, width) = space.in_shape[0], _image_size(teacher, space)
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, channels, height, width)).shape[1:]
    except (RuntimeError, AssertionError) as error:  # torchvision's transformers assert
        raise _refusal(
            f"{teacher.network!r} does not take images of {channels} channels"
            f" and {height} x {width} pixels"
        ) from error
    _check_classes(found[0], teacher, space)
    if found[1:] and found[1:] != space.in_shape[1:]:
        raise _refusal(
            f"at resolution {teacher.resolution}, {teacher.network!r} gives maps of another size"
            " than the labels'; allowed: null"
        )


def _check_classes(found: int, teacher: Teacher, space: SearchSpace) -> None:
    if found != space.num_classes:
        raise _refusal(
            f"{teacher.network!r} knows {found} classes; the data set has {space.num_classes}"
        )


def _image_size(teacher: Teacher, space: SearchSpace) -> tuple[int, int]:
    if teacher.resolution is not None:
        return teacher.resolution, teacher.resolution
    _, height, width = space.in_shape
    return height, width


def _refusal(reason: str) -> ValueError:
    return ValueError(f"training.teacher.network: {reason}")
