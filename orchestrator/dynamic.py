"""Networks that run at several widths, in the report: Table I, Figures 1 and 9.

Of Yang et al., "Non-uniform DNN Structured Subnets Sampling for Dynamic Inference". A subnet of
such a network is *dynamic*; the same widths trained by themselves are *individual*; *direct* are
filters of the full network without any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.figure_parts import (
    MUTED,
    SYMBOLS,
    groups,
    hover,
    legend,
    point_label,
    points,
    styled,
    titled,
)
from orchestrator.loading import Study
from orchestrator.results import Record

DYNAMIC, INDIVIDUAL, DIRECT = SYMBOLS[:3]
DIRECT_NAME = "direct"


@dataclass(frozen=True)
class Row:
    """A subnet of a dynamic network beside what has its widths and its seed, if there is any.

    Args:
        point: the sweep point for people.
        record: the subnet.
        ratio: of its width, where the network was trained at any.
        individual: validation accuracy of the same widths trained alone.
        individual_test: test accuracy of the same.
        direct: validation accuracy of the same widths without training.
    """

    point: str
    record: Record
    ratio: float | None
    individual: float | None
    individual_test: float | None
    direct: float | None


def is_dynamic(record: Record) -> bool:
    """Tell whether a network is a subnet of one that runs at several widths."""
    return record.get("subnet") is not None


def rows(study: Study) -> list[Row]:
    """Return Table I: the subnets of one dynamic network after another, narrowest first."""
    finished = study.finished()
    alone = {_key(record): record for record in finished if not is_dynamic(record)}
    direct = {_key(record): record["val_accuracy"] for record in _direct(study)}
    together = sorted(filter(is_dynamic, finished), key=lambda r: (r["trial"], r["subnet"]))
    found = []
    for record in together:
        other = alone.get(_key(record), {})
        accuracies = other.get("val_accuracy"), other.get("test_accuracy")
        point, ratio = point_label(record["params"]), record.get("ratio")
        found.append(Row(point, record, ratio, *accuracies, direct.get(_key(record))))
    return found


def symbols(study: Study, records: Sequence[Record]) -> str | list[str]:
    """Return the symbols of networks in a figure; without dynamic ones, all have the same."""
    if not _has_dynamic(study):
        return DYNAMIC
    return [DYNAMIC if is_dynamic(record) else INDIVIDUAL for record in records]


def explain_symbols(figure: go.Figure, study: Study) -> None:
    """Name the symbols, if there are several, and add Figure 1's points, hidden until a click.

    Their errors are so large that nothing else could be told apart beside them.
    """
    if not _has_dynamic(study):
        return
    legend(figure, "dynamic", {"color": MUTED, "symbol": DYNAMIC})
    legend(figure, "individual", {"color": MUTED, "symbol": INDIVIDUAL})
    direct = _direct(study)
    if not direct:
        return
    legend(figure, DIRECT_NAME, {"color": MUTED, "symbol": DIRECT})
    for _, color, records in groups(study, direct):
        points(figure, records, DIRECT_NAME, {"color": color, "symbol": DIRECT, "size": 9})
    figure.update_traces(visible="legendonly", selector={"name": DIRECT_NAME})


def over_widths(study: Study) -> go.Figure | None:
    """Figure 9: accuracy against the ratio of widths and against MACs, a line for each network.

    None where no network was trained at any width.
    """
    found = [record for record in study.finished() if record.get("ratio") is not None]
    if not found:
        return None
    tested = all(record["test_accuracy"] is not None for record in found)
    accuracy = "test_accuracy" if tested else "val_accuracy"
    titles = {"ratio": "width: 0 is the narrowest, 1 the full network", "macs": "MACs"}
    figure = make_subplots(1, len(titles), horizontal_spacing=0.06, shared_yaxes=True)
    styled(figure, "", f"{'test' if tested else 'validation'} accuracy (%)")
    figure.update_yaxes(title_text="", col=2)
    for panel, (key, title) in enumerate(titles.items(), 1):
        figure.update_xaxes(title=titled(title), col=panel)
        for label, color, members in groups(study, found):
            for index, trial in enumerate(sorted({record["trial"] for record in members})):
                line = [record for record in members if record["trial"] == trial]
                line.sort(key=lambda record: float(record["ratio"]))
                figure.add_scatter(
                    x=[record[key] for record in line],
                    y=[100 * record[accuracy] for record in line],
                    mode="lines+markers",
                    line={"color": color, "width": 1.6},
                    marker={"size": 8},
                    name=label,
                    legendgroup=label,
                    showlegend=panel == 1 and index == 0,
                    text=[hover(record) for record in line],
                    hovertemplate="%{text}<extra></extra>",
                    row=1,
                    col=panel,
                )
    return figure


def _has_dynamic(study: Study) -> bool:
    return any(map(is_dynamic, study.records))


def _direct(study: Study) -> list[Record]:
    """Return the candidates as they were before any training of their own."""
    return [
        record | {"val_accuracy": record["direct_val_accuracy"], "test_accuracy": None}
        for record in study.records
        if record.get("direct_val_accuracy") is not None
    ]


def _key(record: Record) -> tuple[str, int]:
    return record["digest"], record["seed"]
