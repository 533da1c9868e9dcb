"""What a method is given and what it gives. A method knows this page, torch, and no cluster.

`search(problem, config, state)` is a generator of `Progress`: the caller logs it, checkpoints its
state, and stops when it likes. Ranks yield in lockstep; rank 0 persists.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from cost_models.latency_table import LatencyTable
from search_spaces.base import Architecture, SearchSpace
from workers.datasets import Data
from workers.ranks import whole

State = dict[str, Any]
"""Tensors, numbers, strings, lists and dicts only: it loads with `weights_only=True`."""


class Cost(Protocol):
    """What a network costs, in the unit of the study's cost."""

    def __call__(self, architecture: Architecture, input_CHW: torch.Tensor | None = None) -> float:
        """Return the cost; if it is random, a new draw of it; it may depend on the network's input.

        Raises:
            ValueError: the cost of this architecture cannot be told.
        """
        ...


class Predict(Protocol):
    """What networks of a supernet predict; equal networks are evaluated once in a study."""

    def __call__(self, architectures: Sequence[Architecture]) -> list[torch.Tensor]:
        """Return each network's predicted classes of `data.val`, shape (samples,), int16."""
        ...


@dataclass(frozen=True)
class Problem:
    """One trial's task: which networks, on which data, at which cost, from which start.

    `data.train` and `data.val` may be a proxy (a share of classes or images). `seed` determines
    every random draw. `start` is what a search begins with, its method's `pretrain` state, or what
    finishing begins with, `{"weights": state dict}` of the candidate; None where there is nothing.
    `predict` is there in searches of methods that have a `predictor`. `sharding` is how several
    ranks hold a supernet in training (`workers.sharding`).
    """

    space: SearchSpace
    data: Data
    table: LatencyTable | None
    cost: Cost
    seed: int
    device: torch.device
    start: State | None = None
    predict: Predict | None = None
    sharding: Literal["ddp", "fsdp"] = "ddp"


@dataclass(frozen=True)
class Candidate:
    """An architecture with what is known of it.

    `metrics` are plain numbers under the names of the results table (`search_loss`,
    `val_accuracy`, `test_accuracy`, ...). `predictions` maps a split's name to predicted classes,
    shape (samples,), uint8 or int16; -1 marks no prediction. `weights` is a state dict of the
    network that `space.build(architecture)` returns, or None.
    """

    architecture: Architecture
    metrics: Mapping[str, float] = field(default_factory=dict)
    predictions: Mapping[str, torch.Tensor] = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] | None = None


@dataclass(frozen=True)
class Progress:
    """One finished epoch (or generation): `step` of `steps`, its metrics, a resumable state.

    `state` is a function, because collecting it costs time and not every step is persisted.
    The last progress of a search carries its candidates.
    """

    step: int
    steps: int
    metrics: Mapping[str, float]
    state: Callable[[], State]
    candidates: tuple[Candidate, ...] = ()


class Stage(Protocol):
    """A resumable piece of work: it continues from `state` and repeats nothing."""

    def __call__(self, problem: Problem, config: Any, state: State | None) -> Iterator[Progress]:
        """Yield one `Progress` a step; the last one carries the result."""
        ...


class Finish(Protocol):
    """Turns a chosen architecture into a finished network; the last progress carries it."""

    def __call__(
        self, problem: Problem, architecture: Architecture, recipe: Any, state: State | None
    ) -> Iterator[Progress]:
        """Yield one `Progress` an epoch; `recipe` is a `workers.training.Recipe`."""
        ...


class Fuse(Protocol):
    """Trains chosen architectures together; the last progress carries finished networks."""

    def __call__(
        self,
        problem: Problem,
        config: Any,
        architectures: Sequence[Architecture],
        state: State | None,
    ) -> Iterator[Progress]:
        """Yield one `Progress` an epoch; its candidates need not be the architectures given."""
        ...


@dataclass(frozen=True)
class Finished:
    """A finished network of a trial: its row in the results, its weights, its predictions.

    `predictions_N` and `labels_N` are classes on the validation split.
    """

    record: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    predictions_N: torch.Tensor
    labels_N: torch.Tensor


@dataclass(frozen=True)
class Method:
    """A search method: its name, its settings and its functions.

    `select` picks, from the candidates' flat records (params and metrics), the indices of those
    worth finishing; None means their Pareto front. `check` refuses, before anything runs, a study
    that the method cannot search: it is given the space, the method's settings, those of every
    point of the sweep, and the cost's name, and raises a ValueError that names the key. `deliver`
    makes, from the finished networks of one trial, cheapest first, files that hold them together:
    name -> contents, kept in `products/<trial>/`. `auto` makes the values of an axis of the sweep
    that says `auto`, from the method's settings at a point of the other axes. `fuse` trains
    together, in a trial of its own, those chosen candidates that differ in no other params than
    `fused_over`. `predictor` makes, from a problem with its `start`, the evaluator that all
    trials of the search share; its settings are those of the method, whatever the sweep says, and
    its predictions depend on those named in `predicts_by`.
    `not_in_parts` says, for stages whose networks ranks cannot hold parts of, why.
    """

    name: str
    Config: type
    search: Stage
    finish: Finish
    pretrain: Stage | None = None
    select: Callable[[Sequence[Mapping[str, Any]]], list[int]] | None = None
    check: Callable[[SearchSpace, Any, Sequence[Any], str], None] | None = None
    deliver: Callable[[SearchSpace, Sequence[Finished]], Mapping[str, bytes]] | None = None
    auto: Mapping[str, Callable[[Mapping[str, Any]], list[Any]]] = field(default_factory=dict)
    fuse: Fuse | None = None
    fused_over: tuple[str, ...] = ()
    predictor: Callable[[Problem, Any], Predict] | None = None
    predicts_by: tuple[str, ...] = ()
    not_in_parts: Mapping[str, str] = field(default_factory=dict)


def seeded(*parts: int | str) -> random.Random:
    """Return a random generator that depends on the parts alone, not on the process."""
    return random.Random("/".join(map(str, parts)))


def copied(value: Any) -> Any:
    """Return a state dict's values as copies on the CPU, tensors contiguous.

    Tensors that ranks hold parts of become whole; all ranks call this together then.
    """
    if isinstance(value, torch.Tensor):
        return whole(value.detach()).to("cpu", memory_format=torch.contiguous_format, copy=True)
    if isinstance(value, Mapping):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [copied(inner) for inner in value]
    return value
