"""Fabrics as torch modules, made from Layer records.

Tensors: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import functools
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from search_spaces.base import Layer, LayerKind, Shape
from search_spaces.fabric.records import HEAD, STEM
from search_spaces.narrow_convs import narrow_convs


def chain(layers: Sequence[Layer]) -> nn.Sequential:
    """Return layers that read one another in turn as a module; no layers are the identity."""
    modules = ((layer.name.rpartition(".")[2], _MODULES[layer.kind](layer)) for layer in layers)
    return nn.Sequential(OrderedDict(modules))


def _conv(layer: Layer) -> nn.Module:
    channels_in, channels_out = layer.in_shape[0], layer.out_shape[0]
    size = layer.kernel_size
    padding = (size[0] // 2, size[1] // 2)
    conv = nn.Conv2d(channels_in, channels_out, size, layer.stride, padding, bias=layer.bias)
    return narrow_convs(conv)


_MODULES: Mapping[LayerKind, Callable[[Layer], nn.Module]] = {
    "conv": _conv,
    "norm": lambda layer: nn.BatchNorm2d(layer.out_shape[0]),
    "activation": lambda layer: nn.ReLU(),
    "upsample": lambda layer: nn.Upsample(scale_factor=2, mode="nearest"),
    "avg_pool": lambda layer: nn.AdaptiveAvgPool2d(1),
    "flatten": lambda layer: nn.Flatten(),
    "linear": lambda layer: nn.Linear(layer.in_shape[0], layer.out_shape[0], layer.bias),
}


class Sum(nn.Module):
    """A node: the sum of its inputs, then ReLU."""

    def forward(self, *inputs_BCHW: torch.Tensor) -> torch.Tensor:
        """Return one map of the inputs' shape."""
        return functools.reduce(operator.add, inputs_BCHW).relu()


class SumWithConstants(nn.Module):
    """A node to be measured by itself: it adds as many constant maps as it misses inputs."""

    def __init__(self, shape: Shape, num_inputs: int) -> None:
        super().__init__()
        self.sum = Sum()
        for index in range(1, num_inputs):
            self.register_buffer(f"constant{index}", torch.rand(shape))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return one map of the input's shape."""
        output_BCHW: torch.Tensor = self.sum(x_BCHW, *self.buffers())
        return output_BCHW


@dataclass(frozen=True, slots=True)
class Step:
    """An edge's turn in a network; after the last one into a node, the node computes."""

    edge: str
    source: str
    target: str
    completes_target: bool


class FabricNetwork(nn.Module):
    """A stand-alone network: the stem, edges and sums step by step, the head.

    Its children have the names of nodes and edges, in any network the same: parameters of a
    network with fewer edges are found by name in one with more.
    """

    def __init__(self, parts: Mapping[str, nn.Module], steps: Iterable[Step]) -> None:
        super().__init__()
        self.steps = tuple(steps)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return what the head gives for a batch of images."""
        maps_BCHW = {STEM: getattr(self, STEM)(x_BCHW)}
        arrived_BCHW: dict[str, list[torch.Tensor]] = defaultdict(list)
        for step in self.steps:
            edge = getattr(self, step.edge)
            arrived_BCHW[step.target].append(edge(maps_BCHW[step.source]))
            if step.completes_target:
                inputs_BCHW = arrived_BCHW.pop(step.target)
                maps_BCHW[step.target] = getattr(self, step.target)(*inputs_BCHW)
        output: torch.Tensor = getattr(self, HEAD)(maps_BCHW[self.steps[-1].target])
        return output
