"""Units in the order of their importance, so that the best ones of a layer come first.

A layer's units are permuted wherever they appear, along the whole chain of what depends on them:
outputs, biases and batch norm, the depthwise channels that follow, and the inputs of the next
layer. So the network computes what it did. (The authors' code permutes parts of the chain, and
repairs the rest by training.) The network's inputs and its classes keep their order.

Legend: U units of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from workers.methods.reds.units import Axes, Tensors

Orders = Mapping[str, torch.Tensor]
"""Layer -> its units as numbers that they had before, best first, shape (U,), int64."""


def best_first(unit_scores: Tensors) -> Orders:
    """Return every layer's units by falling score; of equal ones the first stays first."""
    return {
        layer: score_U.argsort(descending=True, stable=True)
        for layer, score_U in unit_scores.items()
    }


def permuted(tensors: Tensors, axes: Axes, orders: Orders) -> dict[str, torch.Tensor]:
    """Return tensors whose units stand in these orders."""
    result = {}
    for name, tensor in tensors.items():
        for dim, axis in enumerate(axes[name]):
            if axis is not None:
                entries = _entries(orders[axis.layer], axis.run)
                tensor = tensor.index_select(dim, entries.to(tensor.device))
        result[name] = tensor
    return result


def _entries(order_U: torch.Tensor, run: int) -> torch.Tensor:
    """Return the places of the entries of all units, each of which owns a run of them."""
    return (order_U[:, None] * run + torch.arange(run)).flatten()
