"""Long-lived processes on a Ray cluster, which keep what they need to answer calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import ray


class _Process:
    """A process that keeps what `setup` made and calls functions with it."""

    def __init__(
        self, setup: Callable[[Mapping[str, Any]], Any] | None, shared: Mapping[str, Any]
    ) -> None:
        self.prepared = () if setup is None else (setup(fetched(shared)),)

    def call(self, fn: Callable[..., Any], item: Any) -> Any:
        return fn(*self.prepared, item)


def process_of(resources: Mapping[str, float]) -> Any:
    """Return what starts such processes; one that is lost is replaced, and its call repeated."""
    named = dict(resources)
    return ray.remote(
        num_cpus=named.pop("CPU", 0),
        num_gpus=named.pop("GPU", 0),
        resources=named,
        max_restarts=2,
        max_task_retries=2,
    )(_Process)


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
