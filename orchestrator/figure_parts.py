"""What the report's figures are made of: colours of groups, points, crosses, curves, axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from orchestrator.loading import Study
from orchestrator.pareto import objectives
from orchestrator.results import COST_COLUMNS, Record

INK, MUTED, GRID, ACCENT, ALERT = "#25313b", "#8795a1", "#e9eef1", "#1f6f8b", "#c8553d"
SCALE = ["#f0a04b", "#d9576b", "#8e4c9e", "#3b5ba5", "#0f8b8d"]
FONT = {"family": "Inter, Helvetica Neue, Helvetica, Arial, sans-serif", "size": 13, "color": INK}
GREEK = {"alpha": "α", "beta": "β", "lambda": "λ", "phi": "φ"}
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def groups(study: Study, records: Iterable[Record]) -> list[tuple[str, str, list[Record]]]:
    """Return (label, colour, records) by the sweep parameter that colours stand for.

    That is `alpha` where there is one, else the first parameter that takes several numbers, else
    the first that takes several names. Colours mean the same in every figure of a study;
    hand-made networks are left out.
    """
    found = [record for record in records if record["preset"] is None]
    everything = [record for record in study.records if record["preset"] is None]
    key = colour_key(everything)
    if key is None:
        return [("networks", ACCENT, found)] if found else []
    values = sorted({record["params"][key] for record in everything})
    places = [index / max(1, len(values) - 1) for index in range(len(values))]
    name = GREEK.get(key, escape(key))
    members = [[r for r in found if r["params"][key] == value] for value in values]
    colors = sample_colorscale(SCALE, places)
    return [
        (f"{name} = {escape(f'{value:g}' if _is_number(value) else value)}", color, group)
        for value, color, group in zip(values, colors, members, strict=True)
        if group
    ]


def colour_key(records: Sequence[Record]) -> str | None:
    """Return the sweep parameter that colours stand for, or None if no number or name varies."""
    names: list[set[str]] = [set(record["params"]) for record in records]
    shared = set.intersection(*names) if names else set()
    ordered = sorted(shared - {"seed"}, key=lambda key: (key != "alpha", key))
    for is_kind in (_is_number, _is_name):
        for key in ordered:
            values = [record["params"][key] for record in records]
            if all(map(is_kind, values)) and len(set(values)) > 1:
                return key
    return None


def point_label(params: Mapping[str, Any]) -> str:
    """Return a sweep point for people, without the seed."""
    return " ".join(
        f"{GREEK.get(key, key)} {value}" for key, value in params.items() if key != "seed"
    )


def axis_title(cost_name: str) -> str:
    """Return a cost's name as people write it."""
    kind, _, last = cost_name.rpartition("_")
    if kind == "distributed":
        return f"cycles on {last} machine{'s' * (last != '1')}"
    if last == "ms":
        return f"{kind.replace('_', ' ')} (ms)"
    return {"macs": "MACs", "num_params": "parameters"}.get(cost_name, cost_name.replace("_", " "))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def front_line(figure: go.Figure, study: Study) -> None:
    """Add the front as a line of steps."""
    on_front = study.front()
    errors = 100 * objectives(on_front)[:, 0]
    cost = [record["cost"] for record in on_front]
    line = {"color": ACCENT, "width": 2, "shape": "hv"}  # a front is a staircase
    figure.add_scatter(x=cost, y=errors, mode="lines", line=line, name="front", hoverinfo="skip")


def crosses(figure: go.Figure, records: Sequence[Record], name: str, color: str) -> None:
    """Add the test errors of the networks that have one."""
    tested = [record for record in records if record["test_accuracy"] is not None]
    errors = [100 * (1 - record["test_accuracy"]) for record in tested]
    marker = {"symbol": "x-thin", "size": 9, "line": {"width": 1.8, "color": color}}
    x = [record["cost"] for record in tested]
    figure.add_scatter(x=x, y=errors, mode="markers", marker=marker, name=name)


