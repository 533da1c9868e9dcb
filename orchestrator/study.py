"""The stages of a study: measure, pretrain, search, select, finish, fuse, report.

Each leaves files in the study's directory and is skipped when they are there, so running a study
again resumes it. Only the driver writes results, and only one driver may hold a directory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from orchestrator import publish, sweep, tracking
from orchestrator.compaction import drop_replaced
from orchestrator.config import StudyConfig
from orchestrator.directory import adopt, check_shared, claimed, next_attempt
from orchestrator.fusing import fusions, is_fused, whole
from orchestrator.latencies import block_latencies
from orchestrator.loading import load, shown
from orchestrator.pareto import column_objectives, objectives, pareto_front
from orchestrator.products import write_products
from orchestrator.report import render
from orchestrator.results import SCHEMAS, Record, Results
from orchestrator.telemetry import Telemetry
from orchestrator.under_way import (
    REPORT,
    SUPERNET,
    Rows,
    Run,
    run_trials,
    shared_values,
    start_predictor,
)
from orchestrator.view import View
from workers.errors import RunError
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.storage import DamagedError, Storage
from workers.trial import (
    Trial,
    build_space,
    inherited_path,
    to_bytes,
)
from workers.trial import run as run_trial

SELECTION = "selection.json"
POINTS = "points"  # a file for each batch, named by its first one


def run_study(
    config: StudyConfig, directory: str, executor: Serial | RayCluster, view: View
) -> None:
    """Run a study, or resume it, in its directory.

    Raises:
        InputError: the directory holds another study, another driver holds it, or some nodes do not
            see it.
        RunError: a stage failed; what was finished before stands.
        StorageError: a file cannot be written.
    """
    storage = Storage(directory)
    with claimed(storage, view.note):
        check_shared(storage, executor.blind_nodes)
        storage.sweep()
        adopt(config, storage)
        space = build_space(config.as_dict())
        known = Results(storage).read("candidates", [], columns=("val_accuracy", "cost"))
        telemetry = Telemetry(config.study, config.cost, column_objectives(known))
        run = Run(
            config=config,
            storage=storage,
            results=Results(storage, told=telemetry.candidate),
            executor=executor,
            view=view,
            space=space,
            attempt=next_attempt(storage),
            telemetry=telemetry,
        )
        for files in run.results.files.values():
            drop_replaced(files)
        with tracking.following(storage.root):
            for stage in (measure, pretrain, search, select, finish, fuse):
                stage(run)
        report(run)


def measure(run: Run) -> None:
    """Measure every block of the space on the target, unless a table is given or there."""
    if run.config.cost != "latency_ms":
        return
    latency = run.config.latency
    run.table = block_latencies(latency, run.storage, run.executor, run.view, run.space)


def pretrain(run: Run) -> None:
    """Train the supernet once, sharded over the workers; every trial starts from it."""
    if run.method.pretrain is None or run.storage.exists(SUPERNET):
        return
    run.view.stage("pretrain", f"{run.config.resources.workers} worker(s)")
    trial = run.trial("supernet", "pretrain")

    def end(_: Trial, outcome: Mapping[str, Any]) -> None:
        publish.history(run.results, run.config, trial, outcome)
        run.storage.write_bytes(SUPERNET, to_bytes(outcome["state"]))

    publish.check_checkpoint(run.storage, trial)
    rows = Rows(run, [trial], end)
    run.executor.train_sharded(
        run_trial, trial, shared_values(run, start=False), rows, run.folder("pretrain")
    )
    rows.check()
    if not run.storage.exists(SUPERNET):
        raise RunError(f"pretrain: {rows.failures.get(trial.id, 'it ended without a result')}")


def search(run: Run) -> None:
    """Run a trial for every point of the sweep that has no result yet.

    Once candidates are selected, a trial that failed stays out; one whose rows were deleted runs.
    """
    with ExitStack() as until_end:
        _search(run, until_end)


def _search(run: Run, until_end: ExitStack) -> None:
    selected = run.storage.exists(SELECTION)
    points: list[sweep.Point] = []
    failures: dict[str, str] = {}
    known: dict[str, tuple[str, sweep.Objectives]] = {}

    def end(trial: Trial, outcome: Mapping[str, Any]) -> None:
        publish.searched(run.results, run.config, run.space, run.table, trial, outcome)

    budget = run.config.search.time_budget_s
    deadline = None if budget is None else time.monotonic() + budget
    while batch := _proposed(run, points, _objectives(run, points, known)):
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            break
        points += batch
        searched, lost = _searched(run)
        pending = [
            run.trial(trial_id, "search", point=point)
            for trial_id, point in zip(_trial_ids(points), points, strict=True)
            if trial_id in lost or not (selected or trial_id in searched)
        ]
        if selected and not pending:
            continue
        run.view.stage("search", f"{len(points)} points", len(points), len(points) - len(pending))
        if pending:
            start_predictor(run, until_end)
        failures |= run_trials(run, pending, end, left_s)
    if not run.results.parts("candidates"):
        reasons = "; ".join(sorted(set(failures.values()))) or "the time budget was too short"
        raise RunError(f"search: no trial ended with a candidate: {reasons}")


def select(run: Run) -> None:
    """Choose the candidates to finish: the method's own choice, or their Pareto front."""
    if run.storage.exists(SELECTION):
        return
    searched, _ = _searched(run)
    records = [r for r in run.results.candidates() if r["trial"] in searched]
    flat = [{**record["params"], **record} for record in records]
    if run.config.finish == "all":
        chosen = list(range(len(flat)))
    elif run.method.select is not None:
        chosen = run.method.select(flat)
    else:
        mask = pareto_front(objectives(records))
        chosen = [index for index, on_front in enumerate(mask) if on_front]
    names = [records[i]["candidate"] for i in chosen]
    run.view.note(f"select: {len(names)} of {len(records)} candidates will be finished")
    run.storage.write_bytes(SELECTION, json.dumps({"chosen": names}, indent=2).encode())


