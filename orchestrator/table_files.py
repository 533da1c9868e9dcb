"""The files of a table: one for each part, and merged ones that hold many parts.

    results/<table>/<part>.parquet             a part as it was written
    results/<table>/merged~000003.parquet      many parts, in the order of their files' names

A part's own name has no tilde. A merged file says in its metadata which parts it holds, and how
many rows of each. Of several merged files that hold a part the last one counts, and the part's own
file only where none does: a merged file takes the place of what it was made of at the moment that
it appears, whether or not the rest is deleted afterwards. A merged part that is written again is
replaced within its merged file, so that it never is in two places.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.storage import DamagedError, Storage, StorageError

SCHEMA_VERSION = 1
SUFFIX = ".parquet"
MERGED = "merged~"
HELD = "paretoray.parts"
Held = Mapping[str, int]
"""Parts in the order of their files' names, and the number of rows of each."""


@dataclass(frozen=True)
class Layout:
    """Which files of a table count: merged ones, with what they hold, and parts' own.

    Others have taken the place of those that are `replaced`.
    """

    merged: Mapping[str, Held]
    own: Sequence[str]
    replaced: Sequence[str]


class TableFiles:
    """The files of one table.

    Args:
        storage: the study's directory.
        folder: the table's, in the storage.
        schema: the table's; files of other versions may lack columns, or have more.
    """

    def __init__(self, storage: Storage, folder: str, schema: pa.Schema) -> None:
        self.storage, self.folder, self.schema = storage, folder, schema
        self._decoded: dict[str, tuple[bytes, Held]] = {}
        self._places: dict[str, str] | None = None

    def layout(self, damaged: list[str] | None = None) -> Layout:
        """Return which files count.

        Args:
            damaged: collects a line for every merged file that cannot be read.

        Raises:
            DamagedError: a merged file cannot be read, and `damaged` is None; names it.
        """
        paths, merged, seen = self.storage.list(self.folder), dict[str, Held](), set[str]()
        for path in reversed([path for path in paths if is_merged(path)]):
            try:
                held = self._held(path, self._schema(path))
            except (DamagedError, StorageError) as error:
                if _is_gone(error):
                    return self.layout(damaged)
                if damaged is None:
                    raise
                damaged.append(str(error))
                continue
            if seen.isdisjoint(held):
                merged[path] = held
            seen.update(held)  # `|=` with keys would copy what was seen
        own = [path for path in paths if not is_merged(path) and part_of(path) not in seen]
        replaced = set(paths).difference(merged, own)
        return Layout(merged, own, sorted(replaced))

    def parts(self) -> set[str]:
        """Return the names of all parts.

        Raises:
            DamagedError: a merged file cannot be read; names it.
        """
        layout = self.layout()
        return {part_of(path) for path in layout.own}.union(*layout.merged.values())

    def read(
        self,
        damaged: list[str],
        columns: Sequence[str] | None = None,
        candidates: Collection[str] | None = None,
        parts: Set[str] | None = None,
    ) -> pa.Table:
        """Return the table, parts in the order of their files' names.

        Args:
            damaged: collects a line for every file that cannot be read.
            columns: those to read; default: all.
            candidates: those whose rows to read, in whichever files they are; default: all.
            parts: those to read, and no other file; default: all.
        """
        lines: list[str] = []
        schema = self.schema if columns is None else pa.schema(map(self.schema.field, columns))
        read = list[tuple[pa.Table, Held]]()
        layout = self.layout(lines)
        merged = [path for path, held in layout.merged.items() if _has(held.keys(), parts)]
        own = [path for path in layout.own if _has({part_of(path)}, parts)]
        wanted = None if candidates is None else pa.array(list(candidates), pa.string())
        for path in (*merged, *own):
            try:
                read.append(self._rows(path, columns, wanted, parts))
            except (DamagedError, StorageError) as error:
                if _is_gone(error):
                    return self.read(damaged, columns, candidates, parts)
                lines.append(str(error))
        damaged += lines
        return _ordered([(schema.empty_table(), {}), *read])

    def table(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a file; columns that it lacks are left out.

        Raises:
            DamagedError: the file is no Parquet, or its columns have other types; names it.
            StorageError: the file cannot be read.
        """
        data = pa.BufferReader(self.storage.read_bytes(path))
        with self._named_damage(path):
            # Threads that read for a process that ends at once may abort it.
            table = pq.ParquetFile(data).read(columns, use_threads=False)
            pa.unify_schemas([self.schema, table.schema])
            return table

    def write(self, part: str, rows: pa.Table) -> None:
        """Write or replace a part, where it is.

        Raises:
            DamagedError: a merged file cannot be read; names it.
            StorageError: the file cannot be written.
        """
        if self._places is None:
            merged = self.layout().merged
            self._places = {name: path for path, held in merged.items() for name in held}
        path = self._places.get(part)
        if path is None:
            self._save(f"{self.folder}/{part}{SUFFIX}", rows, {})
            return
        before = self.table(path)
        held = self._held(path, before.schema)
        ends = dict(zip(held, accumulate(held.values()), strict=True))
        rest = before.slice(0, ends[part] - held[part]), rows, before.slice(ends[part])
        table = pa.concat_tables(rest, promote_options="default")
        self._save(path, table, {**held, part: len(rows)})

    def merge(self, paths: Sequence[str]) -> None:
        """Merge files into a new one, which takes their place, and delete them."""
        read = [self._rows(path, None, None, None) for path in paths]
        rows = [item for _, held in read for item in held.items()]
        merged = [path for path in self.storage.list(self.folder) if is_merged(path)]
        number = 1 + max((int(part_of(path).removeprefix(MERGED)) for path in merged), default=-1)
        held = dict(sorted(rows, key=lambda row: row[0] + SUFFIX))
        self._save(f"{self.folder}/{MERGED}{number:06d}{SUFFIX}", _ordered(read), held)
        for path in paths:
            self.storage.delete(path)

    def _save(self, path: str, rows: pa.Table, held: Held) -> None:
        about = {"paretoray.schema_version": str(SCHEMA_VERSION)}
        about |= {HELD: json.dumps(held)} if held else {}
        sink = pa.BufferOutputStream()
        pq.write_table(rows.replace_schema_metadata(about), sink)
        self.storage.write_bytes(path, sink.getvalue().to_pybytes())

    def _rows(
        self,
        path: str,
        columns: Sequence[str] | None,
        candidates: pa.Array | None,
        parts: Set[str] | None,
    ) -> tuple[pa.Table, Held]:
        """Return the rows that are wanted of a file, and how many each part has of them."""
        table = self.table(path, columns if candidates is None else ["candidate"])
        held = self._held(path, table.schema) if is_merged(path) else {part_of(path): len(table)}
        if candidates is None and parts is None:
            return table, held
        counts = list(held.values())
        mask = np.repeat([parts is None or part in parts for part in held], counts)
        if candidates is not None:
            mask &= np.asarray(pc.is_in(table["candidate"], candidates), bool)
            table = self.table(path, columns) if mask.any() else table
        part = np.repeat(np.arange(len(held)), counts)
        left = np.bincount(part[mask], minlength=len(held)).tolist()
        return table.filter(mask), dict(zip(held, left, strict=True))

    def _schema(self, path: str) -> pa.Schema:
        data = pa.BufferReader(self.storage.read_bytes(path))
        with self._named_damage(path):
            return pq.read_schema(data)

    def _held(self, path: str, schema: pa.Schema) -> Held:
        """Return the parts that a merged file of this schema holds; a long list is decoded once."""
        with self._named_damage(path):
            encoded = (schema.metadata or {}).get(HELD.encode(), b"")
            if self._decoded.get(path, (None, {}))[0] != encoded:
                self._decoded[path] = encoded, json.loads(encoded)
            return self._decoded[path][1]

    @contextmanager
    def _named_damage(self, path: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            line = f"{self.storage.name(path)}: damaged, delete it to have it made again"
            raise DamagedError(f"{line} ({str(error).splitlines()[0]})") from error


def is_merged(path: str) -> bool:
    """Tell whether a file holds parts that were merged."""
    return part_of(path).startswith(MERGED)


def part_of(path: str) -> str:
    """Return the part that a file is named after."""
    return path.rsplit("/", 1)[-1].removesuffix(SUFFIX)


def _has(held: Set[str], wanted: Set[str] | None) -> bool:
    return wanted is None or not held.isdisjoint(wanted)


def _is_gone(error: Exception) -> bool:
    """Tell whether a file was there a moment ago: it was merged meanwhile."""
    return isinstance(error.__cause__, FileNotFoundError)


def _ordered(read: Sequence[tuple[pa.Table, Held]]) -> pa.Table:
    """Return the rows of files in the order of their parts' files; each file's own are in order."""
    by_name = sorted(read, key=lambda each: _span(each[1])[0])
    table = pa.concat_tables([rows for rows, _ in by_name], promote_options="default")
    spans = [_span(held) for _, held in by_name]
    if all(one[1] <= other[0] for one, other in pairwise(spans)):
        return table
    parts = [item for _, held in by_name for item in held.items()]
    names = [name + SUFFIX for name, _ in parts]
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return table.take(np.argsort(np.repeat(places, [count for _, count in parts]), kind="stable"))


def _span(held: Held) -> tuple[str, str]:
    """Return the names of the first and the last part's file; of none, what precedes all others."""
    names = list(held) or [""]
    return names[0] + SUFFIX, names[-1] + SUFFIX
