"""The project's metrics on Ray's Prometheus endpoint; in a process without Ray they go nowhere.

Prometheus sees them under `ray_` and their name, beside Ray's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import ray
from ray.util.metrics import Gauge

from workers.executors.work import Row
from workers.trial_tags import NAMES, current_tags


@dataclass(frozen=True)
class Metric:
    """What a number means, and the names of the tags that it has."""

    meaning: str
    tags: tuple[str, ...]


METRICS: Mapping[str, Metric] = {
    "paretoray_trials": Metric(
        "Trials of a stage that are queued, running, done or failed", ("study", "stage", "state")
    ),
    "paretoray_candidates_per_minute": Metric(
        "Candidates whose rows were written, over the last five minutes", ("study",)
    ),
    "paretoray_hypervolume": Metric(
        "Hypervolume of all candidates so far: validation error times cost, up to an error of 1"
        " and the greatest cost so far",
        ("study", "cost"),
    ),
    "paretoray_trial_progress": Metric("Share of a trial's steps that are done", NAMES),
    "paretoray_trial_metric": Metric("A number of a trial's last step", (*NAMES, "metric")),
}


def record(name: str, value: float, tags: Mapping[str, str]) -> None:
    """Set one of the `METRICS`, of these tags, to a value."""
    if ray.is_initialized():
        _gauge(name).set(value, dict(tags))


def metered(report: Callable[[Row], None]) -> Callable[[Row], None]:
    """Return a `report` that also sets the metrics of the trial that runs in this process."""

    def tell(row: Row) -> None:
        report(row)
        tags = current_tags()
        if tags and "steps" in row:
            record("paretoray_trial_progress", row["step"] / row["steps"], tags)
            for name, value in row.items():
                if name not in ("step", "steps") and isinstance(value, int | float):
                    record("paretoray_trial_metric", value, {**tags, "metric": name})

    return tell


@cache
def _gauge(name: str) -> Gauge:
    return Gauge(name, METRICS[name].meaning, METRICS[name].tags)
