"""A study under way: what its stages and trials share, and running trials to their end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cost_models.latency_table import LatencyTable
from orchestrator import publish
from orchestrator.config import StudyConfig
from orchestrator.results import Results
from orchestrator.telemetry import Telemetry
from orchestrator.view import View
from search_spaces.base import SearchSpace, digest
from workers.datasets import Data, to_arrays
from workers.errors import InputError
from workers.executors.kept import KeptPredictions
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.executors.work import Row
from workers.methods import METHODS
from workers.protocol import Method
from workers.storage import Storage
from workers.trial import Trial, as_arrays, from_bytes, load_data, make_predictor
from workers.trial import run as run_trial

SUPERNET = "supernet.pt"
REPORT = "report.html"


@dataclass
class Run:
    """A study under way; `table` and `shared` fill up as the stages pass."""

    config: StudyConfig
    storage: Storage
    results: Results
    executor: Serial | RayCluster
    view: View
    space: SearchSpace
    attempt: int
    telemetry: Telemetry
    table: LatencyTable | None = None
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        """The study's method."""
        return METHODS[self.config.method["name"]]

    def trial(self, trial_id: str, stage: Any, **more: Any) -> Trial:
        """Return a trial of this study and attempt."""
        study, root = self.config.as_dict(), self.storage.root
        return Trial(id=trial_id, stage=stage, study=study, root=root, attempt=self.attempt, **more)

    def folder(self, name: str) -> str:
        """Return where Ray keeps its own files of this attempt."""
        return self.storage.name(f"tune/{name}-{self.attempt:04d}")


class Rows:
    """Receives a stage's rows: shows them, publishes outcomes, remembers failures.

    An error of the driver's own (a full disk, say) is kept until `check`, since Tune would bury
    it in one of its own.
    """

    def __init__(
        self, run: Run, trials: Sequence[Trial], end: Callable[[Trial, Mapping[str, Any]], None]
    ) -> None:
        self.run, self.end = run, end
        self.trials = {trial.id: trial for trial in trials}
        self.failures: dict[str, str] = {}
        self.error: Exception | None = None
        run.telemetry.trials(trials[0].stage, self.trials)

    def __call__(self, row: Row) -> None:
        """Take a row in."""
        trial = self.trials[row["trial"]]
        self.run.view.row(row)
        self.run.telemetry.row(row)
        try:
            if "error" in row:
                self.failures[trial.id] = row["error"]
                publish.failure(self.run.storage, trial, row["error"])
            elif "outcome" in row:
                data = self.run.storage.read_bytes(row["outcome"])
                self.end(trial, from_bytes(data, self.run.storage.name(row["outcome"])))
                publish.success(self.run.storage, trial)
                for path in (row["outcome"], *trial.checkpoints(self.run.storage)):
                    self.run.storage.delete(path)
        except Exception as error:
            self.error = self.error or error

    def check(self) -> None:
        """Raise the first error of the driver's own, if there was one."""
        if self.error is not None:
            raise self.error


def run_trials(
    run: Run,
    trials: Sequence[Trial],
    end: Callable[[Trial, Mapping[str, Any]], None],
    time_budget_s: float | None = None,
) -> dict[str, str]:
    """Run trials and return the reasons of those that failed."""
    if not trials:
        return {}
    run.storage.delete(REPORT)  # it will not show what comes now
    for trial in trials:
        publish.check_checkpoint(run.storage, trial)
    rows = Rows(run, trials, end)
    stage = trials[0].stage
    shared = shared_values(run, start=stage == "search")
    run.executor.run_trials(
        run_trial, trials, shared, rows, time_budget_s, run.folder(f"{stage}-{trials[0].id}")
    )
    rows.check()
    for trial_id, reason in rows.failures.items():
        run.view.note(f"{stage}: {trial_id} failed: {reason}")
    return rows.failures


def start_predictor(run: Run, until_end: ExitStack) -> None:
    """Start what the trials of a search predict with, where its method has that, once."""
    if run.method.predictor is None or "predict" in run.shared:
        return
    predictor = run.executor.predictor(
        partial(make_predictor, run.trial("predictor", "search")),
        shared_values(run, start=True),
        key=partial(digest, run.space),
        keep=partial(KeptPredictions, run.storage.root, _origin(run), run.attempt),
    )
    run.shared["predict"] = until_end.enter_context(predictor)
    until_end.callback(run.shared.pop, "predict")


def _origin(run: Run) -> str:
    """Return digits that tell apart what predictions depend on, beside the network."""
    study = run.config.as_dict()
    about = [study[key] for key in ("dataset", "proxy", "seed")]
    about += [study["method"].get(key) for key in run.method.predicts_by]
    digits = hashlib.sha256(run.storage.read_bytes(SUPERNET))
    digits.update(json.dumps(about, sort_keys=True).encode())
    return digits.hexdigest()[:12]


def shared_values(run: Run, *, start: bool) -> dict[str, Any]:
    """Return what trials read, each value put into the object store once."""
    if "data" not in run.shared:
        data = _data(run.config)
        publish.labels(run.results, run.config, data)
        arrays = to_arrays(data)
        table = None if run.table is None else run.table.to_bytes()
        run.shared |= {
            "data": None if arrays is None else run.executor.share(arrays),
            "table": table,
        }
    if start and "start" not in run.shared and run.storage.exists(SUPERNET):
        state = from_bytes(run.storage.read_bytes(SUPERNET), run.storage.name(SUPERNET))
        run.shared["start"] = run.executor.share(as_arrays(state))
    return {**run.shared, "start": run.shared.get("start") if start else None}


def _data(config: StudyConfig) -> Data:
    try:
        return load_data(config.as_dict(), None)
    except ValueError as error:
        raise InputError(str(error)) from error
