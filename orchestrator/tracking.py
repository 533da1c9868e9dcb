"""MLflow: one run per study and, below it, one per candidate, written from the results tables.

While a study runs, a thread follows what it writes. Syncing at its end, or again, changes nothing
that is there, leaves no run open and removes runs of candidates that are gone, so a study that was
interrupted and resumed looks like one that was not. The results in the study's directory are the
truth; MLflow shows a copy.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import matplotlib.figure
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from orchestrator.loading import MOST_SHOWN, Study, stored_config
from orchestrator.pareto import hypervolume, objectives, reference_point
from orchestrator.results import Record, Results
from orchestrator.table_files import part_of
from orchestrator.tracking_target import Target, client_of, experiment_of, locate, reach
from workers.storage import Storage

STUDY_ID, CANDIDATE, FRONT = "paretoray.study_id", "paretoray.candidate", "paretoray.front"
NO_FRONT = "none yet"  # under FRONT
WRITTEN = "paretoray.written"  # a digest of what a candidate's run shows
PARENT = "mlflow.parentRunId"
ID_FILE = "mlflow_id"  # moves with the directory, so a moved study keeps its runs
BATCH = 800  # metrics in one call; MLflow takes 1,000 of metrics, parameters and tags
FOLLOW_EVERY_S = 5.0
STAGES = ("search", "finish", "fuse")  # of a candidate's trials
_TAGS = ("stage", "preset", "digest", "on_front", "latency_device", "latency_backend")
_NOT_METRICS = ("seed", "on_front")
_TABLE_COLUMNS = ("candidate", "val_accuracy", "test_accuracy", "cost", "latency_ms", "macs", "nfr")


def sync(study: Study, uri: str | None = None) -> str | None:
    """Bring MLflow up to date with a study; the study itself does not depend on it.

    Args:
        study: as loaded from its directory, its front decided.
        uri: tracking server or database; default: `MLFLOW_TRACKING_URI`, else `mlflow.db` beside
            the study's directory.

    Returns:
        A line that says why MLflow could not be brought up to date, or None.
    """
    try:
        target = locate(study.directory, uri)
        reach(target.uri)
        _sync(study, target)
    except Exception as error:  # whatever ails a tracking server, the results are safe
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        return f"MLflow was not updated: {reason} (the results in {study.directory} are complete)"
    return None


@contextmanager
def following(directory: str, uri: str | None = None) -> Iterator[None]:
    """Write, in a thread, the runs of a study's candidates as they come; `sync` completes them.

    What cannot be written is left to `sync`, which says why.
    """
    ended = Event()
    thread = Thread(target=_follow, args=(directory, uri, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sync(study: Study, target: Target) -> None:
    client, storage = client_of(target), Storage(study.directory)
    experiment, study_id = experiment_of(client, target), _study_id(storage)
    writer = _Writer(client, experiment, study_id, study, storage, _histories(study))
    runs = _runs(client, experiment, study_id)
    parent = writer.parent(runs.pop(None, None))
    for record in study.records:
        writer.candidate(record, runs.pop(record["candidate"], None), parent)
    for orphan in runs.values():
        client.delete_run(orphan.info.run_id)
    writer.finish(parent)


def _follow(directory: str, uri: str | None, ended: Event) -> None:
    with suppress(Exception):
        target = locate(directory, uri)
        reach(target.uri)
        client, storage = client_of(target), Storage(directory)
        experiment, study_id = experiment_of(client, target), _study_id(storage)
        runs = _runs(client, experiment, study_id)
        results, config = Results(storage), stored_config(storage)
        known: dict[str, float] = {}
        pause_s = FOLLOW_EVERY_S
        while not ended.wait(pause_s):
            started = time.monotonic()
            written = storage.written_at("results/candidates")
            changed = {part_of(path) for path, _ in written.items() - known.items()}
            known = written
            if len(known) > MOST_SHOWN:  # which candidates are shown is known at the end
                return
            study = _excerpt(directory, config, results, changed)
            writer = _Writer(client, experiment, study_id, study, storage, _histories(study))
            parent = runs.get(None) or writer.begun()
            runs[None] = parent
            for record in study.records:
                if ended.is_set():
                    return
                name = record["candidate"]
                runs[name] = writer.candidate(record, runs.get(name), parent)
            pause_s = max(FOLLOW_EVERY_S, time.monotonic() - started)  # half of the time at most


def _excerpt(
    directory: str, config: Mapping[str, Any], results: Results, candidates: Collection[str]
) -> Study:
    """Return a study with these candidates and their history alone."""
    unread: list[str] = []
    records = results.candidates(unread, names=candidates)
    trials = {trial for record in records for trial in _trials(record)}
    parts = [f"{stage}-{trial}" for stage in STAGES for trial in trials]
    tables = {"history": results.read("history", unread, parts=parts)}
    return Study(directory, config, records, tables, unread)


@dataclass(frozen=True)
class _Writer:
    client: MlflowClient
    experiment: str
    study_id: str
    study: Study
    storage: Storage
    histories: Mapping[str, Sequence[Metric]]

    def parent(self, run: Run | None) -> Run:
        """Return the study's own run; one whose front changed, or is incomplete, is made anew."""
        if run is not None:
            if run.data.tags.get(FRONT) in (NO_FRONT, _front_digest(self.study)):
                return run
            self.client.delete_run(run.info.run_id)  # a logged curve cannot shrink
        return self.begun()

    def begun(self) -> Run:
        """Return a new run of the study's own, without a front."""
        tags = {STUDY_ID: self.study_id, FRONT: NO_FRONT}
        return self.client.create_run(self.experiment, None, tags, self.study.name)

    def candidate(self, record: Record, run: Run | None, parent: Run) -> Run:
        """Write a candidate's parameters, metrics, tags and files, and end its run.

        A run that shows all this is left alone. Of two values at one step MLflow shows the larger:
        where a number is another one than before, the run is made anew. Returns the run, its
        metrics and its tag `WRITTEN` up to date.
        """
        curves = [point for trial in _trials(record) for point in self.histories.get(trial, ())]
        written = _digest([record, len(curves), parent.info.run_id])
        if run is not None and run.data.tags.get(WRITTEN) == written:
            return run
        numbers = {
            key: float(value)
            for key, value in record.items()
            if isinstance(value, int | float) and key not in _NOT_METRICS
        }
        if run is not None and _shows_others(run, numbers):
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None:
            run = self.created(record)
        run_id, when = run.info.run_id, run.info.start_time
        metrics = [Metric(key, value, when, 0) for key, value in numbers.items()] + curves
        self.client.log_dict(run_id, record["architecture"], "architecture.json")
        for path in self.storage.list(f"models/{record['candidate']}"):
            self.file(run_id, path, "model")
        self.client.set_terminated(run_id, "FINISHED", when + _milliseconds(record))
        about = {key: record[key] for key in ("study", "method", "seed")} | record["params"]
        tags = {key: record[key] for key in _TAGS if record[key] is not None}
        tags |= {PARENT: parent.info.run_id, WRITTEN: written}
        while len(metrics) > BATCH:
            self.client.log_batch(run_id, metrics=metrics[-BATCH:])
            del metrics[-BATCH:]
        # Last, as it has WRITTEN: what was cut off before is written again.
        self.client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(key, str(value)) for key, value in about.items()],
            tags=[RunTag(key, str(value)) for key, value in tags.items()],
        )
        run.data.metrics.update(numbers)
        run.data.tags[WRITTEN] = written
        return run

    def created(self, record: Record) -> Run:
        """Return a candidate's new run, without anything yet."""
        # As if its trials had just ended; the run keeps this start, so that syncing again adds
        # nothing.
        started = round(1000 * time.time()) - _milliseconds(record)
        tags = {STUDY_ID: self.study_id, CANDIDATE: record["candidate"]}
        name = f"{record['study']}/{record['candidate']}"
        return self.client.create_run(self.experiment, started, tags, name)

    def finish(self, parent: Run) -> None:
        """Write the front, the data set and the files of the study, and end its run."""
        run_id = parent.info.run_id
        if parent.data.tags[FRONT] == NO_FRONT:
            self.client.delete_tag(run_id, FRONT)  # a run that is left half written is made anew
            self.front(run_id, parent.info.start_time)
            labels = self.study.labels()
            if labels is not None:
                self.client.log_inputs(run_id, [_dataset(self.study, labels.tobytes())])
            params = [Param(key, value[:500]) for key, value in _flat(self.study.config)]
            self.client.log_batch(run_id, params=params)
            self.client.set_tag(run_id, FRONT, _front_digest(self.study))
        self.file(run_id, "study.yaml", None)
        if parent.info.status != "FINISHED":
            self.client.set_terminated(run_id, "FINISHED")

    def front(self, run_id: str, when: int) -> None:
        """Write the front as numbers, curve, table and figure."""
        front = self.study.front()
        if not front:
            return
        points = objectives(front)
        reference = reference_point(points)
        numbers = {
            "front/hypervolume": hypervolume(points, reference),
            "front/reference_error": reference[0],
            "front/reference_cost": reference[1],
            "front/size": len(front),
            "front/best_val_accuracy": 1 - points[:, 0].min(),
        }
        metrics = [Metric(key, float(value), when, 0) for key, value in numbers.items()]
        self.client.log_batch(run_id, metrics=[*metrics, *_curve(self.study, when)])
        # MLflow looks for images in it, which pandas' text columns make it warn about.
        table = pd.DataFrame(front, columns=list(_TABLE_COLUMNS), dtype=object)
        self.client.log_table(run_id, table, "front.json")
        self.client.log_figure(run_id, front_figure(self.study), "front.png")

    def file(self, run_id: str, path: str, folder: str | None) -> None:
        """Copy one of the study's files to a run's artifacts."""
        local = self.storage.local_path(path)
        if local is not None:
            self.client.log_artifact(run_id, str(local), folder)
            return
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / path.rsplit("/", 1)[-1]
            copy.write_bytes(self.storage.read_bytes(path))
            self.client.log_artifact(run_id, str(copy), folder)


