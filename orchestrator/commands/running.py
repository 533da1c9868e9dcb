"""Running a study from the command line."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from orchestrator.commands.fronts import print_front
from orchestrator.compare import front_json
from orchestrator.config import StudyConfig, load_config
from orchestrator.loading import load, shown
from orchestrator.plan import checked, plan_lines
from orchestrator.printing import fail, one_line, print_lines
from orchestrator.study import run_study
from orchestrator.view import View
from workers.errors import InputError, RunError
from workers.executors.connection import cluster_nodes
from workers.executors.ray_cluster import RayCluster
from workers.executors.serial import Serial
from workers.executors.work import check_fits
from workers.storage import Storage, StorageError, joined

app = typer.Typer(rich_markup_mode=None)
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
    print_front([row for row in front_json(load(folder, shown))["candidates"] if row["on_front"]])


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
        is_there = Storage(folder).exists("study.yaml")
        line = resume if is_there else "nothing was begun; the same line begins again"
        sys.exit(fail(f"{config.study}: interrupted; {line}", 130))
    except (InputError, FileNotFoundError):
        raise
    except (RunError, StorageError) as error:
        raise type(error)(f"{one_line(error)}; {resume}") from error
    except Exception as error:
        # The serial executor is for debugging: its traceback is what was asked for.
        if "serial" in where:
            sys.stderr.write("".join(traceback.format_exception(error)))
        raise RunError(f"{type(error).__name__}: {one_line(error)}; {resume}") from error


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


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
