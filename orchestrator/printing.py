"""What commands print: lines, tables for people, JSON for programs, and why they fail."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LONGEST_LINE = 400  # of an error that some library makes up
PIPE_WIDTH = 200  # of tables that go to a file or another program
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_lines(lines: list[str]) -> None:
    """Print lines as they are, for people and pipes."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print_lines([json.dumps(value, indent=2, allow_nan=False)])


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print records of equal keys as a table."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in rows[0]:
        number = isinstance(rows[0][key], int | float)
        table.add_column(key.replace("_", " "), justify="right" if number else "left")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."


def fail(reason: str | BaseException, code: int) -> int:
    """Say on standard error why a command fails; return its code."""
    line = reason if isinstance(reason, str) else one_line(reason)
    sys.stderr.write(f"paretoray: {line}\n")
    return code


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
