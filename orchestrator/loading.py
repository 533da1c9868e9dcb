"""A study's results in memory: `load("runs/digits").candidates()` is a pandas DataFrame.

A search may leave a million candidates. Whoever shows a study loads those that are `shown`: which
ones is decided on a few columns, and only their rows are made records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.results import Record, Results, ResultsError, records
from orchestrator.yaml_text import NotYamlError, parsed
from workers.metrics import negative_flip_matrix
from workers.storage import Storage

Classes = npt.NDArray[np.int16]
Choice = Callable[[pa.Table], npt.NDArray[np.bool_]]
"""Marks candidates to load, of a table of the columns that are `SKIMMED`."""

SKIMMED = ("candidate", "stage", "preset", "on_front")
MOST_SHOWN = 2000  # of a stage, beside the front and the hand-made networks


@dataclass(frozen=True)
class Study:
    """What a study directory held when it was loaded.

    `records` are the candidates, flat: columns and the method's own metrics side by side,
    `architecture` and `params` as mappings. `damaged` has a line for every file that could not be
    read; the rest is there. `left_out` counts by stage the candidates that were not chosen.
    """

    directory: str
    config: Mapping[str, Any]
    records: Sequence[Record]
    tables: Mapping[str, pa.Table]
    damaged: Sequence[str]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.config["study"])

    @property
    def cost_name(self) -> str:
        """The cost that the front sets against the error."""
        return str(self.config.get("cost", "latency_ms"))

    def candidates(self) -> pd.DataFrame:
        """Return one row per candidate; sweep parameters and metrics are columns of their own.

        `architecture` and `versions`, the last columns, hold mappings.
        """
        wide = ("architecture", "versions")
        rows = [
            {"candidate": record["candidate"], **record["params"], **record}
            for record in self.records
        ]
        names = dict.fromkeys(key for row in rows for key in row) or dict.fromkeys(
            self.tables["candidates"].column_names
        )
        columns = [name for name in names if name not in (*wide, "params", "metrics")]
        return pd.DataFrame(rows, columns=[*columns, *wide]).astype({"on_front": "boolean"})

    def finished(self) -> list[Record]:
        """Return the finished candidates, cheapest first."""
        done = [record for record in self.records if record["stage"] == "finished"]
        return sorted(done, key=lambda record: (record["cost"], record["candidate"]))

    def front(self) -> list[Record]:
        """Return the candidates on the Pareto front, cheapest first."""
        return [record for record in self.finished() if record["on_front"]]

    def history(self) -> pd.DataFrame:
        """Return (study, trial, stage, step, metric, value), one row per step and metric."""
        frame: pd.DataFrame = self.tables["history"].to_pandas()
        return frame

    def trial_seconds(self) -> dict[tuple[str, str], float]:
        """Return how long each trial took, by stage and trial; pretraining is one of them."""
        return {
            (row["stage"], row["trial"]): row["value"]
            for row in self.tables["history"].to_pylist()
            if row["metric"] == "trial_s"
        }

    def predictions(self) -> pd.DataFrame:
        """Return (study, dataset, candidate, split, classes), one row per candidate and split."""
        frame: pd.DataFrame = self.tables["predictions"].to_pandas()
        return frame

    def labels(self, split: str = "val") -> Classes | None:
        """Return the true classes of a split, shape (samples,), or None where they are unknown."""
        return next(
            (
                np.asarray(row["classes"], np.int16)
                for row in self.tables["labels"].to_pylist()
                if row["split"] == split
            ),
            None,
        )

    def predicted(self, split: str = "val") -> dict[str, Classes]:
        """Return the predicted classes of a split by candidate, each of shape (samples,)."""
        table = self.tables["predictions"]
        return {
            row["candidate"]: np.asarray(row["classes"], np.int16)
            for row in table.to_pylist()
            if row["split"] == split
        }

    def nfr_matrix(self, split: str = "val") -> pd.DataFrame:
        """Return the negative flip rate between front networks: row replaced by column."""
        labels, predicted = self.labels(split), self.predicted(split)
        names = [record["candidate"] for record in self.front() if record["candidate"] in predicted]
        if labels is None or not names:
            return pd.DataFrame(dtype=float)
        rates = negative_flip_matrix(np.stack([predicted[name] for name in names]), labels)
        return pd.DataFrame(rates, index=names, columns=names)


def load(directory: str, choice: Choice | None = None) -> Study:
    """Read a study directory: a local path, or a URI that `pyarrow.fs` knows.

    Args:
        directory: where it is.
        choice: `shown` or `finished`: which candidates to load, with their predictions; default:
            all.

    Raises:
        ResultsError: there is no readable study here; names the file.
    """
    storage = Storage(str(directory))
    damaged: list[str] = []
    results = Results(storage)
    config = stored_config(storage)
    names, left_out = (None, {}) if choice is None else _chosen(results, choice)
    tables = {
        "candidates": results.read("candidates", damaged, candidates=names),
        "history": results.read("history", damaged),
        "predictions": results.read("predictions", damaged, candidates=names),
        "labels": results.read("labels", damaged),
    }
    found = records(tables["candidates"])
    return Study(storage.root, config, found, tables, tuple(damaged), left_out)


def finished(skimmed: pa.Table) -> npt.NDArray[np.bool_]:
    """Choose the finished candidates."""
    return np.asarray(pc.equal(skimmed["stage"], "finished"), bool)


def shown(skimmed: pa.Table) -> npt.NDArray[np.bool_]:
    """Choose what a page or a table shows: the front, hand-made networks and a sample of others.

    That is all of a stage's candidates, or `MOST_SHOWN` that are evenly spaced.
    """
    chosen = np.asarray(skimmed["on_front"].fill_null(False), bool)
    chosen |= np.asarray(pc.is_valid(skimmed["preset"]), bool)
    done = finished(skimmed)
    for stage in (done, ~done):
        others = np.flatnonzero(stage & ~chosen)
        places = np.linspace(0, len(others) - 1, min(MOST_SHOWN, len(others)))
        chosen[others[places.round().astype(int)]] = True
    return chosen


def _chosen(results: Results, choice: Choice) -> tuple[list[str], dict[str, int]]:
    """Return the names of chosen candidates, and how many others each stage has."""
    skimmed = results.read("candidates", [], columns=SKIMMED)
    chosen = choice(skimmed)
    stages = skimmed["stage"].filter(~chosen).value_counts().to_pylist()
    names = skimmed["candidate"].filter(chosen).to_pylist()
    return names, {row["values"]: row["counts"] for row in stages}


def stored_config(storage: Storage) -> dict[str, Any]:
    """Return the resolved study that a directory holds.

    Raises:
        ResultsError: there is none, or it is damaged; names the file.
    """
    name = storage.name("study.yaml")
    if not storage.exists("study.yaml"):
        raise ResultsError(f"{storage.root}: not a study's directory (it has no study.yaml)")
    try:
        config = parsed(storage.read_bytes("study.yaml"))
    except NotYamlError as error:
        raise ResultsError(f"{name}: damaged ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("study"), str):
        raise ResultsError(f"{name}: damaged (expected a mapping with the key `study`)")
    for key in ("method", "space", "dataset"):
        if not isinstance(config.get(key), dict) or "name" not in config[key]:
            raise ResultsError(f"{name}: not of a study that was run ({key}: no `name` in it)")
    return config
