"""The latency of every block of a space, in a study's directory: given, or measured once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from cost_models.backends import BackendError
from cost_models.latency_probe import measure
from cost_models.latency_table import LatencyTable
from orchestrator.config import Latency
from orchestrator.measuring import TableMismatchError, measurable_blocks, measured, missing
from orchestrator.view import View
from search_spaces.base import Block, SearchSpace
from workers.errors import InputError
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.storage import DamagedError, Storage

Executor = Serial | RayCluster
TABLE = "latency.parquet"
PARTIAL_TABLE = "latency-partial.parquet"


def block_latencies(
    latency: Latency, storage: Storage, executor: Executor, view: View, space: SearchSpace
) -> LatencyTable:
    """Return the study's latency table; if it has none yet, it gets the given or a measured one.

    Raises:
        DamagedError: the table cannot be read or lacks a block.
        InputError: the space has too many blocks to measure, the back-end cannot run there, or
            blocks that were measured on another device are among those measured here.
    """
    if not storage.exists(TABLE):
        if latency.table is None:
            table = _probed(latency, storage, executor, view, measurable_blocks(space))
        else:
            table = LatencyTable.read(latency.table)
        storage.write_bytes(TABLE, table.to_bytes())
        storage.delete(PARTIAL_TABLE)
    return _table(storage, TABLE, space.all_blocks())


def _probed(
    latency: Latency, storage: Storage, executor: Executor, view: View, blocks: Sequence[Block]
) -> LatencyTable:
    known = None
    if storage.exists(PARTIAL_TABLE):
        known = _table(storage, PARTIAL_TABLE)
    done = len(blocks) - len(missing(blocks, known))
    view.stage("measure", f"{len(blocks)} blocks", len(blocks), done)
    probe = partial(measure, backend=latency.backend, threads=latency.threads)
    try:
        return measured(
            blocks,
            known,
            lambda parts: executor.map(probe, parts, resources=latency.asked),
            save=lambda table: storage.write_bytes(PARTIAL_TABLE, table.to_bytes()),
            advance=view.advance,
        )
    except BackendError as error:
        # Ray puts a traceback into the message, and keeps the error itself.
        raise InputError(f"latency.{getattr(error, 'cause', error)}") from error
    except TableMismatchError as error:
        name = storage.name(PARTIAL_TABLE)
        raise InputError(f"{name}: {error}; delete it to measure all blocks here") from error


def _table(storage: Storage, path: str, blocks: Iterable[Block] = ()) -> LatencyTable:
    """Read a latency table, and make sure that it has these blocks."""
    try:
        table = LatencyTable.from_bytes(storage.read_bytes(path), path)
        for block in blocks:
            table.latency_us(block.key)
    except ValueError as error:
        name = storage.name(path)
        raise DamagedError(f"{name}: {error}; delete it to have it made again") from error
    return table
