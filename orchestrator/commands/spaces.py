"""The commands about a search space, which need no study."""

from __future__ import annotations

import dataclasses
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cost_models.backends import BackendError
from cost_models.distributed import schedule
from cost_models.latency_table import LatencyTable
from orchestrator import gantt
from orchestrator.additivity import Check, check, draw
from orchestrator.config import Latency, read_settings, validate
from orchestrator.costing import (
    chosen_models,
    cost_json,
    find_architecture,
    layer_rows,
    machine_counts,
    mean_network_latency,
    read_table,
)
from orchestrator.measuring import measure_space, named_space
from orchestrator.plots import check_plot, write_plot
from orchestrator.printing import AsJson, print_json, print_lines, print_rows
from orchestrator.view import View
from search_spaces import SPACES
from search_spaces.base import SearchSpace
from workers.errors import InputError
from workers.records import to_json

app = typer.Typer(rich_markup_mode=None)

SpaceName = Annotated[str, typer.Argument(metavar="SPACE", help="A search space, such as gpunet.")]
SpaceSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set an option of the space: preset=gpunet_28.", metavar="K=V"),
]


@app.command()
def cost(
    space: SpaceName,
    arch: Annotated[
        str, typer.Option(metavar="NAME|JSON", help="A preset of the space, or an architecture.")
    ],
    settings: SpaceSettings = None,
    machines: Annotated[
        str, typer.Option(help="The numbers of machines for which `distributed` is computed.")
    ] = "1,2,4",
    table: Annotated[
        Path | None, typer.Option(help="A latency table, which gives latency_ms.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show what every layer adds to costs that add up.")
    ] = False,
    jitter_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The mean of an exponential delay between machines, which gives"
            " network_latency_ms: its mean on the last number of machines.",
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option("--gantt", help="Draw the schedule on the last number of machines."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print every cost of an architecture; one that lacks its input is null."""
    built, options = _space(space, settings)
    counts = machine_counts(machines)
    models = chosen_models(counts)
    if chart is not None:
        check_plot("--gantt", chart)
    architecture = find_architecture(built, arch)
    known = None if table is None else read_table(table)
    costs = cost_json(built, architecture, models, known)
    records = built.layers(architecture)
    placed = schedule(records, counts[-1])
    costs["network_latency_ms"] = mean_network_latency(records, placed, jitter_ms)
    if chart is not None:
        write_plot(gantt.draw(placed, records, f"{space}, {costs['digest']}"), chart)
    if as_json:
        rows = {"layers": layer_rows(records, models)} if layers else {}
        print_json({"space": space, "options": options, **costs, **rows})
        return
    if layers:
        print_rows(layer_rows(records, models))
    units = {name: model.unit for name, model in models.items()}
    units |= {"latency_ms": "ms", "network_latency_ms": "ms"}
    print_rows([{"cost": name, "value": costs[name], "unit": unit} for name, unit in units.items()])


@app.command()
def size(space: SpaceName, settings: SpaceSettings = None, as_json: AsJson = False) -> None:
    """Print the exact number of architectures of a space."""
    built, _ = _space(space, settings)
    exact = built.size()
    if as_json:
        print_json({"size": str(exact)})
    else:
        rounded = f" ({Decimal(exact):.2e})" if exact > 1e6 else ""
        print_lines([f"{exact:,} architectures{rounded}"])


@app.command()
def measure(
    space: SpaceName,
    out: Annotated[Path, typer.Option(help="The latency table; what it holds already is kept.")],
    settings: SpaceSettings = None,
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
    built, _ = _space(space, settings)
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


def _space(name: str, settings: list[str] | None) -> tuple[SearchSpace, dict[str, Any]]:
    """Return a space, and its options with every default written out."""
    given = read_settings(settings or ())
    built = named_space(name, given)
    options = to_json(validate(SPACES[name].Config, given, "space"))
    fitted = {"in_shape": list(built.in_shape), "num_classes": built.num_classes}
    return built, {**options, **fitted}


def _plot(given: Path | None, out: Path, count: int | None) -> Path:
    if given is not None and count is None:
        raise InputError(f"--plot {given}: nothing to draw without --check N")
    if out.name in ("", ".."):
        raise InputError(f"--out {out}: not the name of a file")
    path = given or out.with_name(f"{out.stem}-check.png")
    check_plot("--plot", path)
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
