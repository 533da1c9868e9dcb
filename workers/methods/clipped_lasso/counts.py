"""From filters that are zero to channel counts, and to the network of the other filters alone.

The paper keeps the counts alone: subnets are prefix slices of one network, trained anew. The
network of the filters that were kept says how good a penalty's choice was.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from search_spaces.base import Architecture
from search_spaces.slimmable_resnet import SlimmableResNet
from workers.methods.clipped_lasso.penalty import filter_norms

Kept = Mapping[str, torch.Tensor]
"""For every choice of the space the channels that are kept, ascending, int64."""
Weights = Mapping[str, torch.Tensor]


def penalised(space: SlimmableResNet, network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a full network whose widths are choices, in order, by choice.

    A shortcut is not among them: it follows its block's second convolution.
    """
    found = {}
    for choice in space.choices:
        conv = network.get_submodule(f"{choice.name}.conv")
        assert isinstance(conv, nn.Conv2d)
        found[choice.name] = conv
    return found


def channel_groups(space: SlimmableResNet, network: nn.Module) -> list[list[nn.Parameter]]:
    """Return, of every layer, its filters and all that goes when a channel goes.

    That is its batch norm's scale and shift, and filters, scale and shift of the shortcut whose
    output is added.
    """
    shortcuts = {spec.writes: spec.shortcut for spec in space.specs}
    groups = []
    for choice in space.choices:
        modules = [choice.name, *([shortcuts[choice.name]] if choice.name in shortcuts else [])]
        groups.append([p for name in modules for p in network.get_submodule(name).parameters()])
    return groups


def kept_filters(
    space: SlimmableResNet, convs: Mapping[str, nn.Conv2d], zero_below: float
) -> dict[str, torch.Tensor]:
    """Return the filters that are not zero: at least one a layer, and as many as a choice offers.

    Where the space offers multiples, the next larger one counts; the largest filters are kept.

    Args:
        space: of the full network.
        convs: what `penalised` returns.
        zero_below: a norm up to this share of its layer's mean counts as zero.
    """
    kept = {}
    for choice in space.choices:
        norms_O = filter_norms(convs[choice.name].weight.detach())
        count = int((norms_O > zero_below * norms_O.mean()).sum())
        index = bisect.bisect_left(choice.options, max(1, count))
        kept[choice.name] = norms_O.topk(choice.options[index]).indices.sort().values.cpu()
    return kept


def leading_filters(architecture: Architecture) -> dict[str, torch.Tensor]:
    """Return the first filters of every layer, as many as an architecture has."""
    return {name: torch.arange(count) for name, count in architecture.items()}


def widths(kept: Kept) -> Architecture:
    """Return the channel counts."""
    return {name: len(index) for name, index in kept.items()}


def cut(space: SlimmableResNet, full: Weights, kept: Kept) -> dict[str, torch.Tensor]:
    """Return the state dict of the network that has the kept channels of a full network alone."""
    found: dict[str, torch.Tensor] = {}
    wiring = {module: (reads, writes) for module, reads, writes in _wiring(space)}
    for name, tensor in full.items():
        reads, writes = wiring[name.split(".")[0]]
        if tensor.dim() > 0 and writes is not None:
            tensor = tensor[kept[writes]]
        if tensor.dim() > 1 and reads is not None:
            tensor = tensor[:, kept[reads]]
        found[name] = tensor.clone()
    return found


def _wiring(space: SlimmableResNet) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield every module that has weights, with the choices that give its inputs and outputs."""
    yield "conv1", None, "conv1"
    for spec in space.specs:
        yield spec.first, spec.reads, spec.first
        yield spec.second, spec.first, spec.writes
        yield spec.shortcut, spec.reads, spec.writes
    yield "head", space.specs[-1].writes, None
