"""How a study goes, for Ray's metrics: trials by state, candidates per minute, hypervolume."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from orchestrator.pareto import Points, hypervolume, objectives, pareto_front
from workers.executors.ray_metrics import record
from workers.executors.work import Row

STATES = ("queued", "running", "done", "failed")
WINDOW_S = 300.0  # over which candidates per minute are counted


class Telemetry:
    """Tells Ray's metrics how a study goes; it is told, and asks nothing.

    Args:
        study: its name.
        cost: the name of its cost.
        known_N2: error and cost of the candidates that are there.
    """

    def __init__(self, study: str, cost: str, known_N2: Points) -> None:
        self._study, self._cost = {"study": study}, {"study": study, "cost": cost}
        self._stage: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._names: set[str] = set()
        self._times: deque[float] = deque()
        self._started = time.monotonic()
        self._front_F2 = np.empty((0, 2))
        self._greatest = 0.0
        self._add(known_N2)

    def trials(self, stage: str, trials: Iterable[str]) -> None:
        """Count trials that are about to run; a stage may have several batches of them."""
        if self._stage.get("stage") != stage:
            self._stage, self._states = {**self._study, "stage": stage}, {}
        self._states |= dict.fromkeys(trials, "queued")
        self._tell_states()

    def row(self, row: Row) -> None:
        """Count a trial's report; the one with an outcome or an error ends it."""
        ended = "done" if "outcome" in row else "failed" if "error" in row else None
        self._states[row["trial"]] = ended or "running"
        self._tell_states()
        self._tell_rate()

    def candidate(self, row: Mapping[str, Any]) -> None:
        """Count a candidate whose row was written; a row may be written again."""
        if row["candidate"] not in self._names:
            self._names.add(row["candidate"])
            self._times.append(time.monotonic())
            self._tell_rate()
        self._add(objectives([{key: row.get(key) for key in ("val_accuracy", "cost")}]))

    def _tell_states(self) -> None:
        counts = Counter(self._states.values())
        for state in STATES:
            record("paretoray_trials", counts[state], {**self._stage, "state": state})

    def _tell_rate(self) -> None:
        now = time.monotonic()
        while self._times and self._times[0] < now - WINDOW_S:
            self._times.popleft()
        # A rate over the first seconds would say little.
        minutes = min(max(now - self._started, 60.0), WINDOW_S) / 60
        record("paretoray_candidates_per_minute", len(self._times) / minutes, self._study)

    def _add(self, points_N2: Points) -> None:
        known_N2 = points_N2[~np.isnan(points_N2).any(axis=1)]
        if not len(known_N2):
            return
        self._greatest = max(self._greatest, float(known_N2[:, 1].max()))
        points_N2 = np.concatenate((self._front_F2, known_N2))
        self._front_F2 = points_N2[pareto_front(points_N2)]
        volume = hypervolume(self._front_F2, (1.0, self._greatest))
        record("paretoray_hypervolume", volume, self._cost)
