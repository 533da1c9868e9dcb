"""The supernet: every network of a space in one set of weights.

Tensors: B samples, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn

from search_spaces.base import Architecture, Layer, SearchSpace
from search_spaces.elastic.layers import (
    ElasticConv,
    ElasticLayer,
    ElasticLinear,
    ElasticNorm,
    ElasticResize,
    State,
    make_elastic,
)
from search_spaces.elastic.sorting import sort_hidden


class ElasticSpace(SearchSpace, Protocol):
    """A space of chains whose tensors all lie in those of preset `max`.

    Its Layer records are named as the modules that they describe.
    """

    def own_name(self, public: str) -> str:
        """Return this project's name of a tensor in a checkpoint of the Once-for-all authors."""
        ...


class Supernet(nn.Module):
    """The largest network of a space, which runs as any of them.

    Names in its state dict are those of the largest network, and the matrices that transform
    kernels beside them: `stage1_block0.depthwise.conv.transforms.7to5`. It starts as the largest.
    """

    def __init__(self, space: ElasticSpace) -> None:
        super().__init__()
        self.space = space
        self.resize = ElasticResize()
        for name, part in make_elastic(space.build(space.presets["max"])).named_children():
            setattr(self, name, part)
        elastic = (ElasticConv, ElasticNorm, ElasticLinear, ElasticResize)
        self._elastic: dict[str, ElasticLayer] = {
            name: module for name, module in self.named_modules() if isinstance(module, elastic)
        }
        self._running: tuple[str, ...] = ()
        self.set_active(space.presets["max"])

    def set_active(self, architecture: Architecture, *, pin: bool = False) -> None:
        """Make the supernet compute what an architecture computes.

        Args:
            architecture: one of the space.
            pin: slice and transform weights now instead of in every call: they are then to stay as
                they are until the next architecture. Batch norms follow their statistics still.

        Raises:
            ValueError: the architecture is not one of the space.
        """
        layers = self.space.layers(architecture)
        for layer in layers:
            if layer.name in self._elastic:
                module = self._elastic[layer.name]
                module.active = layer
                module.pinned = _taken(module, layer) if pin else None
        self._running = tuple(dict.fromkeys(layer.module for layer in layers))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the active network's logits (batch, classes) for images of the data set's size."""
        for name in self._running:
            x_BCHW = getattr(self, name)(x_BCHW)
        return x_BCHW

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> State:
        """Return the state dict of `space.build(architecture)` with inherited weights.

        It is a copy; which network is active stays as it is.

        Raises:
            ValueError: the architecture is not one of the space.
        """
        return {
            f"{layer.name}.{name}": tensor.clone(memory_format=torch.contiguous_format)
            for layer in self.space.layers(architecture)
            if layer.name in self._elastic
            for name, tensor in self._elastic[layer.name].sliced(layer).items()
        }

    def sort_channels(self, trained: Iterable[Architecture] = ()) -> None:
        """Sort the channels inside every block by importance, so that the least are lost first.

        The largest network computes what it did, and so do the `trained` ones: their channels stay
        in front. Optimizers that remember gradients do not know of the new order.

        Raises:
            ValueError: an architecture is not one of the space.
        """
        widths: defaultdict[str, set[int]] = defaultdict(set)
        for architecture in trained:
            for layer in self.space.layers(architecture):
                widths[layer.name].add(layer.in_shape[0])
        for name, part in self.named_children():
            for hidden in getattr(part, "sortable", ()):
                sort_hidden(part, hidden, widths[f"{name}.{hidden.reader}"])


@torch.no_grad()
def _taken(module: ElasticLayer, layer: Layer) -> State:
    """Return a layer's state, laid out for computing; what lies so already is no copy."""
    return {name: tensor.contiguous() for name, tensor in module.sliced(layer).items()}
