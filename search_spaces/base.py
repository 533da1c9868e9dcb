"""What a search space is: choices, architectures, and the layers an architecture becomes.

An *architecture* is a JSON object with one option for every choice; a choice named `ks.3` is entry
3 of list `ks`. A *space* turns it into `Layer` records, the one bridge to the cost models, and into
a stand-alone `nn.Module`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import nn

Architecture = dict[str, Any]
Shape = tuple[int, ...]
LayerKind = Literal[
    "conv",
    "linear",
    "norm",
    "activation",
    "avg_pool",
    "max_pool",
    "add",
    "scale",
    "upsample",
    "pad",
    "flatten",
]


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision of a space: a name and its options (JSON values, in a fixed order)."""

    name: str
    options: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation of a network, as the cost models see it.

    Shapes are those of one sample, without the batch: (channels, height, width) or (features,).
    `inputs` names the layers this one reads, in order; an empty tuple means the network's input.
    `module` is the dotted path, in the module that the space builds, of the block that the layer
    belongs to: blocks are what latency tables and machine allocations are made of.
    """

    name: str
    kind: LayerKind
    in_shape: Shape
    out_shape: Shape
    kernel_size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    inputs: tuple[str, ...] = ()
    module: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network whose latency is measured by itself.

    Equal keys mean equal computations: such blocks are measured once. `in_shape` is the shape of
    one sample; `build` returns the block as a module, in evaluation mode.
    """

    key: str
    in_shape: Shape
    build: Callable[[], nn.Module] = field(compare=False, repr=False)


class SearchSpace(Protocol):
    """The networks that exist, for one input shape and one number of classes."""

    name: str
    in_shape: Shape
    num_classes: int
    choices: tuple[Choice, ...]
    presets: Mapping[str, Architecture]

    def size(self) -> int:
        """Return the exact number of architectures."""
        ...

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture without inactive choices; equal networks become equal JSON.

        The empty architecture is no network: it says that no path leads from input to output.

        Raises:
            ValueError: a choice is missing, unknown, or has an option that it does not offer.
        """
        ...

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order."""
        ...

    def build(self, architecture: Architecture) -> nn.Module:
        """Return the stand-alone network, freshly initialised."""
        ...

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return the blocks whose latencies add up to the network's latency, with repetitions."""
        ...

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block that any architecture can contain, without repetitions."""
        ...


def digest(space: SearchSpace, architecture: Architecture) -> str:
    """Return 12 hexadecimal digits that identify a network: the hash of its canonical JSON."""
    text = json.dumps(space.canonical(architecture), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def distinct(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks, those of one key once."""
    keys = set()
    for block in blocks:
        if block.key not in keys:
            keys.add(block.key)
            yield block


def sample(space: SearchSpace, rng: random.Random) -> Architecture:
    """Draw one option for every choice, uniformly and independently, until it is a network."""
    return _first_network(
        space, lambda: {choice.name: rng.choice(choice.options) for choice in space.choices}
    )


def mutate(
    space: SearchSpace, architecture: Architecture, rng: random.Random, probability: float = 0.1
) -> Architecture:
    """Redraw every choice with the given probability, and at least one of them."""

    def draw() -> Architecture:
        forced = rng.choice(space.choices).name
        return {
            choice.name: rng.choice(choice.options)
            if choice.name == forced or rng.random() < probability
            else _kept(architecture, choice, rng)
            for choice in space.choices
        }

    return _first_network(space, draw)


def crossover(
    space: SearchSpace, first: Architecture, second: Architecture, rng: random.Random
) -> Architecture:
    """Take every option from either parent with equal probability."""

    def draw() -> Architecture:
        return {
            choice.name: _kept(rng.choice((first, second)), choice, rng) for choice in space.choices
        }

    return _first_network(space, draw)


def option_of(architecture: Architecture, name: str, missing: Any = None) -> Any:
    """Return the option that an architecture has for a choice; `missing` if it names none."""
    key, dot, index = name.partition(".")
    if dot and key in architecture:
        return architecture[key][int(index)]
    return architecture.get(name, missing)


def _kept(architecture: Architecture, choice: Choice, rng: random.Random) -> Any:
    """Return a parent's option; a random one for an entry that is inactive in it."""
    option = option_of(architecture, choice.name, choice.options[0])
    return rng.choice(choice.options) if option is None and None not in choice.options else option


def _first_network(space: SearchSpace, draw: Callable[[], Architecture]) -> Architecture:
    while not (architecture := space.canonical(draw())):
        pass
    return architecture


def check_options(choices: Sequence[Choice], architecture: Architecture) -> None:
    """Refuse an architecture that does not give one option for every choice.

    Raises:
        ValueError: names the choice, what was given and what it offers.
    """
    if not isinstance(architecture, dict):
        raise ValueError(f"architecture: expected an object, got {type(architecture).__name__}")
    names = {choice.name for choice in choices}
    for name in architecture:
        if name not in names:
            raise ValueError(f"architecture: unknown choice {name!r}; known: {sorted(names)}")
    for choice in choices:
        if choice.name not in architecture:
            raise ValueError(f"architecture: choice {choice.name!r} is missing")
        if architecture[choice.name] not in choice.options:
            shown = ", ".join(json.dumps(option) for option in choice.options[:6])
            more = f", ... ({len(choice.options)} in all)" if len(choice.options) > 6 else ""
            raise ValueError(
                f"architecture: choice {choice.name!r} is {json.dumps(architecture[choice.name])};"
                f" allowed: {shown}{more}"
            )
