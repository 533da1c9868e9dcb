"""The report's interactive figures. Each is None where its numbers are missing."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.dynamic import explain_symbols, is_dynamic, symbols
from orchestrator.figure_parts import (
    ACCENT,
    ALERT,
    INK,
    MUTED,
    SYMBOLS,
    axis_title,
    crosses,
    draw_curve,
    front_line,
    groups,
    hand_made,
    hover,
    legend,
    points,
    styled,
    titled,
)
from orchestrator.loading import Study
from orchestrator.pareto import hypervolume, objectives, reference_point
from orchestrator.results import Record

# What a search may log, in the order of showing, with the axis title of each.
PROGRESS = {
    "search_loss": "search loss",
    "loss": "search loss",
    "latency_ms": "expected latency (ms)",
    "search_latency_ms": "expected latency (ms)",
    "num_blocks": "blocks left",
    "num_layers": "layers left",
    "mean_cost": "mean cost of drawn networks",
    "likely_edges": "edges more likely on than off",
    "settled": "share of settled edges",
    "reward": "best reward (%)",
    "search_nfr": "its negative flip rate",
    "kept_share": "share of filters kept",
    "norm_deviation": "deviation of kept norms over their mean",
    "step_ms": "time per step (ms)",
    "memory_mb": "memory (MB)",
    "train_loss": "training loss",
}
MAX_PANELS = 6


def front(study: Study) -> go.Figure | None:
    """Error against cost: all finished networks, the front as a line, test errors as crosses."""
    finished = [record for record in study.finished() if record["preset"] is None]
    if not finished:
        return None
    figure = go.Figure()
    front_line(figure, study)
    for label, color, records in groups(study, finished):
        sizes = [13 if record["on_front"] else 9 for record in records]
        opacity = [1.0 if record["on_front"] else 0.45 for record in records]
        legend(figure, label, {"color": color})
        marker = {"color": color, "size": sizes, "opacity": opacity}
        points(figure, records, label, marker | {"symbol": symbols(study, records)})
    explain_symbols(figure, study)
    crosses(figure, study.front(), "front on test data", INK)
    hand_made(figure, study)
    return styled(figure, axis_title(study.cost_name), "validation error (%)", height=480)


def model_selection(study: Study) -> go.Figure | None:
    """Figure 7 of the Budgeted Super Networks paper: all networks, chosen on validation, on test.

    None where test data was read for the front alone, which `front` shows.
    """
    found = [record for record in study.finished() if record["preset"] is None]
    if all(record["on_front"] or record["test_accuracy"] is None for record in found):
        return None
    figure = go.Figure()
    front_line(figure, study)
    marker = {"color": ACCENT, "size": 9}
    legend(figure, "validation", marker)
    points(figure, found, "validation", marker)
    crosses(figure, study.finished(), "test", ALERT)
    hand_made(figure, study)
    return styled(figure, axis_title(study.cost_name), "error (%)", height=480)


def progress(study: Study) -> go.Figure | None:
    """The searches by epoch: loss, expected latency, blocks left, whatever of it was logged."""
    rows = [row for row in study.tables["history"].to_pylist() if row["stage"] == "search"]
    logged = {row["metric"] for row in rows}
    shown = [metric for metric in PROGRESS if metric in logged][:MAX_PANELS]
    if not shown or max(row["step"] for row in rows) < 2:
        return None
    columns = min(3, len(shown))
    titles = [PROGRESS[metric] for metric in shown]
    figure = make_subplots(
        -(-len(shown) // columns),
        columns,
        subplot_titles=titles,
        horizontal_spacing=0.07,
        vertical_spacing=0.16,
    )
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        curves.setdefault((row["trial"], row["metric"]), []).append((row["step"], row["value"]))
    for label, color, records in groups(study, study.records):
        for index, record in enumerate(records):
            for panel, metric in enumerate(shown):
                curve = sorted(curves.get((record["trial"], metric), ()))
                first = index == 0 and panel == 0
                draw_curve(figure, curve, label, color, first, panel, columns)
    figure.update_annotations(font={"size": 13, "color": INK})
    return styled(figure, "", "", height=60 + 270 * -(-len(shown) // columns))


def flips(study: Study) -> go.Figure | None:
    """Negative flip rates of the front on validation data: row replaced by column."""
    matrix = study.nfr_matrix()
    if len(matrix) < 2:
        return None
    names = [escape(name) for name in matrix.index]
    values = 100 * matrix.to_numpy()
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            texttemplate="%{z:.1f}",
            hovertemplate="%{y} → %{x}: %{z:.2f} % of samples turn wrong<extra></extra>",
            colorscale=[[0, "#ffffff"], [0.5, "#f3c9a5"], [1, "#c8553d"]],
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    styled(figure, "replaced by", "in service", height=max(420, 150 + 42 * len(names)))
    figure.update_xaxes(type="category", showgrid=False)
    return figure.update_yaxes(type="category", autorange="reversed", showgrid=False)


def loss_against_latency(study: Study) -> go.Figure | None:
    """Figure 6 of the PruNet paper: search loss against the found network's latency."""
    records = [r for r in study.records if None not in (r["search_loss"], r["latency_ms"])]
    if len(records) < 2:
        return None
    corrections = sorted({_correction(record) for record in records}, reverse=True)
    figure = go.Figure()
    for label, color, members in groups(study, records):
        symbols = [SYMBOLS[corrections.index(_correction(r)) % len(SYMBOLS)] for r in members]
        marker = {"color": color, "size": 10, "symbol": symbols}
        legend(figure, label, {"color": color})
        points(figure, members, label, marker, y=[record["search_loss"] for record in members])
    for symbol, (phi, lambda_) in zip(SYMBOLS, corrections, strict=False):
        if phi is not None and lambda_ is not None:
            legend(figure, f"φ {phi:g}, λ {lambda_:g}", {"color": MUTED, "symbol": symbol})
    return styled(figure, "latency (ms)", "search loss")


