"""What units cost and take in memory, read off a space's Layer records.

Of which widths a record's numbers are products shows when one width shrinks at a time. The whole
network's multiply-accumulates are counted, the head's too, so that a capacity is a share of what
`cost_models.macs` says. The paper prices the units of its DNN and CNN as if all units before them
were kept, and leaves the head out (`linear`).

Legend: U widths of the layer before, V widths of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cost_models.macs import macs_of
from cost_models.peak_memory import BYTES_PER_NUMBER, IN_PLACE, live_bytes
from search_spaces.base import Layer, SearchSpace
from workers.methods.reds.chain import Integers
from workers.methods.reds.groups import Live


@dataclass(frozen=True)
class Bilinear:
    """`fixed + before u + own v + both u v`, of a layer's width v and u, that of the one before."""

    fixed: int = 0
    before: int = 0
    own: int = 0
    both: int = 0

    def __add__(self, other: Bilinear) -> Bilinear:
        return Bilinear(
            self.fixed + other.fixed,
            self.before + other.before,
            self.own + other.own,
            self.both + other.both,
        )

    def table(self, before_U: Integers, width_V: Integers) -> Integers:
        """Return the value for every pair of widths, shape (U, V)."""
        before_U1 = before_U[:, None]
        return (self.fixed + self.before * before_U1) + (self.own + self.both * before_U1) * width_V


@dataclass(frozen=True)
class Prices:
    """Per layer: multiply-accumulates, and bytes of maps that live together (the most counts)."""

    macs: tuple[Bilinear, ...]
    memory_bytes: tuple[tuple[Bilinear, ...], ...]


def prices_of(space: SearchSpace, *, linear: bool) -> Prices:
    """Return the prices of a space whose choices are the widths of a chain of layers, in order.

    Raises:
        ValueError: the networks are no such chains.
    """
    traced = _Traced(space)
    costs = [Bilinear()] * len(traced.widths)
    memory = [[Bilinear()] for _ in traced.widths]
    for index, record in enumerate(traced.full):
        counted = traced.rulers(index, macs_of)
        if linear:
            counted = traced.rulers(index, _outputs)
        if macs_of(record) and (counted or not linear):
            layer = max(counted, default=0)
            costs[layer] += traced.at(layer, macs_of(record), counted)
        if record.kind not in IN_PLACE:
            read, written = (traced.rulers(index, size) for size in (_in_size, _out_size))
            layer = max((*read, *written), default=0)
            maps = traced.at(layer, BYTES_PER_NUMBER * _in_size(record), read)
            maps += traced.at(layer, BYTES_PER_NUMBER * _out_size(record), written)
            memory[layer].append(maps)
    return Prices(tuple(costs), tuple(map(tuple, memory)))


def is_chain(space: SearchSpace) -> bool:
    """Whether each layer of a space's networks reads the one before, and nothing else."""
    layers = space.layers(space.presets["full"])
    names = [layer.name for layer in layers]
    return all(
        layer.inputs == ((before,) if before else ())
        for layer, before in zip(layers, ["", *names], strict=False)
    )


def macs_of_groups(space: SearchSpace, *, linear: bool) -> dict[tuple[int, ...], int]:
    """Return what multiply-accumulates are a sum of: groups -> factor of the product of widths.

    A group is there twice where a layer leads from it to itself.

    Raises:
        ValueError: units would not meet in any order, or a number is no such product.
    """
    traced = _Traced(space)
    if any(
        record.kind == "pad" and record.out_shape[0] != record.in_shape[0] for record in traced.full
    ):
        raise ValueError(
            f"space: reds orders units anew; in {space.name} padding ties their places"
        )
    factors: dict[tuple[int, ...], int] = {}
    for index, record in enumerate(traced.full):
        counted = traced.powers(index, _outputs if linear else macs_of)
        if macs_of(record) and (counted or not linear):
            units = math.prod(traced.widths[group] for group in counted)
            factors[counted] = factors.get(counted, 0) + macs_of(record) // units
    return factors


def live_of_groups(space: SearchSpace) -> tuple[Live, ...]:
    """Return the maps that live together at every moment of inference, each set once."""
    traced = _Traced(space)
    narrow = [live_bytes(records) for records in traced.narrow]
    found = set()
    for moment, whole in enumerate(live_bytes(traced.full)):
        units = {}
        for group, (most, least) in enumerate(zip(traced.widths, traced.least, strict=True)):
            saved = whole - narrow[group][moment]
            if saved:
                units[group] = saved // (most - least)
        fixed = whole - sum(size * traced.widths[group] for group, size in units.items())
        found.add(Live(fixed, tuple(units.items())))
    return tuple(sorted(found, key=lambda live: (live.scope, live.fixed)))


class _Traced:
    """The records of the full network, and of those in which one layer has its least width."""

    def __init__(self, space: SearchSpace) -> None:
        self.name = space.name
        full = space.presets["full"]
        self.widths = [full[choice.name] for choice in space.choices]
        self.least = [choice.options[0] for choice in space.choices]
        self.full = space.layers(full)
        self.narrow = [
            space.layers({**full, choice.name: choice.options[0]}) for choice in space.choices
        ]

    def rulers(self, index: int, number: Callable[[Layer], int]) -> tuple[int, ...]:
        """Return the layers whose widths a record's number depends on."""
        whole = number(self.full[index])
        return tuple(
            layer for layer, records in enumerate(self.narrow) if number(records[index]) != whole
        )

    def powers(self, index: int, number: Callable[[Layer], int]) -> tuple[int, ...]:
        """Return the groups whose widths a record's number is a product of, with repetitions."""
        found: list[int] = []
        whole = number(self.full[index])
        for group in self.rulers(index, number):
            least, most = self.least[group], self.widths[group]
            narrow, power = number(self.narrow[group][index]), 1
            while whole * least**power != narrow * most**power:
                power += 1
                if power > 2:
                    raise ValueError(
                        f"space: reds prices products of widths; in {self.name} layer"
                        f" {self.full[index].name!r} is none"
                    )
            found += [group] * power
        return tuple(found)

    def at(self, layer: int, value: int, rulers: tuple[int, ...]) -> Bilinear:
        """Return a number that is a product of widths as a function of a layer's two widths.

        Raises:
            ValueError: it depends on others.
        """
        factor = value // math.prod(self.widths[ruler] for ruler in rulers)
        forms = {
            (): Bilinear(fixed=factor),
            (layer - 1,): Bilinear(before=factor),
            (layer,): Bilinear(own=factor),
            (layer - 1, layer): Bilinear(both=factor),
        }
        if rulers not in forms:
            raise ValueError(
                f"space: reds slices chains of layers; in {self.name} a layer depends on the widths"
                f" of layers {rulers}"
            )
        return forms[rulers]


def _outputs(layer: Layer) -> int:
    return layer.out_shape[0]


def _in_size(layer: Layer) -> int:
    return math.prod(layer.in_shape)


def _out_size(layer: Layer) -> int:
    return math.prod(layer.out_shape)
