"""Evaluators of networks on a Ray cluster, which the trials of a search share.

A desk takes requests from all trials, hands networks that nobody asked for before to the next idle
process, one by one, and keeps the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError

from search_spaces.base import Architecture
from workers.executors.kept import KeptPredictions
from workers.executors.ray_processes import LOST, MOST_LOSSES
from workers.protocol import Predict


class Desk:
    """An actor that answers the trials' requests, many at a time; it computes nothing itself.

    Args:
        start: starts a process of `ray_processes`, prepared with a `Predict`.
        count: of processes.
        key: tells networks apart.
        keep: opens what was evaluated before.
    """

    def __init__(
        self,
        start: Callable[[], Any],
        count: int,
        key: Callable[[Architecture], str],
        keep: Callable[[], KeptPredictions],
    ) -> None:
        self._key, self._keep = key, keep
        self._kept: KeptPredictions | None = None
        self._under_way: dict[str, asyncio.Future[torch.Tensor]] = {}
        self._start, self._count = start, count
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        self._starting: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Read what was evaluated before, and start the processes.

        Raises:
            DamagedError: a file of it is damaged.
        """
        if self._kept is None:
            self._kept = self._keep()
            for _ in range(self._count):
                self._bring()

    async def predict(self, architectures: Sequence[Architecture]) -> list[torch.Tensor]:
        """Return each network's predicted classes; equal networks are evaluated once.

        Raises:
            Exception: the first failure among these networks; the others are kept.
        """
        await self.open()
        assert self._kept is not None
        keys = [self._key(architecture) for architecture in architectures]
        own = {}
        for key, architecture in zip(keys, architectures, strict=True):
            if key not in self._kept and key not in self._under_way:
                self._under_way[key] = asyncio.ensure_future(self._evaluate(architecture))
                own[key] = self._under_way[key]
        asked = {key: self._under_way[key] for key in keys if key in self._under_way}
        if asked:
            await asyncio.wait(asked.values())
        self._kept.add({key: task.result() for key, task in own.items() if not task.exception()})
        for key in own:
            del self._under_way[key]
        return [asked[key].result() if key in asked else self._kept[key] for key in keys]

    async def _evaluate(self, architecture: Architecture) -> torch.Tensor:
        losses = 0
        while True:
            process = await self._idle.get()
            try:
                predicted_N: torch.Tensor = await process.call.remote(_first, [architecture])
            except LOST:
                self._bring()
                losses += 1
                if losses > MOST_LOSSES + self._count:
                    raise
            except Exception:
                self._idle.put_nowait(process)
                raise
            else:
                self._idle.put_nowait(process)
                return predicted_N

    def _bring(self) -> None:
        """Start a process, which is called once there is room for it."""
        task = asyncio.ensure_future(self._started(self._start()))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _started(self, process: Any) -> None:
        with suppress(Exception):  # whoever calls it will hear of it
            await process.ready.remote()
        self._idle.put_nowait(process)


class AskingDesk:
    """A predictor that asks the desk; it travels to the trials."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def __call__(self, architectures: Sequence[Architecture]) -> list[torch.Tensor]:
        """Return each network's predicted classes."""
        predictions: list[torch.Tensor] = answer(self._desk.predict.remote(list(architectures)))
        return predictions


def answer(reference: Any) -> Any:
    """Return what a call returned.

    Raises:
        Exception: what the call raised, not Ray's report of it.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause: BaseException = error
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        raise cause from None


def _first(predict: Predict, architectures: Sequence[Architecture]) -> torch.Tensor:
    return predict(architectures)[0]
