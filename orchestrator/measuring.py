"""Latency tables, measured in parts that are kept as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cost_models.latency_probe import measure
from cost_models.latency_table import LatencyTable
from orchestrator.config import InputError, Latency, nearest, validate
from orchestrator.view import View
from search_spaces import SPACES
from search_spaces.base import Block, SearchSpace
from workers.storage import Storage

BLOCKS_PER_PART = 16  # what an interrupt can lose

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
        ValueError: the back-end cannot run there.
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


def measure_space(
    name: str, options: dict[str, Any], latency: Latency, out: Path, view: View
) -> None:
    """Measure every block of a space on this machine, into a Parquet file; resume what is there.

    Raises:
        InputError: no such space or option, or the file holds something else.
        StorageError: the file cannot be written.
    """
    blocks = list(_space(name, options).all_blocks())
    storage, file = Storage(str(out.absolute().parent)), out.name
    probe = partial(measure, backend=latency.backend, threads=latency.threads)
    try:
        known = LatencyTable.read(out) if storage.exists(file) else None
        _check_alike(known, latency)
        done = len(blocks) - len(missing(blocks, known))
        view.stage("measure", f"{len(blocks)} blocks", len(blocks), done)
        measured(
            blocks,
            known,
            lambda parts: map(probe, parts),
            save=lambda table: storage.write_bytes(file, table.to_bytes()),
            advance=view.advance,
        )
    except ValueError as error:
        raise InputError(f"{out}: {error}") from error


def _space(name: str, options: dict[str, Any]) -> SearchSpace:
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


def _check_alike(known: LatencyTable | None, latency: Latency) -> None:
    for name in ("backend", "threads"):
        there, asked = getattr(known, name, None), getattr(latency, name)
        if known is not None and there != asked:
            raise ValueError(f"measured with {name} {there}, not {asked}; choose another --out")


def _parts(blocks: Sequence[Block]) -> Parts:
    """Cut blocks into parts that mix small and large ones, as networks do."""
    count = -(-len(blocks) // BLOCKS_PER_PART)
    return [blocks[start::count] for start in range(count)]
