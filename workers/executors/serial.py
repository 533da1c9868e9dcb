"""Everything in this process, one thing after another: for tests and debuggers.

An exception of a trial is not caught: it stops the study where it arose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from search_spaces.base import Architecture
from workers.executors.kept import KeptPredictions, Remembering
from workers.executors.work import Resources, Row, Work
from workers.protocol import Predict

Item = TypeVar("Item")
Result = TypeVar("Result")


class Serial:
    """The executor without Ray; the device is the first GPU if the work asks for one."""

    name = "serial"

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def blind_nodes(self, path: Path) -> list[str]:
        """Return no node: there is this machine alone."""
        return []

    def share(self, value: Any) -> Any:
        """Return the value: there is one process."""
        return value

    def map(
        self,
        fn: Callable[..., Result],
        items: Sequence[Item],
        *,
        setup: Callable[[Mapping[str, Any]], Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[Result]:
        """Yield fn(item) in order; with `setup`, fn(setup(shared), item), set up once."""
        if setup is None:
            yield from (fn(item) for item in items)
        elif items:
            prepared = setup(shared or {})
            yield from (fn(prepared, item) for item in items)

    @contextmanager
    def predictor(
        self,
        make: Callable[[Mapping[str, Any]], Predict],
        shared: Mapping[str, Any],
        *,
        key: Callable[[Architecture], str],
        keep: Callable[[], KeptPredictions],
    ) -> Iterator[Predict]:
        """Yield a predictor that trials share, in this process; see `RayCluster.predictor`."""
        yield Remembering(make(shared), key, keep())

    def run_trials(
        self,
        work: Work,
        trials: Sequence[Any],
        shared: Mapping[str, Any],
        on_row: Callable[[Row], None],
        time_budget_s: float | None = None,
        folder: str = "",
    ) -> None:
        """Run trials one by one; those that do not start within the time budget are left out."""
        started = time.monotonic()
        for trial in trials:
            if time_budget_s is not None and time.monotonic() - started > time_budget_s:
                return
            work(trial, shared, on_row, self._device())

    def train_sharded(
        self,
        work: Work,
        trial: Any,
        shared: Mapping[str, Any],
        on_row: Callable[[Row], None],
        folder: str = "",
    ) -> None:
        """Run a pretraining in this one process."""
        work(trial, shared, on_row, self._device())

    def _device(self) -> torch.device:
        use_gpu = self.resources.gpus_per_worker > 0 and torch.cuda.is_available()
        return torch.device("cuda" if use_gpu else "cpu")
