"""REDS's knapsack: what the first units of layers and groups are worth beside those they read.

A unit is worth the scores of all its incoming weights, whatever is kept of the layer before. Only
pointwise convolutions, as in the authors' integer program, are scored by kernels (k, t): one counts
if both the filter k and the channel t that it reads are kept. With `linear_cost` they are scored by
units, too.

Legend: T units of the layer before, K units of a layer; U widths of the layer before, V widths.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from search_spaces.base import SearchSpace
from workers.methods.reds.chain import Chain, Integers
from workers.methods.reds.config import Config
from workers.methods.reds.groups import GroupGraph, Term, assembled
from workers.methods.reds.importance import kernel_scores
from workers.methods.reds.prices import is_chain, live_of_groups, macs_of_groups, prices_of
from workers.methods.reds.units import Axes, Axis, Tensors

ONE = np.ones((), dtype=np.int64)
POINTWISE = (1, 1)  # the kernel size
SCALE = 1e5  # scores of units and kernels are rounded to whole numbers after it


def build_instance(
    space: SearchSpace, config: Config, scores: Tensors, axes: Axes
) -> Chain | GroupGraph:
    """Return the knapsack of a space whose choices are widths, as a chain where it is one.

    Arguments and errors are those of `build_chain`.
    """
    build = build_chain if is_chain(space) else build_graph
    return build(space, config, scores, axes)


def build_chain(space: SearchSpace, config: Config, scores: Tensors, axes: Axes) -> Chain:
    """Return the knapsack of a space whose choices are the widths of a chain of layers, in order.

    Args:
        space: which networks exist.
        config: which layers keep all their units, how many the others keep at least, and whether
            units are priced and scored by themselves.
        scores: of weights (`importance`), units in the order in which they are kept.
        axes: of the weights.

    Raises:
        ValueError: the networks are no such chains, or the scores are all 0.
    """
    names = [choice.name for choice in space.choices]
    widths = [_widths(space, config, index) for index in range(len(names))]
    before = [np.ones(1, dtype=np.int64), *widths[:-1]]
    pairs = list(zip(before, widths, strict=True))
    prices = prices_of(space, linear=config.linear_cost)
    tables = [_scores(names, index, pair, scores, axes, config) for index, pair in enumerate(pairs)]
    _check_scores(scores, tables)
    return Chain(
        widths=tuple(widths),
        scores=tuple(tables),
        costs=tuple(cost.table(*pair) for cost, pair in zip(prices.macs, pairs, strict=True)),
        memory_bytes=tuple(
            np.maximum.reduce([maps.table(*pair) for maps in entries])
            for entries, pair in zip(prices.memory_bytes, pairs, strict=True)
        ),
    )


def build_graph(space: SearchSpace, config: Config, scores: Tensors, axes: Axes) -> GroupGraph:
    """Return the knapsack of a space whose choices are the widths of groups, in any order.

    Arguments are those of `build_chain`.

    Raises:
        ValueError: a layer's cost is no product of widths, or the scores are all 0.
    """
    names = [choice.name for choice in space.choices]
    widths = [_widths(space, config, index) for index in range(len(names))]
    costs = [
        (groups, factor * functools.reduce(np.multiply.outer, (widths[g] for g in groups), ONE))
        for groups, factor in macs_of_groups(space, linear=config.linear_cost).items()
    ]
    worth: list[Term] = []
    for name, score in scores.items():
        owner, read = axes[name][:2]
        if owner is not None and owner.layer not in config.keep:
            prefix_KT = _prefix_scores(score, axes[name], by_kernels=not config.linear_cost)
            group = names.index(owner.layer)
            kept_VT = prefix_KT[widths[group] - 1]
            if read is None or prefix_KT.shape[1] == 1:
                worth.append(((group,), kept_VT[:, 0]))
            else:
                before = names.index(read.layer)
                worth.append(((group, before), kept_VT[:, widths[before] - 1]))
    _check_scores(scores, [table for _, table in worth])
    return assembled(widths, worth, costs, live_of_groups(space))


def _check_scores(scores: Tensors, tables: Sequence[Integers]) -> None:
    if scores and not any(table.any() for table in tables):
        raise ValueError("importance: every score is 0; the network has no gradients to go by")


def _widths(space: SearchSpace, config: Config, index: int) -> Integers:
    choice = space.choices[index]
    most = space.presets["full"][choice.name]
    least = most if choice.name in config.keep else min(config.min_units, most)
    return np.array([width for width in choice.options if width >= least], dtype=np.int64)


def _scores(
    names: Sequence[str],
    index: int,
    widths: tuple[Integers, Integers],
    scores: Tensors,
    axes: Axes,
    config: Config,
) -> Integers:
    """Return what a layer's first units are worth, shape (U, V); nothing where all are kept."""
    before_U, width_V = widths
    total_UV = np.zeros((len(before_U), len(width_V)), dtype=np.int64)
    for name, score in scores.items():
        owner = axes[name][0]
        if owner is None or owner.layer != names[index] or owner.layer in config.keep:
            continue
        prefix_KT = _prefix_scores(score, axes[name], by_kernels=not config.linear_cost)
        if prefix_KT.shape[1] == 1:
            total_UV += prefix_KT[width_V - 1, 0]
        else:  # prices_of has refused what reads any other layer
            total_UV += prefix_KT[width_V - 1][:, before_U - 1].T
    return total_UV


def _prefix_scores(
    score: torch.Tensor, axes: Sequence[Axis | None], *, by_kernels: bool
) -> Integers:
    """Return what a weight's first units are worth, shape (K, T), or (K, 1) if whatever they read.

    Entry (k, t) is that of the first k + 1 units beside the first t + 1 that they read.
    """
    kernels_KT = kernel_scores(score, axes)
    if axes[1] is None or not by_kernels or score.shape[2:] != POINTWISE:
        kernels_KT = kernels_KT.sum(1, keepdim=True)
    return _rounded(kernels_KT).cumsum(0).cumsum(1)


def _rounded(scores: torch.Tensor) -> Integers:
    rounded: Integers = (SCALE * scores).round().long().numpy()
    return rounded
