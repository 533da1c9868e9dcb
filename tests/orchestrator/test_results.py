"""The Parquet store: whole parts, a stated schema, readable by others, old versions included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from orchestrator.results import SCHEMAS, Results, ResultsError
from workers.storage import Storage

ROW: dict[str, Any] = {
    "study": "digits",
    "method": "prunet",
    "candidate": "c1",
    "trial": "t1",
    "stage": "finished",
    "digest": "0123456789ab",
    "architecture": {"layer0": {"kernel_size": 3}, "layer1": None},
    "params": {"alpha": 0.2, "lambda": 0.4, "seed": 3},
    "seed": 3,
    "val_accuracy": np.float64(0.9),
    "macs": np.int64(1200),
    "cost": 0.5,
    "cost_name": "latency_ms",
    "on_front": True,
    "num_irb": 5,
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(Storage(str(tmp_path)))


def test_a_row_comes_back_flat_and_can_be_written_again(results: Results) -> None:
    results.write_candidate(ROW)
    (first,) = results.candidates()
    assert {key: first[key] for key in ROW} == ROW
    assert first["test_accuracy"] is None
    results.write_candidate(first | {"test_accuracy": 0.8})
    (second,) = results.candidates()
    assert second == first | {"test_accuracy": 0.8}


def test_the_files_hold_the_stated_schema_and_its_version(results: Results, tmp_path: Path) -> None:
    results.write_candidate(ROW)
    schema = pq.read_schema(tmp_path / "results/candidates/c1.parquet")
    assert schema.equals(SCHEMAS["candidates"])
    assert schema.metadata[b"paretoray.schema_version"] == b"1"


def test_missing_numbers_are_null(results: Results) -> None:
    results.write_candidate(ROW | {"val_loss": float("nan"), "num_irb": float("nan")})
    (record,) = results.candidates()
    assert record["val_loss"] is None
    assert record["num_irb"] is None


@pytest.mark.parametrize("key", ["study", "candidate", "architecture"])
def test_a_row_without_its_identity_is_refused(results: Results, key: str) -> None:
    with pytest.raises(ValueError, match=f"'{key}' is missing"):
        results.write_candidate({k: v for k, v in ROW.items() if k != key})


def test_a_key_that_is_neither_column_nor_number_is_refused(results: Results) -> None:
    with pytest.raises(ValueError, match=r"'val_acuracy' is no column, .* 'high' no number"):
        results.write_candidate(ROW | {"val_acuracy": "high"})
    assert results.parts("candidates") == set()


def test_history_is_long_and_skips_what_is_missing(results: Results) -> None:
    steps = [{"step": 1, "loss": 2.0, "blocks": 4}, {"step": 2, "loss": 1.5, "blocks": None}]
    results.write_history(study="s", trial="t1", stage="search", steps=steps)
    rows = results.read("history").to_pylist()
    assert [(row["step"], row["metric"], row["value"]) for row in rows] == [
        (1, "loss", 2.0),
        (1, "blocks", 4.0),
        (2, "loss", 1.5),
    ]


def test_writing_a_part_again_replaces_it(results: Results) -> None:
    for classes in ([1, 2, 3], [4, 5, -1]):
        results.write_predictions(
            study="s", dataset="digits", candidate="c1", split="val", classes=np.array(classes)
        )
    (row,) = results.read("predictions").to_pylist()
    assert row["classes"] == [4, 5, -1]
    assert results.parts("predictions") == {"c1-val"}


def test_an_older_part_lacks_columns_and_a_newer_one_has_more(results: Results) -> None:
    results.write_candidate(ROW)
    (new,) = results.read("candidates").to_pylist()
    old = {key: new[key] for key in ("study", "candidate", "stage", "architecture", "params")}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([old | {"candidate": "c0", "watts": 3.5}]), sink)
    results.storage.write_bytes("results/candidates/c0.parquet", sink.getvalue().to_pybytes())
    first, second = results.read("candidates").to_pylist()
    assert (first["candidate"], first["macs"], first["watts"]) == ("c0", None, 3.5)
    assert (second["candidate"], second["macs"], second["watts"]) == ("c1", 1200, None)
    assert [record["candidate"] for record in results.candidates()] == ["c0", "c1"]


@pytest.mark.parametrize("harm", ["truncated", "empty", "not parquet", "other types"])
def test_a_damaged_part_is_named_and_the_rest_stays_readable(
    results: Results, tmp_path: Path, harm: str
) -> None:
    results.write_candidate(ROW)
    results.write_candidate(ROW | {"candidate": "c2"})
    path = tmp_path / "results/candidates/c1.parquet"
    if harm == "other types":
        pq.write_table(pa.table({"candidate": [1.5], "macs": ["many"]}), path)
    else:
        contents = {"truncated": path.read_bytes()[:-40], "empty": b"", "not parquet": b"x" * 99}
        path.write_bytes(contents[harm])
    with pytest.raises(ResultsError, match=r"results/candidates/c1\.parquet: damaged") as error:
        results.read("candidates")
    assert "\n" not in str(error.value)
    damaged: list[str] = []
    assert [record["candidate"] for record in results.candidates(damaged)] == ["c2"]
    assert len(damaged) == 1


def test_pandas_duckdb_and_pyarrow_read_the_folders(results: Results, tmp_path: Path) -> None:
    results.write_candidate(ROW)
    results.write_candidate(ROW | {"candidate": "c2", "test_accuracy": 0.75})
    (tmp_path / "results/candidates/.c3.parquet.00.partial").write_bytes(b"torn")
    folder = tmp_path / "results" / "candidates"
    frame = pd.read_parquet(folder)
    assert frame["test_accuracy"].isna().tolist() == [True, False]
    assert ds.dataset(folder).to_table(columns=["macs"]).to_pydict() == {"macs": [1200, 1200]}
    query = f"""
        select candidate, params->>'lambda' as lambda_, metrics->>'num_irb' as num_irb
        from read_parquet('{folder}/*.parquet', union_by_name=true) order by candidate
    """
    assert duckdb.sql(query).fetchall() == [("c1", "0.4", "5"), ("c2", "0.4", "5")]


def test_flips_between_models_are_a_query(results: Results, tmp_path: Path) -> None:
    about = {"study": "s", "dataset": "digits", "split": "val"}
    results.write_labels(dataset="digits", split="val", classes=[0, 1, 2, 3])
    results.write_predictions(**about, candidate="old", classes=[0, 1, 2, 0])
    results.write_predictions(**about, candidate="new", classes=[0, 1, 0, 3])
    query = f"""
        with p as (
            select candidate, unnest(classes) as class, generate_subscripts(classes, 1) as i
            from '{tmp_path}/results/predictions/*.parquet' where split = 'val'
        ), l as (
            select unnest(classes) as label, generate_subscripts(classes, 1) as i
            from '{tmp_path}/results/labels/*.parquet' where split = 'val'
        )
        select avg((old.class = label and new.class <> label)::int)
        from l join p old using (i) join p new using (i)
        where old.candidate = 'old' and new.candidate = 'new'
    """
    assert duckdb.sql(query).fetchall() == [(0.25,)]
