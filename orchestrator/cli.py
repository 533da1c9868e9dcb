"""The command `paretoray`: studies in, Pareto fronts out.

Exit codes: 0 done, 2 bad input, 1 the run failed, 130 interrupted.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console

from orchestrator import space_commands
from orchestrator.compaction import compact as compact_study
from orchestrator.compare import compare as compare_studies
from orchestrator.compare import front_json
from orchestrator.config import (
    InputError,
    StudyConfig,
    load_config,
    ready_studies,
    study_schema,
)
from orchestrator.export import export_candidate
from orchestrator.loading import Study, load, shown
from orchestrator.plan import checked, plan_lines
from orchestrator.printing import AsJson, print_json, print_lines, print_rows
from orchestrator.results import ResultsError
from orchestrator.study import RunError, run_study
from orchestrator.view import View
from workers.executors.connection import ClusterError, cluster_nodes
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.executors.work import ResourceError, check_fits
from workers.storage import DamagedError, StorageError, joined, parent_and_name

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hardware-aware neural architecture search on Ray: studies in, Pareto fronts out.",
)
app.add_typer(space_commands.app)
BAD_INPUT = (
    InputError,
    ClusterError,
    ResourceError,
    ResultsError,
    DamagedError,
    FileNotFoundError,
)
LONGEST_LINE = 400  # of an error that some library makes up
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: search.batch=4.", metavar="K=V")
]


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A YAML file, or the name of a ready study.")],
    settings: Settings = None,
    directory: Annotated[
        str | None, typer.Option("--dir", help="The study's directory (default: STORAGE/STUDY).")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster (default: RAY_ADDRESS, else a local Ray).")
    ] = None,
    executor: Annotated[Literal["ray", "serial"], typer.Option(help="Where trials run.")] = "ray",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, print the plan, stop.")
    ] = False,
) -> None:
    """Run a study, or resume it, in its directory."""
    config = load_config(study, settings or ())
    folder = _directory(config, directory)
    config = checked(config, folder)
    address = address or os.environ.get("RAY_ADDRESS")
    if executor == "ray":
        check_fits(config.resources, config.latency.asked, cluster_nodes(address))
    if dry_run:
        print_lines(plan_lines(config, folder))
        return
    where = " --executor serial" if executor == "serial" else ""
    where += f" --address {address}" if address else ""
    with _resumable(config, folder, where):
        _run(config, folder, executor, address)
    _print_front([row for row in front_json(load(folder, shown))["candidates"] if row["on_front"]])


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
def front(
    directory: Annotated[str, typer.Argument(help="A study's directory.")], as_json: AsJson = False
) -> None:
    """Show a study's finished networks and their Pareto front."""
    study = _loaded(directory)
    found = front_json(study)
    if as_json:
        print_json(found)
        return
    rows = found["candidates"]
    if "left_out" in found:
        print_lines([f"the front of {len(rows) + found['left_out']:,} finished networks"])
        rows = [row for row in rows if row["on_front"]]
    _print_front(rows)


@app.command()
def compare(
    directories: Annotated[list[str], typer.Argument(help="Studies' directories.")],
    as_json: AsJson = False,
) -> None:
    """Set studies side by side: hypervolume, dominance, negative flips between any two models."""
    try:
        found = compare_studies([_loaded(directory) for directory in directories])
    except ValueError as error:
        raise InputError(str(error)) from error
    if as_json:
        print_json(found)
        return
    print_rows(found["studies"])
    _print_dominance(found["dominance"])
    _print_flips(found["flips"])


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
    print_lines([export_candidate(_loaded(directory), candidate, kind, path)])


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except BAD_INPUT as error:
        sys.exit(_fail(_one_line(error), 2))
    except (RunError, StorageError) as error:
        sys.exit(_fail(_one_line(error), 1))


def _run(config: StudyConfig, folder: str, executor: str, address: str | None) -> None:
    console = Console(file=os.fdopen(os.dup(1), "w", buffering=1))
    if executor == "serial":
        with View(console) as view:
            run_study(config, folder, Serial(config.resources), view)
        return
    with _noise_to(folder), View(console) as view:
        cluster = RayCluster(config.resources, address)
        signal.signal(signal.SIGTERM, _interrupt)  # Ray took it over
        try:
            run_study(config, folder, cluster, view)
        finally:
            cluster.close()


def _directory(config: StudyConfig, given: str | None) -> str:
    folder = given or joined(config.storage, config.study)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and not _is_shared(folder):
        raise InputError(
            f"--dir {folder}: relative to a job's working directory, which is thrown away;"
            " give an absolute path on storage that all nodes share"
        )
    return folder if "://" in folder else str(Path(folder).absolute())


def _is_shared(folder: str) -> bool:
    return "://" in folder or Path(folder).is_absolute()


@contextmanager
def _resumable(config: StudyConfig, folder: str, where: str) -> Iterator[None]:
    """Name, for whatever stops a run, the line that resumes it."""
    signal.signal(signal.SIGTERM, _interrupt)
    file = shlex.quote(joined(folder, "study.yaml"))
    resume = f"resume with: paretoray run {file} --dir {shlex.quote(joined(folder, ''))}{where}"
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_fail(f"{config.study}: interrupted; {resume}", 130))
    except BAD_INPUT:
        raise
    except (RunError, StorageError) as error:
        raise type(error)(f"{_one_line(error)}; {resume}") from error
    except Exception as error:
        # The serial executor is for debugging: its traceback is what was asked for.
        if "serial" in where:
            sys.stderr.write("".join(traceback.format_exception(error)))
        raise RunError(f"{type(error).__name__}: {_one_line(error)}; {resume}") from error


@contextmanager
def _noise_to(folder: str) -> Iterator[None]:
    """Send what Ray prints, in this process and below, to a file in the study's directory."""
    if "://" in folder:
        yield
        return
    path = Path(folder) / "logs" / "ray.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with log:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), kept, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


def _loaded(directory: str) -> Study:
    study = load(directory, shown)
    for line in study.damaged:
        sys.stderr.write(f"warning: {line}\n")
    return study


def _listed(path: Path) -> Study | None:
    try:
        return load(str(path.parent), shown)
    except ResultsError as error:
        sys.stderr.write(f"warning: {_one_line(error)}\n")
        return None


def _print_front(candidates: list[dict[str, Any]]) -> None:
    shown = ("id", "on_front", "val_accuracy", "test_accuracy", "latency_ms")
    more = ("latency_measured_ms", "macs", "num_params", "nfr")
    print_rows([{key: row[key] for key in (*shown, *more)} for row in candidates])


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
    rows = [
        {"NFR, replaced by": name, **dict(zip(names, rates, strict=True))}
        for name, rates in zip(names, flips["nfr"], strict=True)
    ]
    print_rows(rows)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"paretoray: {message}\n")
    return code
