"""What executors run, and what it asks of the machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from workers.errors import InputError

Row = dict[str, Any]
"""A report of a trial: its id under `trial`, and numbers; `outcome` or `error` in the last."""


class Work(Protocol):
    """A function that an executor calls on the processes that it owns."""

    def __call__(
        self,
        trial: Any,
        shared: Mapping[str, Any],
        report: Callable[[Row], None],
        device: torch.device,
    ) -> None:
        """Run a trial; report a row for each step."""
        ...


@dataclass(frozen=True)
class Resources:
    """What work asks of the cluster.

    Pretraining runs on `workers`, a trial on `trial_workers`, each with these CPUs (also its
    thread count) and GPUs. What computes alone may share a GPU; workers that train together have a
    whole one each, since NCCL allows one of them on it. Lost workers and trials are retried
    `max_failures` times. Of a supernet in training every worker holds the whole (`ddp`) or a part
    (`fsdp`). With `sync_batch_norm`, on GPUs only, batch norms in training normalise by the batch
    of all workers.
    """

    workers: int = 1
    trial_workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    max_concurrent_trials: int | None = None
    max_failures: int = 2
    sharding: Literal["ddp", "fsdp"] = "ddp"
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        """Refuse amounts that cannot be."""
        for name in ("workers", "trial_workers", "cpus_per_worker", "max_concurrent_trials"):
            amount = getattr(self, name)
            if amount is not None and amount < 1:
                raise ValueError(f"{name}: {amount} is below 1")
        for name in ("gpus_per_worker", "max_failures"):
            check_amount(name, getattr(self, name))
        if self.sync_batch_norm and not self.gpus_per_worker:
            raise ValueError("sync_batch_norm: True needs GPUs, but gpus_per_worker is 0")

    def per_worker(self, together: int = 1) -> dict[str, float]:
        """Return what each of the workers that train together asks for, in Ray's names."""
        gpus = self.gpus_per_worker if together == 1 else math.ceil(self.gpus_per_worker)
        return {"CPU": float(self.cpus_per_worker)} | ({"GPU": float(gpus)} if gpus else {})


def check_amount(key: str, amount: float) -> None:
    """Refuse an amount of a resource that Ray does.

    Raises:
        ValueError: it is negative, or above 1 and not whole; names the key.
    """
    if amount < 0:
        raise ValueError(f"{key}: {amount} is negative")
    if amount > 1 and not float(amount).is_integer():
        raise ValueError(f"{key}: {amount} is neither a part of one nor whole")


class ResourceError(InputError):
    """What a study asks for can never be had here; one line that names the key."""


def slots(asked: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> int:
    """Return how many workers that each ask for this fit the nodes at once."""
    return sum(
        min(math.floor(node.get(kind, 0) / amount + 1e-9) for kind, amount in asked.items())
        for node in nodes
    )


def check_fits(
    resources: Resources, target: Mapping[str, float], nodes: Sequence[Mapping[str, float]]
) -> None:
    """Refuse a study that would wait for ever.

    Args:
        resources: what pretraining and trials ask for.
        target: what the latency probe asks of one node.
        nodes: what each node of the cluster has.

    Raises:
        ResourceError: names the key, what it asks for and what there is.
    """
    for key in ("workers", "trial_workers"):
        count = getattr(resources, key)
        asked = resources.per_worker(count)
        fit = slots(asked, nodes)
        if count > fit:
            raise ResourceError(
                f"resources.{key}: {count} x {_shown(asked, asked)} cannot run at once;"
                f" the cluster holds {fit} (it has {_seen(nodes, asked)})"
            )
    if target and not slots(target, nodes):
        raise ResourceError(
            f"latency: no node has the {_shown(target, target)} that latency.resources, or"
            f" latency.threads, asks for (the cluster has {_seen(nodes, target)})"
        )


def _seen(nodes: Sequence[Mapping[str, float]], kinds: Mapping[str, float]) -> str:
    return " + ".join(_shown(node, kinds) for node in nodes) or "no node"


def _shown(resources: Mapping[str, float], kinds: Mapping[str, float]) -> str:
    return ", ".join(f"{resources.get(kind, 0):g} {kind}" for kind in kinds)
