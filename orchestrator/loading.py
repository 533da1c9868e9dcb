"""A study's results in memory: `load("runs/digits").candidates()` is a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator.results import Record, Results, ResultsError, records
from workers.metrics import negative_flip_matrix
from workers.storage import Storage

Classes = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Study:
    """What a study directory held when it was loaded.

    `records` are the candidates, flat: columns and the method's own metrics side by side,
    `architecture` and `params` as mappings. `damaged` has a line for every file that could not be
    read; the rest is there.
    """

    directory: str
    config: Mapping[str, Any]
    records: Sequence[Record]
    tables: Mapping[str, pa.Table]
    damaged: Sequence[str]

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


def load(directory: str) -> Study:
    """Read a study directory: a local path, or a URI that `pyarrow.fs` knows.

    Raises:
        ResultsError: there is no readable study here; names the file.
    """
    storage = Storage(str(directory))
    damaged: list[str] = []
    results = Results(storage)
    config = stored_config(storage)
    tables = {
        "candidates": results.read("candidates", damaged),
        "history": results.read("history", damaged),
        "predictions": results.read("predictions", damaged),
        "labels": results.read("labels", damaged),
    }
    return Study(storage.root, config, records(tables["candidates"]), tables, tuple(damaged))


def stored_config(storage: Storage) -> dict[str, Any]:
    """Return the resolved study that a directory holds.

    Raises:
        ResultsError: there is none, or it is damaged; names the file.
    """
    name = storage.name("study.yaml")
    if not storage.exists("study.yaml"):
        raise ResultsError(f"{storage.root}: not a study's directory (it has no study.yaml)")
    try:
        config = YAML(typ="safe", pure=True).load(BytesIO(storage.read_bytes("study.yaml")))
    except YAMLError as error:
        raise ResultsError(f"{name}: damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(config, dict) or "study" not in config:
        raise ResultsError(f"{name}: damaged (expected a mapping with the key `study`)")
    return config
