"""The results store: four tables, each a folder of small Parquet files with a stated schema.

    results/candidates/<candidate>.parquet            one row: a network with all its measurements
    results/history/<stage>-<trial>.parquet           one row per step and metric
    results/predictions/<candidate>-<split>.parquet   one row: the predicted class of every sample
    results/labels/<dataset>-<split>.parquet          one row: the true class of every sample

Where labels are maps, a sample is a labelled pixel: image by image, row by row.

A part is written whole or not at all, and writing it again replaces it: a repeated trial leaves no
duplicate. `paretoray compact` merges parts into few files (see `table_files`). Parts of older
versions may lack columns, which then read as null. pandas, DuckDB and pyarrow read the folders
without this module.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from orchestrator.table_files import TableFiles
from workers.errors import InputError
from workers.storage import Storage

TableName = Literal["candidates", "history", "predictions", "labels"]
Record = dict[str, Any]

COST_COLUMNS = ("latency_ms", "macs", "num_params")  # what any network costs, besides its `cost`
JSON_COLUMNS = ("architecture", "params", "metrics", "versions")
_REQUIRED = ("study", "method", "candidate", "stage", "digest", "architecture")
_CLASSES = pa.list_(pa.int16())  # -1: no prediction

SCHEMAS: Mapping[TableName, pa.Schema] = {
    "candidates": pa.schema(
        {
            "study": pa.string(),
            "method": pa.string(),
            "space": pa.string(),
            "dataset": pa.string(),
            "candidate": pa.string(),
            "trial": pa.string(),
            "stage": pa.string(),  # "searched" or "finished"
            "preset": pa.string(),  # name of a hand-made architecture; null for found ones
            "digest": pa.string(),
            "architecture": pa.string(),  # JSON
            "params": pa.string(),  # JSON: the sweep point, with its seed
            "seed": pa.int64(),
            "search_loss": pa.float64(),
            "metrics": pa.string(),  # JSON: numbers that only some methods have
            "val_accuracy": pa.float64(),  # accuracies and rates are fractions
            "val_loss": pa.float64(),
            "test_accuracy": pa.float64(),
            "val_mean_iou": pa.float64(),  # null where labels are no maps
            "test_mean_iou": pa.float64(),
            "macs": pa.int64(),
            "num_params": pa.int64(),
            "num_params_without_norm": pa.int64(),
            "weight_bytes": pa.int64(),
            "peak_memory_bytes": pa.int64(),
            "latency_ms": pa.float64(),  # what the objective used: predicted from the table
            "latency_measured_ms": pa.float64(),
            "latency_measured_iqr_ms": pa.float64(),
            "latency_device": pa.string(),
            "latency_backend": pa.string(),
            "cost": pa.float64(),
            "cost_name": pa.string(),
            "nfr": pa.float64(),
            "positive_flip_rate": pa.float64(),
            "nfr_reference": pa.string(),
            "on_front": pa.bool_(),
            "search_wall_s": pa.float64(),
            "wall_s": pa.float64(),  # in all: searching and finishing
            "versions": pa.string(),  # JSON
        }
    ),
    "history": pa.schema(
        {
            "study": pa.string(),
            "trial": pa.string(),
            "stage": pa.string(),  # "pretrain", "search" or "finish"
            "step": pa.int64(),
            "metric": pa.string(),
            "value": pa.float64(),
        }
    ),
    "predictions": pa.schema(
        {
            "study": pa.string(),
            "dataset": pa.string(),
            "candidate": pa.string(),
            "split": pa.string(),
            "classes": _CLASSES,
        }
    ),
    "labels": pa.schema({"dataset": pa.string(), "split": pa.string(), "classes": _CLASSES}),
}


class ResultsError(InputError):
    """Results that cannot be read, or a directory that holds none: one line that names it."""


class Results:
    """The tables of one study directory.

    Args:
        storage: the directory.
        told: is told of every candidate whose row was written.
    """

    def __init__(
        self, storage: Storage, told: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        self.storage, self._told = storage, told
        self.files: Mapping[TableName, TableFiles] = {
            table: TableFiles(storage, f"results/{table}", schema)
            for table, schema in SCHEMAS.items()
        }

    def write_candidate(self, record: Mapping[str, Any]) -> None:
        """Write or replace a candidate's row.

        `architecture` and `params` are JSON values. Keys that are no columns are the method's own
        metrics and must be numbers. `versions` is filled in where absent or None.

        Raises:
            ValueError: a required key is missing, or a metric of the method is not a number.
            StorageError: the file cannot be written.
        """
        for key in _REQUIRED:
            if record.get(key) is None:
                raise ValueError(f"candidates: {key!r} is missing from the row")
        given = {key: value for key, value in record.items() if value is not None}
        filled = {"versions": versions(), "params": {}, **given}
        self._write("candidates", str(record["candidate"]), [_row(filled)])
        if self._told is not None:
            self._told(record)

    def write_history(
        self, *, study: str, trial: str, stage: str, steps: Iterable[Mapping[str, Any]]
    ) -> None:
        """Write or replace a trial's history: numbers by name for each step, with `step` itself.

        Raises:
            StorageError: the file cannot be written.
        """
        about = {"study": study, "trial": trial, "stage": stage}
        rows = [
            {**about, "step": int(step["step"]), "metric": metric, "value": float(value)}
            for step in steps
            for metric, value in step.items()
            if metric != "step" and value is not None
        ]
        self._write("history", f"{stage}-{trial}", rows)

    def write_predictions(
        self, *, study: str, dataset: str, candidate: str, split: str, classes: Any
    ) -> None:
        """Write or replace a candidate's predicted classes, integers of shape (samples,).

        Raises:
            StorageError: the file cannot be written.
        """
        about = {"study": study, "dataset": dataset, "candidate": candidate, "split": split}
        row = {**about, "classes": np.asarray(classes, dtype=np.int16)}
        self._write("predictions", f"{candidate}-{split}", [row])

    def write_labels(self, *, dataset: str, split: str, classes: Any) -> None:
        """Write or replace a data set's true classes, integers of shape (samples,).

        Raises:
            StorageError: the file cannot be written.
        """
        row = {"dataset": dataset, "split": split, "classes": np.asarray(classes, dtype=np.int16)}
        self._write("labels", f"{dataset}-{split}", [row])

    def candidates(
        self, damaged: list[str] | None = None, names: Collection[str] | None = None
    ) -> list[Record]:
        """Return the candidates as `write_candidate` takes them; null metrics are left out.

        Args:
            damaged: as for `read`.
            names: those to return; default: all.

        Raises:
            ResultsError: as for `read`.
        """
        return records(self.read("candidates", damaged, parts=names))

    def read(
        self,
        table: TableName,
        damaged: list[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        candidates: Collection[str] | None = None,
        parts: Collection[str] | None = None,
    ) -> pa.Table:
        """Return a table, parts in the order of their names.

        Args:
            table: its name.
            damaged: collects a line for every file that cannot be read, instead of raising.
            columns: those to read; default: all.
            candidates: those whose rows to read, of tables that name them; default: all.
            parts: the parts to read, and no others; absent ones are left out. Default: all.

        Raises:
            ResultsError: a file cannot be read; names the first one.
        """
        lines: list[str] = []
        wanted = None if parts is None else set(map(_file_name, parts))
        found = self.files[table].read(lines, columns, candidates, wanted)
        if damaged is None and lines:
            raise ResultsError(lines[0])
        if damaged is not None:
            damaged += lines
        return found

    def parts(self, table: TableName) -> set[str]:
        """Return the names of a table's parts, such as the candidates that have a row."""
        return self.files[table].parts()

    def _write(self, table: TableName, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.files[table].write(_file_name(part), pa.Table.from_pylist(rows, SCHEMAS[table]))


def records(candidates: pa.Table) -> list[Record]:
    """Return the rows of a candidates table, flat, with JSON columns parsed."""
    return [_record(row) for row in candidates.to_pylist()]


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of what shapes a result."""
    found = {}
    for name in ("paretoray", "torch", "ray"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found


def _file_name(part: str) -> str:
    return re.sub(r"[^\w.+=-]", "_", part)  # a data set's name may hold anything


def _row(record: Mapping[str, Any]) -> Record:
    schema = SCHEMAS["candidates"]
    row = {name: _missing_as_none(record.get(name)) for name in schema.names}
    row["metrics"] = {
        key: _metric(key, value) for key, value in record.items() if key not in schema.names
    }
    return row | {name: json.dumps(row[name], sort_keys=True) for name in JSON_COLUMNS}


def _record(row: Mapping[str, Any]) -> Record:
    parsed = {name: json.loads(row[name] or "{}") for name in JSON_COLUMNS}
    metrics = parsed.pop("metrics")
    columns = {key: value for key, value in row.items() if key != "metrics"}
    return {**columns, **parsed, **metrics}


def _metric(key: str, value: Any) -> float | None:
    value = _missing_as_none(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"candidates: {key!r} is no column, and as a metric {value!r} no number")
    return value


def _missing_as_none(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value