def _study_id(storage: Storage) -> str:
    if not storage.exists(ID_FILE):
        storage.write_bytes(ID_FILE, uuid.uuid4().hex.encode())
    return storage.read_bytes(ID_FILE).decode()


def _runs(client: MlflowClient, experiment: str, study_id: str) -> dict[str | None, Run]:
    """Return the study's runs by candidate; the study's own is under None."""
    runs: dict[str | None, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{STUDY_ID}` = '{study_id}'", page_token=token
        )
        for run in page:
            runs[run.data.tags.get(CANDIDATE)] = run
        token = page.token
        if not token:
            return runs


def _shows_others(run: Run, numbers: Mapping[str, float]) -> bool:
    return any(numbers.get(key, value) != value for key, value in run.data.metrics.items())


def _trials(record: Record) -> list[str]:
    """Return the trials whose history a candidate's run shows."""
    return sorted({record["trial"], record["candidate"]} - {None})


def _histories(study: Study) -> dict[str, list[Metric]]:
    histories: dict[str, list[Metric]] = {}
    for row in study.tables["history"].to_pylist():
        # The step stands for the time, too: an equal point that is logged again is dropped.
        step = row["step"]
        metric = Metric(f"{row['stage']}/{row['metric']}", row["value"], step, step)
        histories.setdefault(row["trial"], []).append(metric)
    return histories


def _curve(study: Study, when: int) -> Iterator[Metric]:
    """Yield accuracy over cost: steps are whole numbers, so latency counts in microseconds."""
    latency = study.cost_name == "latency_ms"
    key = "front/accuracy" if latency else f"front/accuracy_by_{study.cost_name}"
    for record in study.front():
        step = round(record["cost"] * (1000 if latency else 1))
        yield Metric(key, record["val_accuracy"], when, step)


def front_figure(study: Study) -> matplotlib.figure.Figure:
    """Return the front and the other finished candidates, error against cost."""
    figure = matplotlib.figure.Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for records, style in ((study.finished(), "o"), (study.front(), "o-")):
        error, cost = 100 * objectives(records)[:, 0], objectives(records)[:, 1]
        axes.plot(cost, error, style, color="#2a6f97" if style == "o-" else "#b8c4cc")
    axes.set(title=study.name, xlabel=study.cost_name, ylabel="validation error (%)")
    axes.grid(alpha=0.3)
    return figure


def _dataset(study: Study, labels: bytes) -> DatasetInput:
    dataset = Dataset(
        name=study.config["dataset"]["name"],
        digest=hashlib.sha256(labels).hexdigest()[:12],
        source_type="local",
        source=json.dumps(study.config["dataset"]),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "search and validation")])


def _front_digest(study: Study) -> str:
    shown = [
        [r["candidate"], r["val_accuracy"], r["test_accuracy"], r["cost"]] for r in study.front()
    ]
    return _digest(shown)


def _digest(shown: Any) -> str:
    return hashlib.sha256(json.dumps(shown, default=str).encode()).hexdigest()[:12]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _milliseconds(record: Record) -> int:
    return round(1000 * (record["wall_s"] or 0))
