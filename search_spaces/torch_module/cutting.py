"""A module whose tensors are cut to their leading entries, and which knows how wide it is then."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from search_spaces.torch_module.groups import Axes


def cut(module: nn.Module, axes: Axes, widths: Mapping[str, int], path: str = "") -> None:
    """Cut a module in place.

    Args:
        module: a full network, or the part of it at `path`.
        axes: of the full network's tensors.
        widths: the units that each group keeps.
        path: of the module in the network.
    """
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        found = axes[f"{path}.{name}".removeprefix(".")]
        if any(found):
            kept = tuple(
                slice(None) if axis is None else slice(axis.run * widths[axis.group])
                for axis in found
            )
            owner, _, own = name.rpartition(".")
            _replace(module.get_submodule(owner), own, tensor.detach()[kept].clone())
    for part in module.modules():
        _measure(part)


def _replace(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
    old = getattr(owner, name)
    if isinstance(old, nn.Parameter):
        tensor = nn.Parameter(tensor, old.requires_grad)
    setattr(owner, name, tensor)


def _measure(module: nn.Module) -> None:
    """Set a module's numbers of channels by its weight."""
    if isinstance(module, nn.Conv2d):
        outputs = module.weight.shape[0]
        module.groups = module.groups * outputs // module.out_channels if module.groups > 1 else 1
        module.out_channels, module.in_channels = outputs, module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.weight is not None:
        module.num_features = module.weight.shape[0]
