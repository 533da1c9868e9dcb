"""Progressive shrinking: phases that offer ever more of a space, from the full network down.

Cai et al., "Once for All: Train One Network and Specialize it for Efficient Deployment", 2020,
section 3.3, and the authors' code: kernels shrink first, then depths, then expand ratios, then
widths. Read into the paper: what no phase names, such as the resolution, is free in all of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from search_spaces.base import Architecture, SearchSpace
from workers.methods.reg_nas.supernet_settings import Lesson

SUBNETS = {"ks": 1, "d": 2, "e": 4, "w": 4}  # sampled in a step
NAMES = {"ks": "kernel", "d": "depth", "e": "expand", "w": "width"}
WIDTHS = ("e", "w")  # before these shrink, channels are sorted


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    `offered` are the options of every choice, `subnets` how many networks a step samples from
    them. Where `sorted_after` is not None, channels are sorted first, and those architectures,
    which were trained before, stay what they are.
    """

    name: str
    lesson: Lesson
    offered: Mapping[str, tuple[Any, ...]]
    subnets: int = 1
    sorted_after: tuple[Architecture, ...] | None = None


def phases(space: SearchSpace, lessons: Mapping[str, tuple[Lesson, ...]]) -> Iterator[Phase]:
    """Yield the phases of a space, in order; choices that it does not have are passed over.

    Args:
        space: the space; every option list has its largest at `presets["max"]`.
        lessons: under "full", "kernel", "depth", "expand" and "width". Of several of one name,
            the first offers the two largest options, the next three, and the last all.
    """
    counts: dict[str, int | None] = dict.fromkeys(SUBNETS, 1)
    for lesson in lessons["full"]:
        yield Phase("full", lesson, _offered(space, counts))
    for key, subnets in SUBNETS.items():
        given = lessons[NAMES[key]] if _has(space, key) else ()
        for number, lesson in enumerate(given, 1):
            before = tuple(_uniform(space, counts)) if key in WIDTHS else None
            counts[key] = None if number == len(given) else number + 1
            name = f"{NAMES[key]} {number}"
            yield Phase(name, lesson, _offered(space, counts), subnets, before)


def everything(space: SearchSpace) -> Mapping[str, tuple[Any, ...]]:
    """Return all options of every choice."""
    return {choice.name: choice.options for choice in space.choices}


def drawn(
    space: SearchSpace,
    offered: Mapping[str, tuple[Any, ...]],
    count: int,
    rng: random.Random,
) -> list[Architecture]:
    """Draw architectures from what is offered; they share what is free, such as the resolution."""
    free = {
        name: rng.choice(options) for name, options in offered.items() if _key(name) not in SUBNETS
    }
    return [
        space.canonical({name: rng.choice(options) for name, options in offered.items()} | free)
        for _ in range(count)
    ]


def largest_like(space: SearchSpace, architecture: Architecture) -> Architecture:
    """Return the largest network that shares with another what is free, such as the resolution."""
    free = {name: option for name, option in architecture.items() if name not in SUBNETS}
    return {**space.presets["max"], **free}


def _offered(space: SearchSpace, counts: Mapping[str, int | None]) -> Mapping[str, tuple[Any, ...]]:
    """Return the largest options of every choice, as many as `counts` says; None for all."""
    offered = {}
    for choice in space.choices:
        count = counts.get(_key(choice.name))
        largest = sorted(choice.options, reverse=True)
        offered[choice.name] = choice.options if count is None else tuple(largest[:count])
    return offered


def _uniform(space: SearchSpace, counts: Mapping[str, int | None]) -> Iterator[Architecture]:
    """Yield the networks of full depth that have one expand ratio and one width throughout."""
    offered = _offered(space, counts)
    options = {_key(name): offer for name, offer in offered.items() if _key(name) in WIDTHS}
    for chosen in product(*options.values()):
        uniform = dict(zip(options, chosen, strict=True))
        yield space.canonical(
            {name: uniform.get(_key(name), max(offer)) for name, offer in offered.items()}
        )


def _has(space: SearchSpace, key: str) -> bool:
    return any(_key(choice.name) == key for choice in space.choices)


def _key(name: str) -> str:
    """Return the list of a choice: `ks` of `ks.3`."""
    return name.partition(".")[0]
