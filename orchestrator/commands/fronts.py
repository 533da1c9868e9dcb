"""Fronts: a study's, and those of several side by side."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from orchestrator.compare import compare as compare_studies
from orchestrator.compare import front_json
from orchestrator.loading import Choice, Study, load, shown
from orchestrator.printing import AsJson, print_json, print_lines, print_rows
from orchestrator.results import COST_COLUMNS
from workers.errors import InputError
from workers.storage import parent_and_name

WIDEST = 24  # networks whose flips a table has room for
app = typer.Typer(rich_markup_mode=None)


@app.command()
def front(
    directory: Annotated[str, typer.Argument(help="A study's directory.")], as_json: AsJson = False
) -> None:
    """Show a study's finished networks and their Pareto front."""
    study = loaded(directory)
    found = front_json(study)
    if as_json:
        print_json(found)
        return
    rows = found["candidates"]
    if "left_out" in found:
        print_lines([f"the front of {len(rows) + found['left_out']:,} finished networks"])
        rows = [row for row in rows if row["on_front"]]
    print_front(rows)


@app.command()
def compare(
    directories: Annotated[list[str], typer.Argument(help="Studies' directories.")],
    as_json: AsJson = False,
) -> None:
    """Set studies side by side: hypervolume, dominance, negative flips between any two models."""
    try:
        found = compare_studies([loaded(directory) for directory in directories])
    except ValueError as error:
        raise InputError(str(error)) from error
    if as_json:
        print_json(found)
        return
    print_rows(found["studies"])
    _print_dominance(found["dominance"])
    _print_flips(found["flips"])


def loaded(directory: str, choice: Choice = shown) -> Study:
    """Return a study, for a person to look at; what is damaged is told on standard error."""
    study = load(directory, choice)
    for line in study.damaged:
        sys.stderr.write(f"warning: {line}\n")
    return study


def print_front(candidates: list[dict[str, Any]]) -> None:
    """Print networks as a table."""
    accuracies = ("val_accuracy", "test_accuracy", "val_mean_iou", "test_mean_iou")
    more = ("latency_ms", "latency_measured_ms", "macs", "num_params", "nfr")
    always = {"id", "on_front", "val_accuracy", "test_accuracy", *more}
    known = {key for row in candidates for key in accuracies if row[key] is not None}
    keys = [key for key in ("id", "on_front", *accuracies, *more) if key in always | known]
    print_rows([{key: row[key] for key in keys} | _own_cost(row) for row in candidates])


def _own_cost(row: dict[str, Any]) -> dict[str, Any]:
    """Return the study's cost by its name, where it is none of the costs that are shown anyway."""
    return {} if row["cost_name"] in COST_COLUMNS else {row["cost_name"]: row["cost"]}


def _print_dominance(pairs: list[dict[str, Any]]) -> None:
    rows = [
        {"network": f"{pair['directory']}/{name}", "dominates": beaten, "of": pair["other"]}
        for pair in pairs
        for name, beaten in pair["dominates"].items()
    ]
    print_rows(rows)


def _print_flips(flips: dict[str, Any]) -> None:
    models = [(parent_and_name(model["directory"])[1], model) for model in flips["models"]]
    names = [f"{study}/{model['candidate']}" for study, model in models]
    if len(names) > WIDEST:
        print_lines([f"negative flips between {len(names)} networks: --json prints them"])
        return
    rows = [
        {"NFR, replaced by": name, **dict(zip(names, rates, strict=True))}
        for name, rates in zip(names, flips["nfr"], strict=True)
    ]
    print_rows(rows)
