import dataclasses
import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_models.latency_table import LatencyTable, MissingBlockError, Timing
from search_spaces.base import Block

TABLE = LatencyTable(
    device="a processor",
    backend="onnxruntime",
    version="1",
    threads=1,
    batch_size=1,
    dtype="float32",
    overhead_us=2.5,
    entries={"a": Timing(10.0, 0.5), "b": Timing(20.0, 1.0)},
)


def block(key: str) -> Block:
    return Block(key, (1,), NotImplemented)


def test_a_network_is_its_blocks_and_one_overhead() -> None:
    assert TABLE.latency_us("b") == 20.0
    assert TABLE.network_ms([block("a"), block("b"), block("a")]) == pytest.approx(0.0425)


def test_a_table_survives_its_file(tmp_path) -> None:
    path = tmp_path / "latency.parquet"
    path.write_bytes(TABLE.to_bytes())
    assert LatencyTable.read(path) == TABLE
    rows = pq.read_table(path).to_pylist()
    assert [row["block"] for row in rows] == ["a", "b"]
    assert {row["device"] for row in rows} == {"a processor"}


def test_a_missing_block_says_how_to_measure_it() -> None:
    with pytest.raises(MissingBlockError, match=r"'c' is missing; `paretoray measure SPACE --out"):
        TABLE.network_ms([block("a"), block("c")])


@pytest.mark.parametrize("latency", [0.0, -1.0, math.nan, math.inf])
def test_impossible_latencies_are_refused(latency) -> None:
    with pytest.raises(ValueError, match=r"block 'a' takes .* us; allowed: > 0"):
        dataclasses.replace(TABLE, entries={"a": Timing(latency, 0.0)})


@pytest.mark.parametrize("overhead", [-1.0, math.nan, math.inf])
def test_impossible_overheads_are_refused(overhead) -> None:
    with pytest.raises(ValueError, match="overhead_us is"):
        dataclasses.replace(TABLE, overhead_us=overhead)


def test_tables_join_if_measured_alike() -> None:
    other = dataclasses.replace(
        TABLE, overhead_us=9.0, entries={"b": Timing(1.0, 0.0), "c": Timing(30.0, 0.0)}
    )
    joined = TABLE.joined(other)
    assert {key: timing.median_us for key, timing in joined.entries.items()} == {
        "a": 10.0,
        "b": 20.0,
        "c": 30.0,
    }
    assert joined.overhead_us == 2.5
    with pytest.raises(ValueError, match="differ in threads: 1 and 2"):
        TABLE.joined(dataclasses.replace(other, threads=2))


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


ROWS = pq.read_table(io.BytesIO(TABLE.to_bytes())).to_pylist()


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"not Parquet",
        TABLE.to_bytes()[:-20],
        TABLE.to_bytes()[:40] + bytes(40) + TABLE.to_bytes()[80:],
        parquet([{"alpha": 1.0}]),
        parquet([ROWS[0], {**ROWS[1], "device": "another"}]),
        parquet([{**ROWS[0], "median_us": "fast"}]),
        parquet([{**ROWS[0], "median_us": None}]),
        parquet([{**ROWS[0], "median_us": -1.0}]),
        parquet(ROWS[:1]).replace(b"a processor", b"\xff\xfe\xfd\xff\xfe\xfd\xff\xfe\xfd\xff\xfe"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, contents) -> None:
    path = tmp_path / "latency.parquet"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="not a latency table: ") as caught:
        LatencyTable.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet"):
        LatencyTable.read(tmp_path / "nowhere.parquet")
