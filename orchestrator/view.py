"""What a person sees while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 10.0  # between lines about running trials, where nothing can be redrawn
SHOWN = ("search_loss", "train_loss", "latency_ms", "num_blocks", "val_accuracy")
MOST_ROWS = 12


class View:
    """Shows stages and trials on a console; it is told, and asks nothing."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._stage, self._total, self._done = "", 0, 0
        self._started = self._printed = time.monotonic()
        self._fresh = 0
        self._running: dict[str, Mapping[str, Any]] = {}
        self._best: list[Mapping[str, Any]] = []  # of those that ended, as many as are shown

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def stage(self, name: str, detail: str = "", total: int = 0, done: int = 0) -> None:
        """Begin a stage of `total` parts, of which `done` were there already."""
        self._stage, self._total, self._done, self._fresh = name, total, done, 0
        self._started = self._printed = time.monotonic()
        self._running, self._best = {}, []
        there = f", {done} of them done before" if done else ""
        self.note(f"{name}: {detail}{there}" if detail else name)
        if self._live is not None:
            self._live.update(self._table())

    def note(self, text: str) -> None:
        """Say a line that stays."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def advance(self, count: int = 1) -> None:
        """Count parts of the stage as done."""
        self._done += count
        self._fresh += count
        self._draw(f"{self._stage}: {self._done}/{self._total}{self._left()}")

    def row(self, row: Mapping[str, Any]) -> None:
        """Show a trial's report; the one with an outcome or an error ends it."""
        name = str(row["trial"])
        if "outcome" not in row and "error" not in row:
            self._running[name] = row
            self._draw(_line(self._stage, row))
            return
        last = self._running.pop(name, {})
        ended = [*(best for best in self._best if best["trial"] != name), {**last, **row}]
        self._best = heapq.nlargest(MOST_ROWS, ended, key=lambda row: row.get("val_accuracy", 0.0))
        self._printed = float("-inf")  # an end is always worth a line
        numbers = _numbers(last)
        state = f"failed: {row['error']}" if "error" in row else f"done {numbers}"
        self._done += 1
        self._fresh += 1
        self._draw(f"{self._stage}: {name} {state} ({self._done}/{self._total or 1}{self._left()})")

    def _left(self) -> str:
        remaining = self._total - self._done
        if not self._fresh or remaining <= 0:
            return ""
        seconds = (time.monotonic() - self._started) / self._fresh * remaining
        return f", about {_duration(seconds)} left"

    def _draw(self, line: str) -> None:
        if self._live is not None:
            self._live.update(self._table())
        elif time.monotonic() - self._printed > PLAIN_EVERY_S:
            self.note(line)
            self._printed = time.monotonic()

    def _table(self) -> Group:
        room = max(MOST_ROWS - len(self._running), 0)
        rows = [*self._running.values(), *self._best[:room]]
        shown = [name for name in SHOWN if any(name in row for row in rows)]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("trial", "step", *shown) if rows else ():
            justify: Literal["left", "right"] = "left" if name == "trial" else "right"
            table.add_column(name.replace("_", " "), justify=justify)
        for row in rows:
            known = f"{row['step']}/{row.get('steps', '')}" if "step" in row else ""
            step = "failed" if "error" in row else known
            style = "dim" if "outcome" in row else None
            values = (_number(row.get(name)) for name in shown)
            table.add_row(str(row["trial"]), step, *values, style=style)
        elapsed = _duration(time.monotonic() - self._started)
        count = f" {self._done}/{self._total}" if self._total else ""
        return Group(table, Text(f"{self._stage}{count}, {elapsed}{self._left()}", style="cyan"))


def _line(stage: str, row: Mapping[str, Any]) -> str:
    if "step" not in row:
        return f"{stage}: {row['trial']} started"
    return f"{stage}: {row['trial']} step {row.get('step')}/{row.get('steps')} {_numbers(row)}"


def _numbers(row: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_number(row[name])}" for name in SHOWN if name in row)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
