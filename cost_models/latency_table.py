"""Latencies of blocks, measured on one device: a Parquet file that travels.

A table measured on a target serves a search anywhere else. Every row holds one block and repeats
the device, back-end and settings, so that tables of many devices can be queried together.

What a block adds to a network is what it takes alone, less `overhead_us`: the price of one call of
the runtime, which a network pays once. Hence network = overhead + sum of its blocks.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces.base import Block

SETTINGS = pa.schema(
    {
        "device": pa.string(),
        "backend": pa.string(),
        "version": pa.string(),
        "threads": pa.int32(),
        "batch_size": pa.int32(),
        "dtype": pa.string(),
        "overhead_us": pa.float64(),
    }
)
ENTRIES = pa.schema({"block": pa.string(), "median_us": pa.float64(), "iqr_us": pa.float64()})
SCHEMA = pa.schema([*ENTRIES, *SETTINGS])


class MissingBlockError(ValueError):
    """A latency table lacks a block; the message says which, and how to measure it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Median and inter-quartile range of repeated calls, in microseconds."""

    median_us: float
    iqr_us: float


@dataclass(frozen=True)
class LatencyTable:
    """Latencies by block key, and where and how they were measured.

    Args:
        device: the processor's name.
        backend: a name of `latency_probe.BACKENDS`.
        version: the back-end's.
        threads: that computed one call.
        batch_size: samples in one call.
        dtype: of weights and activations.
        overhead_us: the price of one call, whatever it computes; at least 0.
        entries: block key -> timing, without the overhead; every median is above 0.

    Raises:
        ValueError: no entry at all, or a latency that cannot be.
    """

    device: str
    backend: str
    version: str
    threads: int
    batch_size: int
    dtype: str
    overhead_us: float
    entries: Mapping[str, Timing]

    def __post_init__(self) -> None:
        """Refuse impossible latencies; comparisons are such that NaN is refused too."""
        if not self.entries:
            raise ValueError("latency table: it has no entry")
        if not 0 <= self.overhead_us < float("inf"):
            raise ValueError(f"latency table: overhead_us is {self.overhead_us}; allowed: >= 0")
        for key, timing in self.entries.items():
            if not 0 < timing.median_us < float("inf"):
                raise ValueError(
                    f"latency table: block {key!r} takes {timing.median_us} us; allowed: > 0"
                )

    def latency_us(self, key: str) -> float:
        """Return what a block adds to a network's latency (microseconds, above 0).

        Raises:
            MissingBlockError: the block was not measured.
        """
        if key not in self.entries:
            raise MissingBlockError(
                f"latency table ({self.device}, {self.backend}): block {key!r} is missing;"
                " `paretoray measure SPACE --out TABLE` measures it"
            )
        return self.entries[key].median_us

    def network_ms(self, blocks: Iterable[Block]) -> float:
        """Return a network's predicted latency from its blocks, repetitions included (ms).

        Raises:
            MissingBlockError: a block was not measured.
        """
        return (self.overhead_us + sum(self.latency_us(block.key) for block in blocks)) / 1000

    def joined(self, other: LatencyTable) -> LatencyTable:
        """Return a table with the entries of both; where both have one, and overhead, this one's.

        Raises:
            ValueError: they were measured on different devices or in different ways.
        """
        for name in SETTINGS.names:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs and name != "overhead_us":
                raise ValueError(f"latency tables differ in {name}: {mine!r} and {theirs!r}")
        return dataclasses.replace(self, entries={**other.entries, **self.entries})

    def to_bytes(self) -> bytes:
        """Return the table as the contents of a Parquet file."""
        settings = {name: getattr(self, name) for name in SETTINGS.names}
        rows = [
            {"block": key, **dataclasses.asdict(timing), **settings}
            for key, timing in self.entries.items()
        ]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, contents: bytes, name: str = "latency table") -> LatencyTable:
        """Return the table that a Parquet file's contents hold; `name` stands in errors.

        Raises:
            ValueError: the contents are corrupt, not such a table, or of several devices.
        """
        try:
            # Threads that read for a process that ends at once may abort it.
            table = pq.ParquetFile(io.BytesIO(contents)).read(use_threads=False)
            table = table.select(SCHEMA.names).cast(SCHEMA)
            rows: list[dict[str, Any]] = table.to_pylist()
            settings = {tuple(row[key] for key in SETTINGS.names) for row in rows}
            if len(settings) != 1:
                raise ValueError(f"it holds {len(settings)} devices or settings; allowed: 1")
            entries = {row["block"]: Timing(row["median_us"], row["iqr_us"]) for row in rows}
            return cls(**dict(zip(SETTINGS.names, settings.pop(), strict=True)), entries=entries)
        except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
            reason = str(error).strip("'\" \n").splitlines()[:1] or [type(error).__name__]
            raise ValueError(f"{name}: not a latency table: {reason[0]}") from error

    @classmethod
    def read(cls, path: Path | str) -> LatencyTable:
        """Return the table in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is corrupt or not a latency table.
        """
        return cls.from_bytes(Path(path).read_bytes(), str(path))
