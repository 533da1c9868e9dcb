"""Figures as files that commands are asked for."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.figure

from workers.errors import InputError
from workers.storage import Storage

PLOTS = (".pdf", ".png", ".svg")


def check_plot(option: str, path: Path) -> None:
    """Refuse a figure's file before anything is computed for it.

    Raises:
        InputError: its name has no ending that can be drawn; names the option.
    """
    if path.suffix not in PLOTS:
        raise InputError(f"{option} {path}: ends in {path.suffix!r}; allowed: {list(PLOTS)}")


def write_plot(figure: matplotlib.figure.Figure, path: Path) -> None:
    """Write a figure in the format that the file's ending names.

    Raises:
        StorageError: the file cannot be written.
    """
    contents = io.BytesIO()
    figure.savefig(contents, format=path.suffix.removeprefix("."), dpi=150)
    Storage(str(path.absolute().parent)).write_bytes(path.name, contents.getvalue())
