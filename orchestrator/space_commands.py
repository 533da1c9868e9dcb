"""The commands about a search space, which need no study."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cost_models.backends import BackendError
from cost_models.latency_table import LatencyTable
from orchestrator.additivity import Check, check, check_plot, draw, write_plot
from orchestrator.config import InputError, Latency, read_settings, validate
from orchestrator.measuring import measure_space, named_space
from orchestrator.printing import AsJson, print_json, print_lines, print_rows
from orchestrator.view import View

app = typer.Typer()


@app.command()
def measure(
    space: Annotated[str, typer.Argument(help="A search space, such as gpunet.")],
    out: Annotated[Path, typer.Option(help="The latency table; what it holds already is kept.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set an option: preset=gpunet_28.", metavar="K=V"),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="onnxruntime, torch_cpu, torch_cuda or trtexec (FP16).")
    ] = Latency.backend,
    threads: Annotated[int, typer.Option(help="That compute one call.")] = Latency.threads,
    count: Annotated[
        int | None,
        typer.Option(
            "--check",
            min=2,
            metavar="N",
            help="Then measure N random networks whole, and compare with what the table predicts.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the networks that --check draws.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="The scatter plot of --check (default: <out>-check.png)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure every block of a space on this machine, for `latency.table`.

    It need not be where searches run: measure on the target device, and carry the table over.
    Interrupted, the same line goes on where it was.
    """
    latency = validate(Latency, {"backend": backend, "threads": threads}, "latency")
    plot = _plot(plot, out, count)
    built = named_space(space, read_settings(settings or ()))
    try:
        with View(Console(stderr=True)) as view:
            table = measure_space(built, latency, out, view)
            found = check(built, table, count, seed, view) if count else None
    except BackendError as error:
        raise InputError(str(error)) from error
    except KeyboardInterrupt:
        sys.stderr.write("paretoray: interrupted; the same line goes on\n")
        raise typer.Exit(130) from None
    if found is not None:
        write_plot(draw(found, f"{built.name}, {table.backend}, {table.device}"), plot)
    if as_json:
        print_json(_measured_json(table, out, found, plot))
    else:
        print_lines([str(out)])
        _print_check(found, plot)


def _plot(given: Path | None, out: Path, count: int | None) -> Path:
    if given is not None and count is None:
        raise InputError(f"--plot {given}: nothing to draw without --check N")
    path = given or out.with_name(f"{out.stem}-check.png")
    check_plot(path)
    return path


def _measured_json(table: LatencyTable, out: Path, found: Check | None, plot: Path) -> Any:
    settings = {
        field.name: getattr(table, field.name)
        for field in dataclasses.fields(table)
        if field.name != "entries"
    }
    measured = {"table": str(out), **settings, "blocks": len(table.entries)}
    if found is None:
        return measured
    agreements = {name: dataclasses.asdict(near) for name, near in found.agreements().items()}
    return {
        **measured,
        "check": {"plot": str(plot), "agreements": agreements, "networks": found.networks()},
    }


def _print_check(found: Check | None, plot: Path) -> None:
    if found is None:
        return
    print_rows(
        [
            {
                "prediction": name.replace("_", " "),
                "spearman": near.spearman,
                "MAPE": f"{near.mape:.1%}",
                "bias": f"{near.bias:+.1%}",
                "within 10 %": f"{near.within_10_percent:.0%}",
            }
            for name, near in found.agreements().items()
        ]
    )
    print_lines([str(plot)])
