"""`report.html`: one page that shows a study, complete in itself and without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.graph_objects import Figure
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from ruamel.yaml import YAML

from orchestrator import dynamic, figures, fractions
from orchestrator.drawings import Column, draw
from orchestrator.fabric_drawings import draw_fabric
from orchestrator.families import averaged, changes, families, shown_split
from orchestrator.figure_parts import axis_title, point_label
from orchestrator.loading import Study
from orchestrator.norm_figures import norm_histogram
from orchestrator.results import COST_COLUMNS, Record
from search_spaces import SPACES
from search_spaces.base import SearchSpace
from search_spaces.fabric import Fabric
from workers.records import from_json


@dataclass(frozen=True)
class Network:
    """A row of the table of networks; differences are against the hand-made baseline."""

    record: Record
    point: str
    speed_up: float | None
    gain: float | None


@dataclass(frozen=True)
class Cell:
    """A search's outcome in the table of corrections."""

    loss: float
    layers: float | None
    best: bool


def render(study: Study) -> str:
    """Return the report of a study as HTML; user-provided strings are escaped."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "duration": _duration}
    found = averaged(families(study))
    subnets = fractions.subnets(study)
    drawn = {
        "front": figures.front(study),
        "selection": figures.model_selection(study),
        "progress": figures.progress(study),
        "flips": figures.flips(study),
        "losses": figures.loss_against_latency(study),
        "latencies": figures.latency_check(study),
        "over_latency": figures.accuracy_over_latency(study),
        "compute": figures.hypervolume_over_compute(study),
        "norms": norm_histogram(study),
        "subnets": fractions.against_macs(subnets),
        "widths": dynamic.over_widths(study),
    }
    return environment.get_template("report.html").render(
        study=study,
        figures={name: _html(name, figure) for name, figure in drawn.items() if figure},
        plotly=Markup(get_plotlyjs()),
        cost=axis_title(study.cost_name),
        has_own_cost=study.cost_name not in COST_COLUMNS,
        tiles=tiles(study),
        networks=networks(study),
        dynamic=dynamic.rows(study),
        subnets=subnets,
        subnet_points=fractions.points(subnets),
        subnet_rows=fractions.by_fraction(subnets),
        subnet_accuracy=fractions.shown_accuracy(subnets),
        drawing=_drawing(study, fractions.columns(subnets)),
        graphs=[Markup(svg) for svg in graphs(study).values()],
        corrections=corrections(study),
        families=found,
        changes=changes(found),
        families_split="test" if shown_split(study) == "test" else "validation",
        rank_correlations=rank_correlations(study),
        latency_errors=latency_errors(study),
        config=_yaml(study.config),
        versions=_versions(study),
    )


def graphs(study: Study) -> dict[str, str]:
    """Return, by its candidate, an SVG of every architecture to be shown that is a graph."""
    fabric = getattr(_space(study), "fabric", None)
    if not isinstance(fabric, Fabric):
        return {}
    return {
        record["candidate"]: draw_fabric(fabric, record["architecture"], *_heading(record))
        for record in _drawn(study)
    }


def networks(study: Study) -> list[Network]:
    """Return the finished networks, cheapest first, beside the first hand-made one (Table 2)."""
    baseline = next((r for r in study.finished() if r["preset"] is not None), None)
    return [
        Network(record, _point(record), *_against(record, baseline)) for record in study.finished()
    ]


def corrections(study: Study) -> tuple[list[str], list[tuple[str, list[Cell | None]]]] | None:
    """Return Table 5: search loss and layer count by alpha and (phi, lambda).

    Returns:
        Column titles, and for each alpha its title and a cell for each column (a mean over
        seeds; None where nothing was searched). None if the method has no such parameters.
    """
    cells: dict[tuple[float, tuple[float, float]], list[Record]] = {}
    for record in study.records:
        params = record["params"]
        if {"alpha", "phi", "lambda"} <= set(params) and record["search_loss"] is not None:
            place = (params["alpha"], (params["phi"], params["lambda"]))
            cells.setdefault(place, []).append(record)
    if not cells:
        return None
    columns = sorted({column for _, column in cells}, key=lambda c: (c[0], -c[1]))
    rows = []
    for alpha in sorted({alpha for alpha, _ in cells}, reverse=True):
        losses = {c: _mean(cells[alpha, c], "search_loss") for c in columns if (alpha, c) in cells}
        best = min(value for value in losses.values() if value is not None)
        row = [_cell(cells.get((alpha, c), []), losses.get(c), best) for c in columns]
        rows.append((f"α = {alpha:g}", row))
    return [f"φ, λ = {phi:g}, {lambda_:g}" for phi, lambda_ in columns], rows


def rank_correlations(study: Study) -> list[tuple[str, float, int]]:
    """Return (what, Spearman's rho, number of networks) for pairs that are worth a look."""
    found = [record for record in study.records if record["preset"] is None]
    finished = [record for record in found if record["stage"] == "finished"]
    flat = [record["params"] | record for record in found]
    pairs = [
        ("search loss and final accuracy", finished, "search_loss", "val_accuracy"),
        ("α and predicted latency of all searched", flat, "alpha", "latency_ms"),
        ("predicted and measured latency", study.finished(), "latency_ms", "latency_measured_ms"),
    ]
    rows = [(what, *_spearman(records, first, second)) for what, records, first, second in pairs]
    return [(what, rho, count) for what, rho, count in rows if rho is not None]


def latency_errors(study: Study) -> Mapping[str, float] | None:
    """Return mean absolute error and share within 10 % of predicted latencies, as fractions."""
    pairs = figures.latency_pairs(study)
    if not pairs:
        return None
    errors = np.array([abs(predicted / measured - 1) for _, predicted, measured in pairs])
    return {"mean": float(errors.mean()), "within_10_percent": float((errors <= 0.1).mean())}


def tiles(study: Study) -> list[tuple[str, str]]:
    """Return (figure, what it is) for the head of the page."""
    front, found = study.front(), [r for r in study.records if r["preset"] is None]
    searched = len(found) + sum(study.left_out.values())
    shown = [(str(searched), "networks searched"), (str(len(front)), "on the front")]
    if front:
        best = max(front, key=lambda record: float(record["val_accuracy"]))
        shown.append((f"{best['val_accuracy']:.2%}", "best validation accuracy"))
        ratio = front[-1]["cost"] / front[0]["cost"] if front[0]["cost"] else 1.0
        cost = axis_title(study.cost_name).removesuffix(" (ms)")
        shown.append((f"{ratio:.1f}×", f"from end to end in {cost}"))
    no_worse = [n.speed_up for n in networks(study) if n.speed_up and (n.gain or 0) >= 0]
    if no_worse and max(no_worse) > 1:
        shown.append((f"{max(no_worse):.2f}×", "faster than hand-made, at no loss"))
    seconds = sum(study.trial_seconds().values())
    return [*shown, (_duration(seconds), "of trial time")] if seconds else shown


def _against(record: Record, baseline: Record | None) -> tuple[float | None, float | None]:
    if baseline is None or record is baseline:
        return None, None
    keys = ("latency_measured_ms", "latency_ms")
    known = next((k for k in keys if record[k] is not None and baseline[k] is not None), None)
    speed_up = baseline[known] / record[known] if known else None
    return speed_up, record["val_accuracy"] - baseline["val_accuracy"]


def _point(record: Record) -> str:
    if record["preset"] is not None:
        return "hand-made"
    point = point_label(record["params"])
    return f"{point} (most probable path)" if record.get("most_probable_path") else point


def _cell(records: Sequence[Record], loss: float | None, best: float) -> Cell | None:
    if not records or loss is None:
        return None
    return Cell(loss, _mean(records, "num_irb"), loss == best)


def _mean(records: Sequence[Record], key: str) -> float | None:
    values = [record[key] for record in records if record.get(key) is not None]
    return float(np.mean(values)) if values else None


def _spearman(
    records: Sequence[Mapping[str, Any]], first: str, second: str
) -> tuple[float | None, int]:
    pairs = [(record.get(first), record.get(second)) for record in records]
    known = [pair for pair in pairs if None not in pair]
    # Fewer than three points, or no spread, say nothing about rank.
    if len(known) < 3 or any(len(set(values)) < 2 for values in zip(*known, strict=True)):
        return None, len(known)
    one, other = (pd.Series(values) for values in zip(*known, strict=True))
    return float(one.corr(other, method="spearman")), len(known)


def _drawing(study: Study, nested: Sequence[Column]) -> Markup | None:
    """Return a drawing of nested subnets, else of what is shown in any study."""
    space = _space(study)
    columns = nested or [Column(*_heading(r), r["architecture"]) for r in _drawn(study)]
    if not columns or hasattr(space, "fabric"):
        return None
    return Markup(draw(columns, space.choices))


def _drawn(study: Study) -> list[Record]:
    """Return the networks whose architectures are shown, cheapest first.

    They are the front, hand-made ones, and all subnets of a network that runs at several widths.
    """
    return [
        record
        for record in study.finished()
        if record["on_front"] or record["preset"] is not None or record.get("subnet") is not None
    ]


def _heading(record: Record) -> tuple[str, str]:
    parts = (record["candidate"], record["params"].get("penalty"))
    title = " · ".join(part for part in parts if part)
    return title, f"{record['val_accuracy']:.2%} · {_cost(record)}"


def _space(study: Study) -> SearchSpace:
    options = dict(study.config["space"])
    space = SPACES[options.pop("name")]
    return space(from_json(space.Config, options))


def _cost(record: Record) -> str:
    if record["cost_name"].endswith("_ms"):
        return f"{record['cost']:.3g} ms"
    return f"{_count(record['cost'])} {axis_title(record['cost_name'])}"


def _count(value: float | None) -> str:
    """Write a large number in three digits: 1,234,567 as 1.23 M."""
    if value is None:
        return ""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _html(name: str, figure: Figure) -> Markup:
    config = {
        "displaylogo": False,
        "responsive": True,
        "showSendToCloud": False,  # plotly.js offers an upload; this page is offline
        "modeBarButtonsToRemove": ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
    }
    return Markup(
        to_html(figure, config, full_html=False, include_plotlyjs=False, div_id=f"figure-{name}")
    )


def _yaml(config: Mapping[str, Any]) -> str:
    yaml, text = YAML(), StringIO()
    yaml.default_flow_style = None  # short lists on one line
    yaml.dump(dict(config), text)
    return text.getvalue()


def _versions(study: Study) -> str:
    found = {key: value for record in study.records for key, value in record["versions"].items()}
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))
