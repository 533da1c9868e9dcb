"""Widths that are chosen independently of each other, which several spaces are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from search_spaces.base import Architecture, Choice, check_options


class FreeWidths:
    """A choice of width for each name, none of which is ever inactive.

    Args:
        offered: the names in order, each with its widths, rising.
    """

    def __init__(self, offered: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        self.choices = tuple(Choice(name, widths) for name, widths in offered)
        self._options = {
            choice.name: {option: option for option in choice.options} for choice in self.choices
        }
        full = {choice.name: choice.options[-1] for choice in self.choices}
        self.presets: Mapping[str, Architecture] = {
            "full": full,
            "max": full,
            "min": {choice.name: choice.options[0] for choice in self.choices},
        }

    def size(self) -> int:
        """Return the exact number of architectures."""
        return math.prod(len(choice.options) for choice in self.choices)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with its names in order.

        Raises:
            ValueError: a name is missing, unknown, or has a width that it does not offer.
        """
        try:
            if architecture.keys() != self._options.keys():
                raise KeyError
            return {name: widths[architecture[name]] for name, widths in self._options.items()}
        except (AttributeError, KeyError, TypeError):
            check_options(self.choices, architecture)
            raise


def widths_up_to(most: int, multiple: int) -> tuple[int, ...]:
    """Return the multiples below a width, and the width itself."""
    return (*range(multiple, most, multiple), most)
