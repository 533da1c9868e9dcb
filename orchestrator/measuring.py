"""Latency tables, measured in parts that are kept as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cost_models.latency_probe import measure
from cost_models.latency_table import LatencyTable
from orchestrator.config import Latency, nearest, validate
from orchestrator.view import View
from search_spaces import SPACES
from search_spaces.base import Block, SearchSpace
from workers.errors import InputError
from workers.storage import Storage

BLOCKS_PER_PART = 16  # what an interrupt can lose
MOST_BLOCKS = 20_000  # of a space: ten minutes on a CPU, days with an engine for each
COARSER = ("channel_multiple", "granularity")  # options of spaces that leave widths out

Parts = Sequence[Sequence[Block]]


class TableMismatchError(ValueError):
    """What is measured now cannot stand beside what was measured before."""


def measured(
    blocks: Sequence[Block],
    known: LatencyTable | None,
    probe: Callable[[Parts], Iterator[LatencyTable]],
    *,
    save: Callable[[LatencyTable], None],
    advance: Callable[[int], None],
) -> LatencyTable:
    """Return a table of all blocks, measuring those that are not known.

    Args:
        blocks: at least one.
        known: what an interrupted run left, or None.
        probe: measures parts one after another, and yields a table for each.
        save: keeps the table of all that is measured so far.
        advance: counts blocks as measured.

    Raises:
        TableMismatchError: `known` is of another device, or was measured in another way.
        BackendError: the back-end cannot run there.
    """
    parts = _parts(missing(blocks, known))
    for part, table in zip(parts, probe(parts), strict=True):
        known = table if known is None else _joined(known, table)
        save(known)
        advance(len(part))
    assert known is not None
    return known


def missing(blocks: Sequence[Block], known: LatencyTable | None) -> list[Block]:
    """Return the blocks that a table lacks."""
    return [block for block in blocks if known is None or block.key not in known.entries]


def _joined(known: LatencyTable, table: LatencyTable) -> LatencyTable:
    try:
        return known.joined(table)
    except ValueError as error:
        raise TableMismatchError(str(error)) from error


def named_space(name: str, options: dict[str, Any]) -> SearchSpace:
    """Return a search space by its name and options, as commands take them.

    Raises:
        InputError: no such space or option, or an impossible value.
    """
    if name not in SPACES:
        known = sorted(SPACES)
        raise InputError(f"SPACE: {name!r} is unknown{nearest(name, known)}; allowed: {known}")
    cls = SPACES[name]
    config = validate(cls.Config, options, "space")
    try:
        space: SearchSpace = cls(config)
    except ValueError as error:
        raise InputError(f"space: {error}") from error
    return space


def measurable_blocks(space: SearchSpace) -> list[Block]:
    """Return every block of a space that has a measurable number of them.

    Raises:
        InputError: there are too many; names the option that makes them fewer.
    """
    blocks = list(islice(space.all_blocks(), MOST_BLOCKS + 1))
    if len(blocks) <= MOST_BLOCKS:
        return blocks
    options = {field.name for field in dataclasses.fields(SPACES[space.name].Config)}
    remedies = [f"; a larger space.{name} leaves some out" for name in COARSER if name in options]
    raise InputError(
        f"space: {space.name!r} has more than {MOST_BLOCKS:,} different blocks to measure"
        + "".join(remedies)
    )


def measure_space(space: SearchSpace, latency: Latency, out: Path, view: View) -> LatencyTable:
    """Measure every block of a space on this machine, into a Parquet file; resume what is there.

    Raises:
        InputError: the space is too large, or the file holds something else.
        BackendError: the back-end cannot run here.
        StorageError: the file cannot be read or written.
    """
    blocks = measurable_blocks(space)
    storage, file = Storage(str(out.absolute().parent)), out.name
    known = _known(storage, file, out, latency)
    done = len(blocks) - len(missing(blocks, known))
    view.stage("measure", f"{len(blocks)} blocks", len(blocks), done)
    probe = partial(measure, backend=latency.backend, threads=latency.threads)
    try:
        return measured(
            blocks,
            known,
            lambda parts: map(probe, parts),
            save=lambda table: storage.write_bytes(file, table.to_bytes()),
            advance=view.advance,
        )
    except TableMismatchError as error:
        raise InputError(f"{out}: {error}; choose another --out") from error


def _known(storage: Storage, file: str, out: Path, latency: Latency) -> LatencyTable | None:
    if not storage.exists(file):
        return None
    try:
        known = LatencyTable.from_bytes(storage.read_bytes(file), str(out))
    except ValueError as error:
        raise InputError(str(error)) from error
    for name in ("backend", "threads"):
        there, asked = getattr(known, name), getattr(latency, name)
        if there != asked:
            raise InputError(
                f"{out}: measured with {name} {there}, not {asked}; choose another --out"
            )
    return known


def _parts(blocks: Sequence[Block]) -> Parts:
    """Cut blocks into parts that mix small and large ones, as networks do."""
    count = -(-len(blocks) // BLOCKS_PER_PART)
    return [blocks[start::count] for start in range(count)]
