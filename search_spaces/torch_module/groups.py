"""Which channels must go together, told by Torch-Pruning's dependency graph.

Fang et al., "DepGraph: Towards Any Structural Pruning", 2023. A group's ends are what its width
rules: outputs of convolutions and linear layers, batch norms, and inputs of whatever reads them.
The graph holds the two sides of a grouped convolution apart; here they are one group, whose units
are the convolution's own groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
from torch import nn

from search_spaces.base import Shape

Side = Literal["out", "in"]
End = tuple[str, Side]
"""A module's path and the side of it."""


@dataclass(frozen=True)
class Group:
    """Channels that go together: the first layer's path, the most units, and channels of each."""

    name: str
    units: int
    unit_channels: int


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension that a group's width rules: `run` neighbouring entries for every unit."""

    group: str
    run: int


Axes = Mapping[str, tuple[Axis | None, ...]]
"""Tensor -> for each dimension its axis, or None where no width rules it."""


def find_groups(
    network: nn.Module, in_shape: Shape, order: Sequence[str], last: str
) -> tuple[tuple[Group, ...], Axes]:
    """Return the groups of a network on the meta device, in execution order, and their places.

    Args:
        network: in evaluation mode.
        in_shape: of a sample.
        order: the paths of its modules, as they are executed.
        last: the path of the layer whose outputs are the network's; they stay whole.

    Raises:
        ValueError: units of a group do not stand in the same order everywhere.
    """
    tensors = network.state_dict()
    axes: dict[str, list[Axis | None]] = {n: [None] * tensors[n].ndim for n in tensors}
    groups: list[Group] = []
    for ends in _merged(network, _coupled(network, in_shape, order), last):
        name = next(path for path in order if (path, "out") in ends)
        units = math.gcd(*(_count(network, end) for end in ends))
        groups.append(Group(name, units, tensors[f"{name}.weight"].shape[0] // units))
        for tensor, dim in (place for end in ends for place in _places(network, end)):
            axes[tensor][dim] = Axis(name, tensors[tensor].shape[dim] // units)
    groups.sort(key=lambda group: order.index(group.name))
    return tuple(groups), {name: tuple(found) for name, found in axes.items()}


def _coupled(network: nn.Module, in_shape: Shape, order: Sequence[str]) -> Iterator[set[End]]:
    """Yield the ends of every group that the dependency graph holds."""
    example = torch.empty(1, *in_shape, device="meta")
    graph = torch_pruning.DependencyGraph()
    graph.build_dependency(network, example, verbose=False)
    paths = {module: path for path, module in network.named_modules()}
    seen: set[End] = set()
    for path in order:
        module = network.get_submodule(path)
        if isinstance(module, nn.Conv2d | nn.Linear) and (path, "out") not in seen:
            # What becomes of one channel tells of all, and takes a thousandth of the time.
            pruner = graph.get_pruner_of_module(module)
            second = min(1, pruner.get_out_channels(module) - 1)
            items = graph.get_pruning_group(module, pruner.prune_out_channels, [second])
            ends = {end for item in items for end in _ends(graph, item, paths, second)}
            seen |= ends
            yield ends


def _ends(graph: Any, item: Any, paths: Mapping[nn.Module, str], channel: int) -> Iterator[End]:
    module = item.dep.target.module
    if not isinstance(module, nn.Module) or not any(True for _ in module.parameters(False)):
        return
    run = len(item.idxs)
    if sorted(item.idxs) != list(range(channel * run, (channel + 1) * run)):
        raise ValueError(
            f"function: its channels cannot be cut to the first ones: {paths[module]} reads them"
            " elsewhere"
        )
    outputs = graph.is_out_channel_pruning_fn(item.dep.handler)
    yield paths[module], "out" if outputs else "in"
    if outputs and graph.is_in_channel_pruning_fn(item.dep.handler):  # depthwise
        yield paths[module], "in"


def _merged(network: nn.Module, groups: Iterator[set[End]], last: str) -> list[set[End]]:
    """Return the groups, those joined that lie on both sides of a grouped convolution.

    The group of the network's outputs is left out.
    """
    merged = list(groups)
    for path, module in network.named_modules():
        if _is_grouped(module):
            both = [ends for ends in merged if ends & {(path, "out"), (path, "in")}]
            merged = [ends for ends in merged if ends not in both] + [set().union(*both)] * bool(
                both
            )
    return [ends for ends in merged if (last, "out") not in ends]


def _count(network: nn.Module, end: End) -> int:
    """Return how many channels an end has; of a grouped convolution, how many groups."""
    module = network.get_submodule(end[0])
    if _is_grouped(module):
        assert isinstance(module, nn.Conv2d)
        return module.groups
    tensors = network.state_dict()
    return max((tensors[name].shape[dim] for name, dim in _places(network, end)), default=0)


def _places(network: nn.Module, end: End) -> list[tuple[str, int]]:
    """Return the tensors that an end consists of, each with the dimension of its channels."""
    path, side = end
    module = network.get_submodule(path)
    if side == "out":
        tensors = module.state_dict().items()
        return [(f"{path}.{name}", 0) for name, tensor in tensors if tensor.ndim]
    one_dimension = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or _is_grouped(module)
    return [] if one_dimension else [(f"{path}.weight", 1)]


def _is_grouped(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1
