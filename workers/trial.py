"""One trial, from names to an outcome: the one function that every executor calls.

A trial checkpoints into the study's directory and leaves its outcome there; the driver publishes
it. Both files carry the driver's attempt, so that the late writes of an orphaned trial, whose
driver is gone, meet nobody.
"""

from __future__ import annotations

import io
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from safetensors import SafetensorError

from cost_models.latency_table import LatencyTable
from search_spaces import SPACES
from search_spaces.base import Architecture, SearchSpace
from workers.costs import RANDOM_COSTS, Machines, cost_function, expected
from workers.datasets import DATASETS, Data, data_root, from_arrays, proxy
from workers.executors.work import Row
from workers.methods import METHODS
from workers.protocol import Candidate, Cost, Method, Predict, Problem, Progress, State
from workers.ranks import agreed
from workers.records import from_json
from workers.sharding import synced_norms
from workers.storage import DamagedError, Storage
from workers.training import Recipe
from workers.trial_tags import NAMES, tagged

LOG = logging.getLogger(__name__)
CHECKPOINT_EVERY_S = 20.0  # at least, and as often as it takes a share of the time
CHECKPOINT_SHARE = 0.05  # pretraining checkpoints every epoch, however short
StageName = Literal["pretrain", "search", "finish", "fuse"]
FINAL = ("finish", "fuse")  # stages that begin anew, on all of the data


@dataclass(frozen=True)
class Trial:
    """A trial as JSON values: `study` is the resolved study, `point` its place in the sweep."""

    id: str
    stage: StageName
    study: Mapping[str, Any]
    root: str
    attempt: int
    point: Mapping[str, Any] = field(default_factory=dict)
    architecture: Architecture | None = None
    architectures: tuple[Architecture, ...] = ()

    @property
    def seed(self) -> int:
        """The point's seed, else the study's."""
        return int(self.point.get("seed", self.study["seed"]))

    @property
    def tags(self) -> dict[str, str]:
        """What names the trial in log lines and metrics; empty where there is no such setting."""
        settings = {**self.study["method"], **self.point, "seed": self.seed}
        about = {"study": self.study["study"], "stage": self.stage, "trial": self.id}
        return {name: str({**settings, **about}.get(name, "")) for name in NAMES}

    def path(self, what: Literal["checkpoint", "outcome"]) -> str:
        """Return the file of this attempt, relative to the study's directory."""
        return f"{what}s/{self.stage}-{self.id}-{self.attempt:04d}.pt"

    def checkpoints(self, storage: Storage) -> list[str]:
        """Return the checkpoints of this and earlier attempts, oldest first."""
        own = self.path("checkpoint")
        prefix = own.rsplit("-", 1)[0] + "-"
        return [p for p in storage.list("checkpoints") if p.startswith(prefix) and p <= own]


def run(
    trial: Trial,
    shared: Mapping[str, Any],
    report: Callable[[Row], None],
    device: torch.device,
) -> None:
    """Run a trial to its end; every rank of a sharded trial calls this.

    `shared` holds what all trials read: `data` (arrays, see `datasets.to_arrays`), `table` (bytes
    of the latency table) and `start` (what pretraining left), each possibly None; and `predict`,
    where the method has a predictor. `report` gets a row of numbers for each step; the last row has
    `outcome`, the file that holds the result.
    """
    with tagged(trial.tags):
        _run(trial, shared, report, device)


def reset_process(seed: int, threads: int) -> None:
    """Make a reused process like a new one: seeds, thread count, determinism, memory of a GPU."""
    torch.cuda.empty_cache()  # others may share the GPU
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def is_first_rank() -> bool:
    """Tell whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def build_space(study: Mapping[str, Any]) -> SearchSpace:
    """Return a study's space."""
    cls, settings = _named(SPACES, study["space"])
    space: SearchSpace = cls(from_json(cls.Config, settings))
    return space