def finish(run: Run) -> None:
    """Finish the chosen candidates and the hand-made baselines, equal networks once."""
    for preset in run.config.baselines:
        publish.baseline(run.results, run.config, run.space, run.table, preset)
    chosen = set() if run.config.finish == "none" else _selected(run.storage)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in run.results.candidates(names=chosen.union(run.config.baselines)):
        groups.setdefault(_start_of(run, record), []).append(record)
    there = whole(run.results)
    pending = {
        same[0]["candidate"]: same
        for same in groups.values()
        if not all(r["stage"] == "finished" and r["candidate"] in there for r in same)
    }
    if not pending:
        return
    trials = [
        run.trial(name, "finish", point=same[0]["params"], architecture=same[0]["architecture"])
        for name, same in pending.items()
    ]
    run.view.stage("finish", f"{len(groups)} networks", len(groups), len(groups) - len(pending))

    def end(trial: Trial, outcome: Mapping[str, Any]) -> None:
        publish.finished(run.results, run.config, run.space, pending[trial.id], trial, outcome)

    failures = run_trials(run, trials, end)
    ends = {record["stage"] for record in run.results.candidates(names=chosen)}
    if chosen and "finished" not in ends:
        reasons = "; ".join(sorted(set(failures.values())))
        raise RunError(f"finish: no chosen network was finished: {reasons}")


def fuse(run: Run) -> None:
    """Train chosen candidates together, where the method does that: one trial for each group."""
    chosen = _selected(run.storage)
    groups = fusions(run.method, run.results.candidates(names=chosen), chosen)
    pending = [group for group in groups if not is_fused(run.results, group)]
    if not pending:
        return
    trials = [
        run.trial(group.trial, "fuse", point=group.point, architectures=group.architectures)
        for group in pending
    ]
    run.view.stage("fuse", f"{len(groups)} groups", len(groups), len(groups) - len(pending))
    end = partial(publish.fused, run.results, run.config, run.space, run.table)
    failures = run_trials(run, trials, end)
    if len(failures) == len(groups):
        raise RunError(f"fuse: no group was trained: {'; '.join(sorted(set(failures.values())))}")


