"""Nested subnets in the report: Tables 5 to 7, Figures 10 and 11 of the REDS paper.

Corti et al., "REDS: Resource-Efficient Deep Subnetworks for Dynamic Resource Constraints". A
subnet's fraction is the share of the full network's multiply-accumulates that it may cost.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from orchestrator.drawings import Column
from orchestrator.figure_parts import MUTED, SCALE, point_label, styled
from orchestrator.loading import Study
from orchestrator.results import Record


@dataclass(frozen=True)
class Subnet:
    """A sweep point's subnet of one fraction.

    Args:
        point: the sweep point for people, without the seed.
        fraction: of the full network's cost.
        records: the finished networks, one for every seed.
    """

    point: str
    fraction: float
    records: tuple[Record, ...]

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds; None where a seed does not have it."""
        values = [record[key] for record in self.records if record.get(key) is not None]
        return statistics.fmean(values) if len(values) == len(self.records) else None

    def deviation(self, key: str) -> float:
        """Return the standard deviation over seeds, 0 for one seed."""
        values = [record[key] for record in self.records]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def subnets(study: Study) -> list[Subnet]:
    """Return the finished subnets of a study that solves for fractions, the largest first."""
    found: dict[tuple[str, float], list[Record]] = {}
    for record in sorted(study.finished(), key=lambda record: str(record["candidate"])):
        if record.get("fraction") is not None:
            point = point_label(record["params"]) or "subnets"
            found.setdefault((point, record["fraction"]), []).append(record)
    order = list(dict.fromkeys(point for point, _ in found))
    ordered = sorted(found, key=lambda key: (order.index(key[0]), -key[1]))
    return [Subnet(*key, tuple(found[key])) for key in ordered]


def points(found: Sequence[Subnet]) -> list[str]:
    """Return the sweep points in their order."""
    return list(dict.fromkeys(subnet.point for subnet in found))


def by_fraction(found: Sequence[Subnet]) -> list[tuple[float, list[Subnet | None]]]:
    """Return the rows of Tables 5 to 7: each fraction, and its subnet of every sweep point."""
    known = {(subnet.fraction, subnet.point): subnet for subnet in found}
    fractions = sorted({subnet.fraction for subnet in found}, reverse=True)
    return [(share, [known.get((share, point)) for point in points(found)]) for share in fractions]


def shown_accuracy(found: Sequence[Subnet]) -> str:
    """Return `test_accuracy` where all subnets were tested, else `val_accuracy`."""
    tested = all(subnet.mean("test_accuracy") is not None for subnet in found)
    return "test_accuracy" if tested else "val_accuracy"


def against_macs(found: Sequence[Subnet]) -> go.Figure | None:
    """Figure 11: accuracy, parameters and measured latency of all subnets against their MACs."""
    if not found:
        return None
    accuracy = shown_accuracy(found)
    split = "test" if accuracy == "test_accuracy" else "validation"
    titles = {
        accuracy: f"{split} accuracy (%)",
        "num_params": "parameters",
        "latency_measured_ms": "measured latency (ms)",
    }
    keys = [key for key in titles if all(subnet.mean(key) is not None for subnet in found)]
    figure = make_subplots(1, len(keys), horizontal_spacing=0.09)
    styled(figure, "MACs", "")
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.14})
    lines = points(found)
    colors = sample_colorscale(SCALE, [at / max(1, len(lines) - 1) for at in range(len(lines))])
    for panel, key in enumerate(keys, 1):
        figure.update_yaxes(
            title={"text": titles[key], "font": {"size": 13, "color": MUTED}}, col=panel
        )
        unit = 100 if key == accuracy else 1
        for point, color in zip(lines, colors, strict=True):
            members = [subnet for subnet in found if subnet.point == point]
            spread = [unit * subnet.deviation(key) for subnet in members]
            figure.add_scatter(
                x=[subnet.mean("macs") for subnet in members],
                y=[unit * (subnet.mean(key) or 0.0) for subnet in members],
                error_y={"type": "data", "array": spread, "thickness": 1.2, "width": 3},
                mode="lines+markers",
                line={"color": color, "width": 1.6},
                marker={"size": 8},
                name=point,
                legendgroup=point,
                showlegend=panel == 1,
                row=1,
                col=panel,
            )
    return figure


def columns(found: Sequence[Subnet]) -> list[Column]:
    """Figure 10: the units that each subnet keeps of every layer, for each point's first seed."""
    return [
        Column(f"{subnet.fraction:.0%}", subnet.point, subnet.records[0]["architecture"])
        for subnet in found
    ]
