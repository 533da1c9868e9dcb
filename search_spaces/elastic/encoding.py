"""Architectures as lists of entries, one choice for each entry.

Published encodings are lists: `{"ks": [3, 7, ...], "d": [2, ...], "r": 224}`. Choice `ks.1` is
entry 1 of list `ks`; choice `r` is no list's. Depths leave entries inactive: those are `null`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.base import Architecture, Choice, check_options


@dataclass(frozen=True)
class Encoding:
    """The choices of a space in order, entries of a list side by side.

    `inactive` maps a depth's choice and its option to the choices that do not matter then.
    """

    choices: tuple[Choice, ...]
    inactive: Mapping[str, Mapping[int, frozenset[str]]]

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the lists of an architecture, inactive entries as None.

        An entry may be given by its list or by its choice's name. What is given for an inactive
        entry must be an option or None.

        Raises:
            ValueError: an entry is missing, unknown, or has an option that it does not offer.
        """
        if not isinstance(architecture, dict):
            check_options(self.choices, architecture)
        given = entries(architecture)
        inactive = self._inactive(given)
        active = {
            name: option
            for name, option in given.items()
            if option is not None or name not in inactive
        }
        first = {choice.name: choice.options[0] for choice in self.choices if choice.name in given}
        check_options(self.choices, first | active)
        return lists(
            {
                choice.name: None
                if choice.name in inactive
                # The option itself: 3.0 may be given for 3.
                else choice.options[choice.options.index(given[choice.name])]
                for choice in self.choices
            }
        )

    def offered(self, architecture: Architecture) -> dict[str, tuple[Any, ...]]:
        """Return what an architecture leaves of every choice: one option, or none if inactive.

        Raises:
            ValueError: as `canonical`.
        """
        options = entries(self.canonical(architecture))
        return {name: () if option is None else (option,) for name, option in options.items()}

    def size(self) -> int:
        """Return the exact number of architectures."""
        counts = {choice.name: len(choice.options) for choice in self.choices}
        total = 1
        for depth, inactive in self.inactive.items():
            governed = frozenset().union(*inactive.values())
            total *= sum(
                math.prod(counts[name] for name in governed - names) for names in inactive.values()
            )
            for name in (depth, *governed):
                del counts[name]
        return total * math.prod(counts.values())

    def _inactive(self, given: Mapping[str, Any]) -> set[str]:
        """Return the choices that do not matter at the given depths."""
        names: set[str] = set()
        for depth, inactive in self.inactive.items():
            chosen = [
                left_out for option, left_out in inactive.items() if option == given.get(depth)
            ]
            # A depth that does not exist is to be refused, not the entries that it governs.
            names.update(*(chosen or inactive.values()))
        return names


def entries(architecture: Architecture) -> dict[str, Any]:
    """Return an architecture without lists: an item for every entry, named as its choice."""
    flat: dict[str, Any] = {}
    for key, value in architecture.items():
        if isinstance(value, list | tuple):
            flat.update({f"{key}.{index}": entry for index, entry in enumerate(value)})
        else:
            flat[key] = value
    return flat


def lists(options: Mapping[str, Any]) -> Architecture:
    """Return an architecture with its lists, from items in the order of their entries."""
    architecture: Architecture = {}
    for name, option in options.items():
        key, dot, _ = name.partition(".")
        if dot:
            architecture.setdefault(key, []).append(option)
        else:
            architecture[name] = option
    return architecture


def list_choices(key: str, options: tuple[Any, ...], length: int) -> tuple[Choice, ...]:
    """Return the choices of a list whose entries all offer the same."""
    return tuple(Choice(f"{key}.{index}", options) for index in range(length))
