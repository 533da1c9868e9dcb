"""What REDS refuses before anything runs: a space, a setting or a sweep that cannot be searched."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from cost_models.onnx_export import checked_onnx
from search_spaces.base import Choice, SearchSpace
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
    if "full" not in space.presets or not all(map(_offers_widths, space.choices)):
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
    _check_export(space)


def _offers_widths(choice: Choice) -> bool:
    """Return whether all options are numbers of units; an edge that is on or off offers none."""
    return all(type(option) is int and option > 0 for option in choice.options)


def _check_layers(space: SearchSpace, config: Config) -> None:
    known = [choice.name for choice in space.choices]
    for name in config.keep:
        if name not in known:
            raise ValueError(f"keep: {name!r} is no layer; allowed: {known}")
    with torch.device("meta"):
        network = space.build(space.presets["full"])
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            raise ValueError(f"space: {name!r} is frozen; allowed: networks that train as a whole")
    norms = norms_of(network)
    if config.norm_epochs and not norms:
        raise ValueError(
            f"norm_epochs: {config.norm_epochs}, but the network has no batch norms; allowed: 0"
        )


def _check_limits(space: SearchSpace, config: Config) -> None:
    instance = build_instance(space, config, {}, {})
    least = instance.least_cost / instance.full_cost
    if config.shares[0] < least:
        key = "num_subnets" if config.fractions is None else "fractions"
        unit = "linear costs" if config.linear_cost else "MACs"
        raise ValueError(
            f"{key}: {getattr(config, key)} asks for {config.shares[0]:g} of {instance.full_cost}"
            f" {unit}, which is infeasible with min_units {config.min_units} and keep"
            f" {list(config.keep)}; lower these, or ask for more:"
            f" the smallest feasible share is {math.ceil(1e4 * least) / 1e4:g}"
        )
    instance.check_feasible(instance.full_cost, config.peak_memory_bytes)


def _check_export(space: SearchSpace) -> None:
    """Refuse, before anything is trained, networks of which no ONNX file could be delivered.

    All have the same operations; the smallest one tells soonest.
    """
    try:
        with _silent():
            checked_onnx(space.build(space.presets["min"]), space.in_shape)
    except (RuntimeError, ValueError) as error:
        reason, _, _ = str(error).partition(". ")  # hints follow
        raise ValueError(f"space: its networks have no ONNX form: {reason}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Let nothing print: of a graph that it cannot export, torch prints all, from C++."""
    output = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)
