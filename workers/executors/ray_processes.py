"""Long-lived processes on a Ray cluster, which keep what they need to answer calls.

One that is lost is not waited for: its node may be gone for good. Its call goes to another, and a
new one joins as soon as there is room for it. A node takes all its processes along, and a call may
be handed to each of them in turn: so many losses are not the call's own.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError

LOST = (RayActorError, OutOfMemoryError)
MOST_LOSSES = 2  # that one call may meet beside those of a lost node


class _Process:
    """A process that keeps what `setup` made and calls functions with it."""

    def __init__(
        self, setup: Callable[[Mapping[str, Any]], Any] | None, shared: Mapping[str, Any]
    ) -> None:
        self.prepared = () if setup is None else (setup(fetched(shared)),)

    def ready(self) -> None:
        """Return once there is room for the process and all is prepared."""

    def call(self, fn: Callable[..., Any], item: Any) -> Any:
        try:
            return fn(*self.prepared, item)
        except torch.AcceleratorError:  # no GPU serves a process after that
            traceback.print_exc()
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]


def process(
    resources: Mapping[str, float],
    setup: Callable[[Mapping[str, Any]], Any] | None,
    shared: Mapping[str, Any],
) -> Any:
    """Start a process that holds resources, once a node has them."""
    named = dict(resources)
    actor: Any = ray.remote(
        num_cpus=named.pop("CPU", 0),
        num_gpus=named.pop("GPU", 0),
        resources=named,
    )(_Process)
    return actor.remote(setup, shared)


def spread(
    start: Callable[[], Any], count: int, fn: Callable[..., Any], items: Sequence[Any]
) -> Iterator[Any]:
    """Yield what processes make of the items, in order; each takes the next one when it is free.

    Args:
        start: starts a process.
        count: of processes.
        fn: is called with what a process prepared, if it did, and an item.
        items: at least one.

    Raises:
        RayError: an item met too many losses, or as many processes could not be prepared.
        Exception: what a call raised.
    """
    processes: list[Any] = []
    idle: list[Any] = []
    under_way: dict[ray.ObjectRef[Any], tuple[Any, int | None]] = {}
    waiting, done = list(reversed(range(len(items)))), dict[int, Any]()
    losses = Counter[int | None]()

    def bring() -> None:
        processes.append(start())
        under_way[processes[-1].ready.remote()] = processes[-1], None

    def take_in() -> None:
        (reference,), _ = ray.wait(list(under_way), num_returns=1)
        process, index = under_way.pop(reference)
        try:
            result = ray.get(reference)
        except LOST:
            losses[index] += 1
            if losses[index] > MOST_LOSSES + count:
                raise
            if index is not None:
                waiting.append(index)
            bring()
        else:
            if index is not None:
                done[index] = result
            idle.append(process)
        while waiting and idle:
            process, index = idle.pop(), waiting.pop()
            under_way[process.call.remote(fn, items[index])] = process, index

    try:
        for _ in range(count):
            bring()
        for index in range(len(items)):
            while index not in done:
                take_in()
            yield done.pop(index)
    finally:
        for process in processes:
            ray.kill(process)


def fetched(shared: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch shared values: arrays come as read-only views of the node's object store."""
    return {
        key: ray.get(value) if isinstance(value, ray.ObjectRef) else value
        for key, value in shared.items()
    }


@cache
def fetched_once(reference: ray.ObjectRef[Any]) -> Any:
    """Fetch a value that this process, which may serve many trials, keeps."""
    return ray.get(reference)