def report(run: Run) -> None:
    """Compute front, flips and test figures, measure the networks, and show it all."""
    if not run.storage.exists(REPORT):
        run.view.stage("report")
        shared = shared_values(run, start=False)
        for table in SCHEMAS:
            run.results.read(table)
        publish.tidy(run.storage)
        publish.front(run.results)
        publish.flips(run.results, run.config)
        publish.predict_front(run.results, run.config, run.executor, shared)
        publish.measured_latency(run.results, run.config, run.executor)
        note = write_products(run.results, run.space, run.method)
        if note:
            run.view.note(note)
        publish.drawings(run.storage)
        run.storage.write_bytes(REPORT, render(load(run.storage.root, shown)).encode())
    run.view.note(f"report: {run.storage.name(REPORT)}")
    # Always: a tracking server that was away catches up when the study is run again.
    warning = tracking.sync(load(run.storage.root, shown))
    if warning:
        run.view.note(warning)


def _proposed(
    run: Run, points: Sequence[sweep.Point], results: Sequence[sweep.Objectives | None]
) -> list[sweep.Point]:
    """Return the points that follow. They stay, even if a trial that failed before succeeds now."""
    path = f"{POINTS}/{len(points):06d}.json"
    if run.storage.exists(path):
        return _read_list(run.storage, path, "points", "draw its points again")
    batch = sweep.next_batch(run.config, points, results)
    if batch:
        run.storage.write_bytes(path, json.dumps({"points": batch}).encode())
    return batch


def _objectives(
    run: Run, points: Sequence[sweep.Point], known: dict[str, tuple[str, sweep.Objectives]]
) -> list[sweep.Objectives | None]:
    """Return, for each point, the least error among its candidates, with its cost.

    None where there is none: the trial failed, or its method does not evaluate what it finds.
    `known` keeps each candidate's trial and values from batch to batch.
    """
    for record in run.results.candidates(names=run.results.parts("candidates") - known.keys()):
        if record["trial"] is not None and "search_val_accuracy" in record:
            values = (1 - record["search_val_accuracy"], record["cost"])
            known[record["candidate"]] = record["trial"], values
    found: dict[str, sweep.Objectives] = {}
    for trial_id, values in known.values():
        found[trial_id] = min(values, found.get(trial_id, values))
    return [found.get(trial_id) for trial_id in _trial_ids(points)]


def _searched(run: Run) -> tuple[set[str], set[str]]:
    """Return the trials that were searched to their end, and those that lack a candidate's row.

    A trial's history is written last, and a candidate's row after its model.
    """
    parts = run.results.parts("history")
    searched = {part.removeprefix("search-") for part in parts if part.startswith("search-")}
    models = {path.split("/")[1] for path in run.storage.list("models")}
    lost = models - run.results.parts("candidates")
    return searched, {candidate.split(".")[0] for candidate in lost}


def _selected(storage: Storage) -> set[str]:
    return set(_read_list(storage, SELECTION, "chosen", "select again"))


def _read_list(storage: Storage, path: str, key: str, purpose: str) -> list[Any]:
    try:
        return list(json.loads(storage.read_bytes(path))[key])
    except (ValueError, KeyError, TypeError) as error:
        name = storage.name(path)
        raise DamagedError(f"{name}: damaged; delete it to {purpose}") from error


def _start_of(run: Run, record: Record) -> tuple[str, ...]:
    """Return what a network's finishing begins with: what begins alike is trained once."""
    inherits = run.config.training.inherited_epochs is not None
    if inherits and run.storage.exists(inherited_path(record["candidate"])):
        return (record["candidate"],)
    return (record["digest"], str(record["seed"]))


def _trial_ids(points: Sequence[sweep.Point]) -> list[str]:
    return [f"t{index:03d}" for index in range(len(points))]
