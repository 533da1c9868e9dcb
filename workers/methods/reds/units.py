"""Which entries of which tensor belong to a unit, found by building narrower networks.

A space promises that a narrower network's tensors are the leading slices of the full one's. So the
dimensions that shrink with one choice are those that its units rule: outputs, batch norms, the
channels of depthwise kernels, the inputs of what reads them. Behind a flattened map each unit
rules a run of neighbouring inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from search_spaces.base import Architecture, SearchSpace

Tensors = Mapping[str, torch.Tensor]
Widths = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension that a layer's width rules: `run` neighbouring entries for every unit."""

    layer: str
    run: int


Axes = Mapping[str, tuple[Axis | None, ...]]
"""Tensor -> for each dimension its axis, or None where no width rules it."""


def axes_of(space: SearchSpace) -> Axes:
    """Return the axes of all tensors of a space's networks.

    Raises:
        ValueError: a dimension does not follow one width alone.
    """
    full = space.presets["full"]
    shapes = _shapes(space, full)
    axes: dict[str, list[Axis | None]] = {name: [None] * len(s) for name, s in shapes.items()}
    for choice in space.choices:
        most, less = full[choice.name], choice.options[0]
        narrow = _shapes(space, {**full, choice.name: less})
        for name, shape in shapes.items():
            for dim, (size, smaller) in enumerate(zip(shape, narrow[name], strict=True)):
                if size != smaller:
                    run = size // most
                    alone = axes[name][dim] is None and (run * most, run * less) == (size, smaller)
                    _check_follows(alone, name, dim, choice.name)
                    axes[name][dim] = Axis(choice.name, run)
    return {name: tuple(found) for name, found in axes.items()}


def sliced(tensors: Tensors, axes: Axes, widths: Widths) -> dict[str, torch.Tensor]:
    """Return the tensors of a narrower network: views, nothing is copied."""
    return {
        name: tensor[tuple(_leading(axis, widths) for axis in axes[name])]
        for name, tensor in tensors.items()
    }


def norms_of(network: nn.Module) -> list[nn.Parameter]:
    """Return the scales and shifts of a network's batch norms."""
    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    norms = [module for module in network.modules() if isinstance(module, kinds)]
    return [parameter for norm in norms for parameter in norm.parameters()]


def _leading(axis: Axis | None, widths: Widths) -> slice:
    return slice(None) if axis is None else slice(axis.run * widths[axis.layer])


def _shapes(space: SearchSpace, architecture: Architecture) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {n: tensor.shape for n, tensor in space.build(architecture).state_dict().items()}


def _check_follows(alone: bool, name: str, dim: int, layer: str) -> None:
    if not alone:
        raise ValueError(
            f"space: dimension {dim} of {name!r} does not follow one width alone, as {layer!r}"
            " shows; reds slices units along one width each"
        )
