"""What a filter's size costs: Group Lasso (Eq. 1) and the clipped Lasso (Eq. 3).

Every output filter is a group. Shapes: O output filters, I input channels, H x W kernel positions.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


def filter_norms(weight_OIHW: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of every output filter, shape (O,)."""
    norms_O: torch.Tensor = torch.linalg.vector_norm(weight_OIHW.flatten(1), dim=1)
    return norms_O


def clipping_threshold(norms_O: torch.Tensor, a: float) -> torch.Tensor:
    """Return delta (Eq. 3): `a` times the mean norm; no gradient flows through it."""
    return a * norms_O.detach().mean()


def group_lasso(weights: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of all filters' norms (Eq. 1, without its lambda)."""
    return torch.stack([filter_norms(weight_OIHW).sum() for weight_OIHW in weights]).sum()


def clipped_lasso(weights: Iterable[torch.Tensor], a: float) -> torch.Tensor:
    """Return the sum of all filters' norms, each clipped at its layer's delta (Eq. 3, no lambda).

    Filters at or above delta have no gradient.
    """
    return torch.stack([_clipped(filter_norms(weight), a).sum() for weight in weights]).sum()


def _clipped(norms_O: torch.Tensor, a: float) -> torch.Tensor:
    delta = clipping_threshold(norms_O, a)
    # torch.minimum would pass half of the gradient on where both are equal.
    return torch.where(norms_O < delta, norms_O, delta)