def hand_made(figure: go.Figure, study: Study) -> None:
    """Add the hand-made networks, each with its name."""
    for record in study.finished():
        if record["preset"] is not None:
            edge = {"width": 2, "color": INK}
            star: dict[str, Any] = {"symbol": "star", "size": 15, "color": "#ffffff", "line": edge}
            legend(figure, escape(record["preset"]), star)
            points(figure, [record], escape(record["preset"]), star)


def points(
    figure: go.Figure,
    records: Sequence[Record],
    name: str,
    marker: dict[str, Any],
    x: Sequence[float] | None = None,
    y: Sequence[float] | None = None,
) -> None:
    """Add networks as points, at their cost and validation error (%) unless told otherwise."""
    figure.add_scatter(
        x=[record["cost"] for record in records] if x is None else x,
        y=[100 * (1 - record["val_accuracy"]) for record in records] if y is None else y,
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=False,
        marker={"line": {"width": 1, "color": "#ffffff"}, **marker},
        text=[hover(record) for record in records],
        hovertemplate="%{text}<extra></extra>",
    )


def legend(figure: go.Figure, name: str, marker: dict[str, Any]) -> None:
    """Add a legend entry; those of the points themselves would look like the first point."""
    marker = {"size": 11, **marker}
    figure.add_scatter(
        x=[None], y=[None], mode="markers", marker=marker, name=name, legendgroup=name
    )


def hover(record: Record) -> str:
    """Return what is shown where the pointer rests on a network."""
    point = ", ".join(f"{key} {value}" for key, value in record["params"].items())
    shown = {
        "validation": _formatted(record["val_accuracy"], "{:.2%}"),
        "test": _formatted(record["test_accuracy"], "{:.2%}"),
        "mean IoU": _formatted(record["val_mean_iou"], "{:.2%}"),
        "latency": _formatted(record["latency_ms"], "{:.4g} ms"),
        "parameters": _formatted(record["num_params"], "{:,}"),
        "MACs": _formatted(record["macs"], "{:,}"),
    }
    if record["cost_name"] not in COST_COLUMNS:
        shown[axis_title(record["cost_name"])] = _formatted(record["cost"], "{:,.6g}")
    lines = [f"<b>{escape(record['candidate'])}</b>", escape(point)]
    return "<br>".join(lines + [f"{key} {value}" for key, value in shown.items() if value])


def _formatted(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def draw_curve(
    figure: go.Figure,
    curve: Sequence[tuple[int, float]],
    label: str,
    color: str,
    in_legend: bool,
    panel: int,
    columns: int,
) -> None:
    """Add a curve of (step, value) to a panel; panels go along rows of `columns`."""
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    figure.add_scatter(
        x=steps,
        y=values,
        mode="lines",
        line={"color": color, "width": 1.4},
        opacity=0.8,
        name=label,
        legendgroup=label,
        showlegend=in_legend,
        hovertemplate=f"{label}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        row=panel // columns + 1,
        col=panel % columns + 1,
    )


def styled(figure: go.Figure, x: str, y: str, height: int = 420) -> go.Figure:
    """Return the figure in the report's look, with titles of both axes."""
    figure.update_layout(
        template="none",
        font=FONT,
        height=height,
        margin={"l": 64, "r": 16, "t": 30, "b": 52 if x else 28},
        hoverlabel={"bgcolor": "#ffffff", "bordercolor": GRID, "align": "left", "font": FONT},
        legend={"bgcolor": "rgba(255,255,255,0.7)", "itemsizing": "constant", "tracegroupgap": 2},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#c3ccd3", "activecolor": ACCENT},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": "#c9d3d9", "ticks": "outside"}
    axis |= {"tickcolor": "#c9d3d9", "automargin": True}
    for update, title in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        update(**axis, **({"title": titled(title)} if title else {}))
    return figure


def titled(text: str) -> dict[str, Any]:
    """Return an axis' title in the report's look."""
    return {"text": text, "standoff": 14, "font": {"size": 13, "color": MUTED}}
