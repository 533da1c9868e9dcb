"""Compaction: the small files of a study's tables become few large ones, with the same rows.

Every step leaves a whole study: a merged file takes the place of what it was made of at the moment
that it appears (see `table_files`), and only then is the rest deleted. What a killed compaction
left to delete is deleted by the next one, or by the next run of the study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.directory import claimed
from orchestrator.loading import stored_config
from orchestrator.results import Results, TableName
from orchestrator.table_files import SUFFIX, TableFiles, part_of
from workers.storage import Storage

TABLES: tuple[TableName, ...] = ("candidates", "history", "predictions")  # few have labels
MOST_BYTES = 8 * 2**20  # in a merged file: all of it is written anew when one of its parts is


@dataclass(frozen=True)
class Compacted:
    """How many files a table had before and has now."""

    table: TableName
    before: int
    after: int


def compact(directory: str) -> list[Compacted]:
    """Merge the small files of a study's tables.

    Raises:
        InputError: a driver holds the directory.
        ResultsError: there is no study here.
        DamagedError: a file is not what was written; names it.
        StorageError: a file cannot be read or written.
    """
    storage = Storage(directory)
    stored_config(storage)
    with claimed(storage):
        storage.sweep()
        results = Results(storage)
        return [_compact(table, results.files[table]) for table in TABLES]


def drop_replaced(files: TableFiles) -> None:
    """Delete files whose place a merged one has taken; call it when nobody else writes."""
    for path in files.layout().replaced:
        files.storage.delete(path)


def _compact(table: TableName, files: TableFiles) -> Compacted:
    before = len(files.storage.list(files.folder))
    drop_replaced(files)
    layout = files.layout()
    first = {path: part_of(path) for path in layout.own}
    first |= {path: next(iter(held)) for path, held in layout.merged.items()}
    paths = sorted(first, key=lambda path: first[path] + SUFFIX)
    for batch in list(_batches(files, paths)):
        if len(batch) > 1:
            files.merge(batch)
    return Compacted(table, before, len(files.storage.list(files.folder)))


def _batches(files: TableFiles, paths: Sequence[str]) -> Iterator[list[str]]:
    """Yield files to merge: as many as fit one, so that any two neighbours do not."""
    batch: list[str] = []
    size = 0
    for path in paths:
        more = _bytes(files.table(path))
        if batch and size + more > MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += more
    if batch:
        yield batch


def _bytes(table: pa.Table) -> int:
    """Return the size of a table's values; that of two tables is the sum, unlike Arrow's own."""
    size = 0
    for column in table.columns:
        size += 8 * (len(column) - column.null_count)
        if pa.types.is_string(column.type):
            size += pc.sum(pc.binary_length(column)).as_py() or 0
        elif pa.types.is_list(column.type):
            width = column.type.value_type.bit_width // 8
            size += width * (pc.sum(pc.list_value_length(column)).as_py() or 0)
    return int(size)
