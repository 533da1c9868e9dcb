"""What a person sees on a terminal while a study runs."""

from __future__ import annotations

import io
import re

from rich.console import Console

from orchestrator.view import MOST_ROWS, View


def last_frame(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    frame = console.file.getvalue().split("\x1b[2K")[-1]  # a frame begins by clearing lines
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame)


def test_the_table_has_what_runs_and_the_best_of_what_ended() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=40)
    accuracies = [(7 * index) % 30 / 100 for index in range(30)]
    with View(console) as view:
        view.stage("search", total=31)
        for index, accuracy in enumerate(accuracies):
            view.row({"trial": f"t{index:02d}", "step": 1, "steps": 1, "val_accuracy": accuracy})
            view.row({"trial": f"t{index:02d}", "outcome": "there"})
        view.row({"trial": "t30", "step": 1, "steps": 2})
        again = accuracies.index(max(accuracies))  # a trial that was lost as it ended ends twice
        view.row({"trial": f"t{again:02d}", "val_accuracy": max(accuracies), "outcome": "there"})
    best = sorted(range(30), key=lambda index: -accuracies[index])[: MOST_ROWS - 1]
    shown = re.findall(r"^t\d\d", last_frame(console), re.MULTILINE)
    assert shown == ["t30", *(f"t{index:02d}" for index in best)]
