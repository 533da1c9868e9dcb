"""What networks of a supernet learn from in a step.

Losses come one after another, and each is to be propagated before the next is asked for: gradients
add up, and only one network holds its activations at a time.

Shapes: B samples, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from search_spaces.base import Architecture
from search_spaces.elastic import Supernet
from workers.evaluation import lifted
from workers.methods.reg_nas.shrinking import largest_like
from workers.methods.reg_nas.supernet_settings import SupernetTraining


def shrinking_losses(
    supernet: Supernet,
    subnets: Sequence[Architecture],
    x_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
    settings: SupernetTraining,
    teacher: Supernet | None,
) -> Iterator[torch.Tensor]:
    """Yield each network's cross entropy with labels, and with the answers of a teacher, if any.

    The teacher runs as its largest network, at the resolution of the others.
    """
    taught_BK = None
    if teacher is not None:
        with torch.no_grad():
            largest = largest_like(supernet.space, subnets[0])
            taught_BK = _logits(teacher, largest, x_BCHW).softmax(1)
    for subnet in subnets:
        logits_BK = _logits(supernet, subnet, x_BCHW)
        loss = _cross_entropy(logits_BK, labels_B, settings)
        if taught_BK is not None:
            loss = loss + settings.distillation * functional.cross_entropy(logits_BK, taught_BK)
        yield loss


def sandwich_losses(
    supernet: Supernet,
    subnets: Sequence[Architecture],
    x_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
    settings: SupernetTraining,
) -> Iterator[torch.Tensor]:
    """Yield the largest network's cross entropy, then others' against its probabilities.

    Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", 2019, sections
    3 and 4: the smallest network is among those others in every step.
    """
    logits_BK = _logits(supernet, supernet.space.presets["max"], x_BCHW)
    taught_BK = logits_BK.detach().softmax(1)
    yield _cross_entropy(logits_BK, labels_B, settings)
    for subnet in (supernet.space.presets["min"], *subnets):
        yield functional.cross_entropy(_logits(supernet, subnet, x_BCHW), taught_BK)


def _logits(supernet: Supernet, architecture: Architecture, x_BCHW: torch.Tensor) -> torch.Tensor:
    supernet.set_active(architecture)
    logits_BK: torch.Tensor = supernet(x_BCHW)
    return lifted(logits_BK)


def _cross_entropy(
    logits_BK: torch.Tensor, labels_B: torch.Tensor, settings: SupernetTraining
) -> torch.Tensor:
    smoothing = settings.label_smoothing
    return functional.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
