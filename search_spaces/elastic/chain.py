"""Networks that are a chain of parts: their records, their modules, their blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from search_spaces.base import Block, Layer, Shape, distinct
from search_spaces.elastic.modules import Resize


class Part(Protocol):
    """One module of the chain.

    `key` names what it computes, and nothing else: equal computations have equal keys.
    """

    @property
    def name(self) -> str:
        """The module's name in the network."""
        ...

    @property
    def in_shape(self) -> Shape:
        """The shape of one sample that it reads."""
        ...

    @property
    def key(self) -> str:
        """The name of its computation."""
        ...

    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; the first reads layer `source`, or the network's input."""
        ...

    def build(self) -> nn.Module:
        """Return it as a module, freshly initialised."""
        ...


@dataclass(frozen=True, slots=True)
class ResizePart:
    """What brings images to a network's resolution; it has a record, and it takes time."""

    in_shape: Shape
    resolution: int
    name: str = "resize"

    @property
    def key(self) -> str:
        """The name of its computation."""
        return f"resize-{text(self.in_shape)}-{self.resolution}"

    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its one record; `upsample` is the kind, though pixels may become fewer."""
        out_shape = (self.in_shape[0], self.resolution, self.resolution)
        inputs = () if source is None else (source,)
        name = self.name
        return (Layer(name, "upsample", self.in_shape, out_shape, inputs=inputs, module=name),)

    def build(self) -> nn.Module:
        """Return it as a module."""
        return Resize((self.resolution, self.resolution))


def chain_layers(parts: Iterable[Part]) -> tuple[Layer, ...]:
    """Return the records of a network in execution order."""
    layers: list[Layer] = []
    for part in parts:
        layers += part.layers(layers[-1].name if layers else None)
    return tuple(layers)


def chain_network(parts: Iterable[Part]) -> nn.Sequential:
    """Return a network, freshly initialised; its children are the parts, under their names."""
    return nn.Sequential(OrderedDict((part.name, part.build()) for part in parts))


def chain_blocks(parts: Iterable[Part]) -> tuple[Block, ...]:
    """Return the parts of a network as blocks whose latencies add up."""
    return tuple(map(_block, parts))


def distinct_blocks(parts: Iterable[Part]) -> Iterator[Block]:
    """Yield the parts as blocks, equal computations once."""
    return distinct(map(_block, parts))


def text(shape: Shape) -> str:
    """Return a shape as keys have it."""
    return "x".join(map(str, shape))


def _block(part: Part) -> Block:
    return Block(part.key, part.in_shape, lambda: part.build().eval())
