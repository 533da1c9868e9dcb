"""The latency of every block of a space, in a study's directory: given, or measured once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cost_models.latency_probe import measure
from cost_models.latency_table import LatencyTable
from orchestrator.config import InputError, Latency
from orchestrator.view import View
from search_spaces.base import Block
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.storage import DamagedError, Storage

Executor = Serial | RayCluster
TABLE = "latency.parquet"
PARTIAL_TABLE = "latency-partial.parquet"
BLOCKS_PER_PART = 16  # what an interrupt can lose


def block_latencies(
    latency: Latency, storage: Storage, executor: Executor, view: View, blocks: Sequence[Block]
) -> LatencyTable:
    """Return the study's latency table; if it has none yet, it gets the given or a measured one.

    Raises:
        DamagedError: the table cannot be read or lacks a block.
        InputError: blocks that were measured on another device are among those measured here.
    """
    if not storage.exists(TABLE):
        if latency.table is None:
            table = _probed(latency, storage, executor, view, blocks)
        else:
            table = LatencyTable.read(latency.table)
        storage.write_bytes(TABLE, table.to_bytes())
        storage.delete(PARTIAL_TABLE)
    return _table(storage, TABLE, blocks)


def _probed(
    latency: Latency, storage: Storage, executor: Executor, view: View, blocks: Sequence[Block]
) -> LatencyTable:
    """Measure blocks in parts, each kept as it comes, so that an interrupt loses one part."""
    known = None
    if storage.exists(PARTIAL_TABLE):
        known = _table(storage, PARTIAL_TABLE)
    left = [block for block in blocks if known is None or block.key not in known.entries]
    view.stage("measure", f"{len(blocks)} blocks", len(blocks), len(blocks) - len(left))
    # Every part mixes small and large blocks, as networks do.
    count = -(-len(left) // BLOCKS_PER_PART)
    parts = [left[start::count] for start in range(count)]
    probe = partial(measure, backend=latency.backend, threads=latency.threads)
    tables = executor.map(probe, parts, resources=latency.asked)
    for part, table in zip(parts, tables, strict=True):
        known = table if known is None else _joined(known, table, storage)
        storage.write_bytes(PARTIAL_TABLE, known.to_bytes())
        view.advance(len(part))
    assert known is not None
    return known


def _table(storage: Storage, path: str, blocks: Sequence[Block] = ()) -> LatencyTable:
    """Read a latency table, and make sure that it has these blocks."""
    try:
        table = LatencyTable.from_bytes(storage.read_bytes(path), path)
        for block in blocks:
            table.latency_us(block.key)
    except ValueError as error:
        name = storage.name(path)
        raise DamagedError(f"{name}: {error}; delete it to have it made again") from error
    return table


def _joined(known: LatencyTable, measured: LatencyTable, storage: Storage) -> LatencyTable:
    try:
        return known.joined(measured)
    except ValueError as error:
        name = storage.name(PARTIAL_TABLE)
        raise InputError(f"{name}: {error}; delete it to measure all blocks here") from error
