"""What REDS refuses before anything runs: a space, a setting or a sweep that cannot be searched."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from search_spaces.base import SearchSpace
from workers.methods.reds.config import Config
from workers.methods.reds.formulation import build_instance
from workers.methods.reds.units import axes_of, norms_of


def check(space: SearchSpace, config: Config, points: Sequence[Config], cost: str) -> None:
    """Refuse what cannot be searched, or not from one pretraining (`protocol.Method.check`).

    Args:
        space: the study's.
        config: the settings that pretraining runs with.
        points: the settings of every point of the sweep.
        cost: name of the study's cost; any will do.

    Raises:
        ValueError: names the key, what was given and what is allowed.
    """
    del cost
    if "full" not in space.presets or not all(
        isinstance(option, int) for choice in space.choices for option in choice.options
    ):
        raise ValueError(
            f"space: reds slices layers of free width, as in keyword_nets; {space.name} has none"
        )
    axes_of(space)
    for point in (config, *points):
        if point.pretraining != config.pretraining:
            raise ValueError(
                "pretraining: a point has its own, but all points start from one pretraining;"
                " allowed: a study for each"
            )
        _check_layers(space, point)
        _check_limits(space, point)


def _check_layers(space: SearchSpace, config: Config) -> None:
    known = [choice.name for choice in space.choices]
    for name in config.keep:
        if name not in known:
            raise ValueError(f"keep: {name!r} is no layer; allowed: {known}")
    with torch.device("meta"):
        norms = norms_of(space.build(space.presets["full"]))
    if config.norm_epochs and not norms:
        raise ValueError(
            f"norm_epochs: {config.norm_epochs}, but the network has no batch norms; allowed: 0"
        )


def _check_limits(space: SearchSpace, config: Config) -> None:
    instance = build_instance(space, config, {}, {})
    least = instance.least_cost / instance.full_cost
    if config.shares[0] < least:
        raise ValueError(
            f"fractions: {config.shares[0]:g} of {instance.full_cost} MACs is infeasible;"
            f" the smallest feasible one is {math.ceil(1e4 * least) / 1e4:g}"
        )
    instance.check_feasible(instance.full_cost, config.peak_memory_bytes)
