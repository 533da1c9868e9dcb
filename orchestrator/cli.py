"""The command `paretoray`: studies in, Pareto fronts out.

Exit codes: 0 done, 2 bad input, 1 the run failed, 130 interrupted.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperGroup

from orchestrator.printing import fail
from workers.errors import InputError, RunError
from workers.storage import StorageError

MODULES = {
    "run": "running",
    "schema": "studies",
    "list": "studies",
    "front": "fronts",
    "compare": "fronts",
    "compact": "studies",
    "export": "studies",
    "cost": "spaces",
    "size": "spaces",
    "measure": "spaces",
}
"""Each command's module, imported when it is needed: Ray, MLflow and torch take seconds."""


class _Commands(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        module = _imported(f"orchestrator.commands.{MODULES[name]}")
        return typer.main.get_group(module.app).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class _Group(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands()  # type: ignore[assignment]


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def paretoray() -> None:
    """Hardware-aware neural architecture search on Ray: studies in, Pareto fronts out."""


@cache
def _imported(name: str) -> ModuleType:
    """Import a module and spare the garbage collector what stays until the end.

    Going through it takes a quarter of the import, and over a second when the process ends.
    """
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except (InputError, FileNotFoundError) as error:
        sys.exit(fail(error, 2))
    except (RunError, StorageError) as error:
        sys.exit(fail(error, 1))
