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
        ValueError: a dimension follows several choices, or none of its parts belongs to one unit.
    """
    full = space.presets["full"]
    shapes = _shapes(space, full)
    axes: dict[str, list[Axis | None]] = {name: [None] * len(s) for name, s in shapes.items()}
    for choice in space.choices:
        less, most = choice.options[0], full[choice.name]
        if less == most:
            continue
        for name, narrow in _shapes(space, {**full, choice.name: less}).items():
            for dim, (size, smaller) in enumerate(zip(shapes[name], narrow, strict=True)):
                if size != smaller:
                    run = size // most
                    if axes[name][dim] is not None or (run * most, run * less) != (size, smaller):
                        raise ValueError(
                            f"space: dimension {dim} of {name!r} does not follow one width alone"
                            f" ({choice.name!r} is another); reds slices chains of layers"
                        )
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
