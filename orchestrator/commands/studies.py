"""Studies and their directories: what there is, what a file may say, compacting, exporting."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.commands.fronts import loaded
from orchestrator.compaction import compact as compact_study
from orchestrator.config import ready_studies, study_schema
from orchestrator.export import export_candidate
from orchestrator.loading import Study, finished, load, shown
from orchestrator.printing import AsJson, one_line, print_json, print_lines, print_rows
from orchestrator.results import ResultsError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study file, for editors."""
    print_json(study_schema())


@app.command("list")
def list_studies(
    directory: Annotated[str, typer.Argument(help="A folder of study directories.")] = "runs",
    as_json: AsJson = False,
) -> None:
    """List the ready studies, and the studies in a folder."""
    found = [
        study for path in sorted(Path(directory).glob("*/study.yaml")) if (study := _listed(path))
    ]
    rows = [
        {
            "directory": study.directory,
            "study": study.name,
            "method": study.config["method"]["name"],
            "candidates": len(study.records) + sum(study.left_out.values()),
            "finished": len(study.finished()) + study.left_out.get("finished", 0),
            "front": len(study.front()),
        }
        for study in found
    ]
    if as_json:
        print_json({"ready": ready_studies(), "studies": rows})
        return
    print_lines([f"ready studies: {', '.join(ready_studies())}"])
    print_rows(rows)


@app.command()
def compact(directory: Annotated[str, typer.Argument(help="A study's directory.")]) -> None:
    """Merge the many small files of a study's tables into few large ones."""
    print_rows([asdict(table) for table in compact_study(directory)])


@app.command()
def export(
    directory: Annotated[str, typer.Argument(help="A study's directory.")],
    candidate: Annotated[str, typer.Argument(help="A finished candidate's id.")],
    kind: Annotated[
        Literal["onnx", "safetensors"], typer.Option("--format", help="What to write.")
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file (default: <candidate>.<format>).")
    ] = None,
) -> None:
    """Write a finished network to a file; ONNX is checked in onnxruntime against torch."""
    path = out or Path(f"{candidate}.{kind}")
    print_lines([export_candidate(loaded(directory, finished), candidate, kind, path)])


def _listed(path: Path) -> Study | None:
    try:
        return load(str(path.parent), shown)
    except ResultsError as error:
        sys.stderr.write(f"warning: {one_line(error)}\n")
        return None
