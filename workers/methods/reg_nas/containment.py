"""Networks that contain all weights of a reference: the constraint CAS.

A smaller network is a slice of a larger one's tensors. So a target contains its reference where no
depth, kernel, expand ratio or width of it is smaller: the reference is then an exact sub-tensor, up
to the transforms of kernels that are larger in the target. Both see images of one size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.base import Architecture, SearchSpace, option_of

Offered = Mapping[str, tuple[Any, ...]]
RESOLUTION = "r"


def offered_to(space: SearchSpace, reference: Architecture | None) -> Offered:
    """Return the options with which networks contain the reference; all of them if it is None.

    Options rise, as they do in every elastic space. What is inactive in the reference is free.
    """
    offered = {choice.name: choice.options for choice in space.choices}
    if reference is None:
        return offered
    for name, options in offered.items():
        option = option_of(reference, name)
        if name == RESOLUTION:
            offered[name] = (option,)
        elif option is not None:
            offered[name] = options[options.index(option) :]
    return offered


def clamped(space: SearchSpace, architecture: Architecture, offered: Offered) -> Architecture:
    """Return the architecture with every option that is not offered replaced by the least that is.

    That is the element-wise maximum with the reference whose options are offered.
    """
    options = {name: option_of(architecture, name) for name in offered}
    return space.canonical(
        {
            name: option if option in offered[name] else offered[name][0]
            for name, option in options.items()
        }
    )


def contains(space: SearchSpace, target: Architecture, reference: Architecture) -> bool:
    """Tell whether the target has all weights of the reference, at its resolution."""
    offered = offered_to(space, reference)
    return clamped(space, target, offered) == space.canonical(target)
