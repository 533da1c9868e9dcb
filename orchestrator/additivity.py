"""Whether block latencies add up: predicted against measured latency of random networks.

Two predictions stand side by side. The *plain sum* adds what blocks take alone. The *table* takes
the price of a call off every block but one (`LatencyTable.network_ms`). What a second measurement
differs from the first is the machine's noise: no prediction can be nearer than that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.figure
import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from cost_models.latency_probe import BACKENDS, measure_module
from cost_models.latency_table import LatencyTable
from orchestrator.view import View
from search_spaces.base import Architecture, Block, SearchSpace, sample
from workers.errors import InputError

NEAR = 0.1  # relative error of a prediction that counts as near
BEFORE, AFTER, MUTED = "#d9576b", "#1f6f8b", "#8795a1"

Latencies = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near predictions come: rank correlation, and relative errors as fractions.

    There is no rank correlation where all networks are predicted, or measured, alike.
    """

    spearman: float | None
    mape: float
    bias: float
    within_10_percent: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """Latencies of N networks in milliseconds, predicted in two ways and measured twice."""

    plain_sum_N: Latencies
    table_N: Latencies
    measured_N: Latencies
    again_N: Latencies

    def agreements(self) -> dict[str, Agreement]:
        """Return how near each comes to the first measurement."""
        return {
            "plain_sum": agreement(self.plain_sum_N, self.measured_N),
            "table": agreement(self.table_N, self.measured_N),
            "measured_again": agreement(self.again_N, self.measured_N),
        }

    def networks(self) -> list[dict[str, float]]:
        """Return a record of each network's latencies, in the order of drawing."""
        columns = {f"{name.removesuffix('_N')}_ms": row for name, row in vars(self).items()}
        return [
            dict(zip(columns, map(float, row), strict=True))
            for row in zip(*columns.values(), strict=True)
        ]


def agreement(predicted_N: Latencies, measured_N: Latencies) -> Agreement:
    """Compare predicted with measured latencies of at least two networks (any one unit)."""
    error_N = predicted_N / measured_N - 1
    ranked = np.ptp(predicted_N) > 0 and np.ptp(measured_N) > 0
    return Agreement(
        spearman=float(spearmanr(predicted_N, measured_N).statistic) if ranked else None,
        mape=float(np.abs(error_N).mean()),
        bias=float(error_N.mean()),
        within_10_percent=float((np.abs(error_N) <= NEAR).mean()),
    )


def check(space: SearchSpace, table: LatencyTable, count: int, seed: int, view: View) -> Check:
    """Draw networks, predict their latencies from a table, and measure them on this machine.

    Raises:
        InputError: the table was measured on another device.
        BackendError: the back-end cannot run here.
    """
    here = BACKENDS[table.backend].device()
    if here != table.device:
        raise InputError(f"--check: the table is of {table.device!r}, this machine is {here!r}")
    rng = random.Random(seed)
    drawn = [sample(space, rng) for _ in range(count)]
    networks = [space.blocks(architecture) for architecture in drawn]
    view.stage("check", f"{count} networks, measured twice", 2 * count)
    first, again = (
        np.array([_measured_ms(space, table, architecture, view) for architecture in drawn])
        for _ in range(2)
    )
    return Check(
        plain_sum_N=np.array([_plain_sum_ms(table, blocks) for blocks in networks]),
        table_N=np.array([table.network_ms(blocks) for blocks in networks]),
        measured_N=first,
        again_N=again,
    )


def _plain_sum_ms(table: LatencyTable, blocks: Sequence[Block]) -> float:
    return table.network_ms(blocks) + (len(blocks) - 1) * table.overhead_us / 1e3


def _measured_ms(
    space: SearchSpace, table: LatencyTable, architecture: Architecture, view: View
) -> float:
    timing = measure_module(
        space.build(architecture),
        space.in_shape,
        backend=table.backend,
        threads=table.threads,
        batch_size=table.batch_size,
    )
    view.advance()
    return timing.median_us / 1e3


def draw(found: Check, title: str) -> matplotlib.figure.Figure:
    """Return a scatter plot: predicted against measured, and a band of 10 % about equality."""
    figure = matplotlib.figure.Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.subplots()
    top = 1.08 * max(latencies_N.max() for latencies_N in vars(found).values())
    ends = np.array([0.0, top])
    band = (ends / (1 + NEAR), ends / (1 - NEAR))
    axes.fill_between(ends, *band, color=AFTER, alpha=0.1, linewidth=0, label="within 10 %")
    axes.plot(ends, ends, linestyle=":", color=MUTED, label="equal")
    near = found.agreements()
    for name, given_N, color, filled in (
        ("plain_sum", found.plain_sum_N, BEFORE, "none"),
        ("table", found.table_N, AFTER, AFTER),
    ):
        label = f"{name.replace('_', ' ')}: {near[name].mape:.1%} off on average"
        axes.scatter(
            given_N, found.measured_N, 30, edgecolors=color, facecolors=filled, label=label
        )
    axes.set(title=title, xlabel="predicted latency (ms)", ylabel="measured latency (ms)")
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.legend(loc="upper left", frameon=False)
    return figure