def fitted_space(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the study's `space`, sample shape and classes taken from the data set where not set.

    Raises:
        FileNotFoundError: the data set's files are absent.
    """
    entry, options = _named(DATASETS, study["dataset"])
    shape, classes = entry.describe(from_json(entry.Config, options), data_root())
    given = {key: value for key, value in study["space"].items() if value is not None}
    return {"in_shape": list(shape), "num_classes": classes, **given}


def load_data(study: Mapping[str, Any], arrays: Mapping[str, Any] | None) -> Data:
    """Return a study's data set, from shared arrays where it is resident."""
    if arrays is not None:
        return from_arrays(arrays)
    entry, options = _named(DATASETS, study["dataset"])
    data: Data = entry.load(from_json(entry.Config, options), data_root())
    return data


def make_predictor(trial: Trial, shared: Mapping[str, Any]) -> Predict:
    """Return what a method's searches predict with, in a process that keeps it.

    Args:
        trial: any search trial; its point does not count.
        shared: as for `run`.
    """
    resources = trial.study["resources"]
    reset_process(trial.seed, resources["cpus_per_worker"])
    uses_gpu = resources["gpus_per_worker"] and torch.cuda.is_available()
    method, settings = _named(METHODS, trial.study["method"])
    problem = _problem(trial, shared, torch.device("cuda" if uses_gpu else "cpu"))
    predict: Predict = method.predictor(problem, from_json(method.Config, settings))
    return predict


def to_bytes(contents: Any) -> bytes:
    """Serialise tensors and JSON values; `from_bytes` reads them without unpickling code."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes, name: str) -> Any:
    """Read what `to_bytes` wrote.

    Raises:
        DamagedError: the bytes are truncated or something else; names the file.
    """
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        raise DamagedError(f"{name}: damaged; delete it to have it made again") from error


def weights_path(candidate: str) -> str:
    """Return the file of a finished candidate's weights."""
    return f"models/{candidate}/weights.safetensors"


def inherited_path(candidate: str) -> str:
    """Return the file of the weights with which a candidate came from its search."""
    return f"models/{candidate}/inherited.safetensors"


def load_weights(storage: Storage, path: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file in a study's directory.

    Raises:
        DamagedError: the file is not what was written; names it.
    """
    try:
        return safetensors.torch.load(storage.read_bytes(path))
    except SafetensorError as error:
        name = storage.name(path)
        raise DamagedError(f"{name}: damaged; delete it to have it made again") from error


def as_arrays(state: Any) -> Any:
    """Replace tensors by NumPy arrays, which an object store shares without copying."""
    return _mapped(state, torch.Tensor, lambda tensor: tensor.detach().cpu().numpy())


def as_tensors(state: Any) -> Any:
    """Replace NumPy arrays by private tensors: what a trial trains must be its own."""
    return _mapped(state, np.ndarray, lambda array: torch.from_numpy(array.copy()))


def _run(
    trial: Trial,
    shared: Mapping[str, Any],
    report: Callable[[Row], None],
    device: torch.device,
) -> None:
    started = time.perf_counter()
    resources = trial.study["resources"]
    reset_process(trial.seed, resources["cpus_per_worker"])
    storage = Storage(trial.root)
    saved = _latest_checkpoint(storage, trial)
    history: list[Row] = saved["history"] if saved else []
    elapsed = saved["seconds"] if saved else 0.0
    write_s, written_at, progress = 0.0, started, None
    with synced_norms(resources["sync_batch_norm"]):
        for progress in _steps(trial, storage, shared, device, saved["state"] if saved else None):
            # A stage that was saved at its very end yields that step once more.
            history = [row for row in history if row["step"] < progress.step]
            history.append({"step": progress.step, **progress.metrics})
            now = time.perf_counter()
            due = now - written_at > min(CHECKPOINT_EVERY_S, write_s / CHECKPOINT_SHARE)
            if agreed(due or trial.stage == "pretrain"):
                # Every rank collects the state, of which each may hold a part.
                seconds = elapsed + now - started
                contents = {"state": progress.state(), "history": history, "seconds": seconds}
                if is_first_rank():
                    storage.write_bytes(trial.path("checkpoint"), to_bytes(contents))
                written_at = time.perf_counter()
                write_s = written_at - now
            LOG.info("step %d of %d %s", progress.step, progress.steps, dict(progress.metrics))
            report({"trial": trial.id, "steps": progress.steps, **history[-1]})
    seconds = elapsed + time.perf_counter() - started
    outcome = _outcome(trial, progress, history, seconds)
    if is_first_rank():
        storage.write_bytes(trial.path("outcome"), outcome)
    report({"trial": trial.id, "outcome": trial.path("outcome")})


def _steps(
    trial: Trial,
    storage: Storage,
    shared: Mapping[str, Any],
    device: torch.device,
    state: State | None,
) -> Iterator[Progress]:
    study = trial.study
    method: Method
    method, settings = _named(METHODS, study["method"])
    problem = _problem(trial, shared, device)
    if trial.stage == "finish":
        assert trial.architecture is not None
        recipe = from_json(Recipe, study["training"])
        if recipe.inherited_epochs is not None:
            problem = replace(problem, start=_inherited(storage, trial.id))
        return method.finish(problem, trial.architecture, recipe, state)
    settings |= {key: value for key, value in trial.point.items() if key != "seed"}
    config = from_json(method.Config, settings)
    if trial.stage == "fuse":
        assert method.fuse is not None
        return method.fuse(problem, config, trial.architectures, state)
    stage = method.pretrain if trial.stage == "pretrain" else method.search
    assert stage is not None
    return stage(problem, config, state)


def _problem(trial: Trial, shared: Mapping[str, Any], device: torch.device) -> Problem:
    study = trial.study
    space = build_space(study)
    data = load_data(study, shared["data"])
    if trial.stage not in FINAL:
        data = proxy(data, **study["proxy"], seed=study["seed"])
    table = None if shared["table"] is None else LatencyTable.from_bytes(shared["table"])
    return Problem(
        space=space,
        data=data,
        table=table,
        cost=_cost(study, space, table),
        seed=trial.seed,
        device=device,
        start=None if trial.stage in FINAL else as_tensors(shared["start"]),
        predict=shared.get("predict"),
        sharding=study["resources"]["sharding"],
    )


def _cost(study: Mapping[str, Any], space: SearchSpace, table: LatencyTable | None) -> Cost:
    return cost_function(study["cost"], space, table, from_json(Machines, study["network"]))


def _inherited(storage: Storage, candidate: str) -> State | None:
    path = inherited_path(candidate)
    return {"weights": load_weights(storage, path)} if storage.exists(path) else None


def _outcome(trial: Trial, progress: Progress | None, history: list[Row], seconds: float) -> bytes:
    assert progress is not None, "a stage yields at least once"
    candidates = [_plain(candidate) for candidate in progress.candidates]
    if trial.study["cost"] in RANDOM_COSTS:
        cost = _cost(trial.study, build_space(trial.study), None)
        for candidate in candidates:
            candidate["metrics"]["cost"] = expected(cost, candidate["architecture"])
    contents = {
        "candidates": candidates,
        "history": history,
        "seconds": seconds,
        "state": progress.state() if trial.stage == "pretrain" else None,
    }
    return to_bytes(contents)


def _plain(candidate: Candidate) -> dict[str, Any]:
    weights = None if candidate.weights is None else dict(candidate.weights)
    return {
        "architecture": candidate.architecture,
        "metrics": dict(candidate.metrics),
        "predictions": dict(candidate.predictions),
        "weights": weights,
    }


def _latest_checkpoint(storage: Storage, trial: Trial) -> dict[str, Any] | None:
    paths = trial.checkpoints(storage)
    if not paths:
        return None
    saved: dict[str, Any] = from_bytes(storage.read_bytes(paths[-1]), storage.name(paths[-1]))
    return saved


def _named(registry: Mapping[str, Any], component: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    options = dict(component)
    return registry[options.pop("name")], options


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(inner, kind, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(inner, kind, change) for inner in value)
    return value