def latency_check(study: Study) -> go.Figure | None:
    """Predicted against measured latency, with a band of 10 % about equality."""
    pairs = latency_pairs(study)
    if not pairs:
        return None
    top = 1.08 * max(max(pair[1:]) for pair in pairs)
    figure = go.Figure()
    ends = [0, top]
    band = {"color": "rgba(31,111,139,0.10)", "width": 0}
    figure.add_scatter(x=ends, y=[0, 1.1 * top], mode="lines", line=band, showlegend=False)
    figure.add_scatter(
        x=ends,
        y=[0, 0.9 * top],
        mode="lines",
        line=band,
        fill="tonexty",
        fillcolor="rgba(31,111,139,0.10)",
        name="within 10 %",
    )
    line = {"color": MUTED, "dash": "dot", "width": 1.5}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="equal")
    marker = {"color": ACCENT, "size": 10}
    points(
        figure,
        [pair[0] for pair in pairs],
        "networks",
        marker,
        x=[pair[1] for pair in pairs],
        y=[pair[2] for pair in pairs],
    )
    return styled(figure, "predicted latency (ms)", "measured latency (ms)")


def hypervolume_over_compute(study: Study) -> go.Figure | None:
    """Hypervolume of what was finished so far against the time that trials took.

    Pretraining, all searches and dynamic networks come before the first network that is finished
    alone; equal ones are trained once.
    """
    found = [record for record in study.records if record["preset"] is None]
    finished = {
        (record["digest"], record["seed"], record["trial"] if is_dynamic(record) else None): record
        for record in sorted(found, key=lambda record: record["candidate"], reverse=True)
        if record["stage"] == "finished"
    }
    took = study.trial_seconds()
    if not finished or not took:
        return None
    order = sorted(finished.values(), key=lambda record: record["candidate"])
    spent = sum(seconds for (stage, _), seconds in took.items() if stage != "finish")
    reference = reference_point(objectives(order))
    box = float(reference.prod()) or 1.0  # without any error, there is no volume either
    seconds, volumes = [spent], [0.0]
    for count, record in enumerate(order, 1):
        seconds.append(seconds[-1] + took.get(("finish", record["candidate"]), 0.0))
        volumes.append(100 * hypervolume(objectives(order[:count]), reference) / box)
    figure = go.Figure()
    line = {"color": ACCENT, "width": 2.5, "shape": "hv"}
    minutes = [second / 60 for second in seconds]
    figure.add_scatter(x=minutes, y=volumes, mode="lines+markers", line=line, showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    return styled(
        figure, "compute of all trials (minutes)", "hypervolume so far (% of the reference box)"
    )


def accuracy_over_latency(study: Study) -> go.Figure | None:
    """Figure 8 of the clipped-Lasso paper: error against measured latency, of 1 and 128 samples.

    A row of panels for each device and back-end. None where networks were not measured on batches.
    """
    panels = {"latency_measured_ms": "1 sample (ms)", "latency_batch128_ms": "128 samples (ms)"}
    records = [r for r in study.finished() if all(r.get(key) is not None for key in panels)]
    if len(records) < 2:
        return None
    targets = sorted({_target(record) for record in records})
    titles = [title for target in targets for title in (escape(target), "")]
    figure = make_subplots(
        len(targets),
        len(panels),
        subplot_titles=titles,
        horizontal_spacing=0.1,
        vertical_spacing=0.3 / len(targets),
        shared_yaxes=True,
    )
    styled(figure, "", "", height=60 + 360 * len(targets))
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": INK})
    figure.update_yaxes(title=titled("validation error (%)"), col=1)
    for label, color, _ in groups(study, records):
        legend(figure, label, {"color": color})
    places = [(row, panel) for row in enumerate(targets, 1) for panel in enumerate(panels, 1)]
    for (row, target), (column, key) in places:
        title = titled(panels[key])
        figure.update_xaxes(title=title, rangemode="tozero", row=row, col=column)
        measured = [record for record in records if _target(record) == target]
        for label, color, members in groups(study, measured):
            figure.add_scatter(
                x=[record[key] for record in members],
                y=[100 * (1 - record["val_accuracy"]) for record in members],
                mode="markers",
                marker={"color": color, "size": 10, "symbol": symbols(study, members)},
                name=label,
                legendgroup=label,
                showlegend=False,
                text=[hover(record) for record in members],
                hovertemplate="%{text}<extra></extra>",
                row=row,
                col=column,
            )
    return figure


def latency_pairs(study: Study) -> list[tuple[Record, float, float]]:
    """Return (network, predicted, measured) in milliseconds where both are known."""
    return [
        (record, record["latency_ms"], record["latency_measured_ms"])
        for record in study.finished()
        if None not in (record["latency_ms"], record["latency_measured_ms"])
    ]


def _target(record: Record) -> str:
    return f"{record['latency_backend']} on {record['latency_device']}"


def _correction(record: Record) -> tuple[float | None, float | None]:
    params = record["params"]
    known = "phi" in params and "lambda" in params
    return (params["phi"], params["lambda"]) if known else (None, None)
