"""Predicted against measured latency: the figures, the plot, and the option `--check`."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cost_models import backends
from cost_models.latency_table import LatencyTable
from orchestrator.additivity import Check, agreement, check, draw
from orchestrator.view import View
from search_spaces.base import sample
from search_spaces.gpunet import GPUNet
from tests.orchestrator import tiny
from workers.errors import InputError

SPACE = GPUNet(GPUNet.Config(preset="gpunet_8"))


@pytest.fixture
def view() -> View:
    return View(Console(quiet=True))


def test_errors_are_relative_to_what_was_measured() -> None:
    near = agreement(np.array([0.5, 1.08, 2.4, 3.4]), np.array([1.0, 1.0, 2.0, 4.0]))
    assert near.mape == pytest.approx((0.5 + 0.08 + 0.2 + 0.15) / 4)
    assert near.bias == pytest.approx((-0.5 + 0.08 + 0.2 - 0.15) / 4)
    assert near.within_10_percent == 0.25
    assert near.spearman == pytest.approx(0.9487, abs=1e-4)  # two measurements are equal


def test_networks_that_are_predicted_alike_have_no_ranks() -> None:
    near = agreement(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    assert near.spearman is None
    assert near.within_10_percent == 0


def test_the_plain_sum_pays_for_every_cut(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "SECONDS", 0.01)
    table = dataclasses.replace(tiny.made_up_table(tiny.blocks()), overhead_us=7.0)
    found = check(SPACE, table, 2, seed=5, view=view)
    rng = random.Random(5)
    networks = [SPACE.blocks(sample(SPACE, rng)) for _ in range(2)]
    assert found.table_N.tolist() == [table.network_ms(blocks) for blocks in networks]
    alone_us = [sum(table.latency_us(b.key) + 7.0 for b in blocks) for blocks in networks]
    assert 1e3 * found.plain_sum_N == pytest.approx(np.array(alone_us))
    assert (found.measured_N > 0).all()
    assert (found.again_N > 0).all()


def test_a_table_of_another_device_checks_nothing(view: View) -> None:
    table = dataclasses.replace(tiny.made_up_table(tiny.blocks()), device="another")
    with pytest.raises(InputError, match="--check: the table is of 'another', this machine is "):
        check(SPACE, table, 2, seed=0, view=view)


def test_the_plot_shows_both_predictions_against_measurements() -> None:
    measured_N = np.array([1.0, 2.0, 4.0])
    found = Check(
        plain_sum_N=1.5 * measured_N,
        table_N=1.02 * measured_N,
        measured_N=measured_N,
        again_N=measured_N,
    )
    (axes,) = draw(found, "title").axes
    assert axes.get_legend_handles_labels()[1] == [
        "within 10 %",
        "equal",
        "plain sum: 50.0% off on average",
        "table: 2.0% off on average",
    ]
    before, after = (np.asarray(points.get_offsets()) for points in axes.collections[1:])
    assert before == pytest.approx(np.stack([1.5 * measured_N, measured_N], axis=1))
    assert after == pytest.approx(np.stack([1.02 * measured_N, measured_N], axis=1))
    band = axes.collections[0].get_paths()[0]
    assert band.contains_points([(1.0, 1.09), (1.0, 0.92), (1.0, 1.12), (1.0, 0.90)]).tolist() == [
        *(True, True),
        *(False, False),
    ]


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    path = tmp_path / "table.parquet"
    path.write_bytes(tiny.made_up_table(tiny.blocks()).to_bytes())
    return path


def test_the_command_checks_a_table_that_is_there(table_file: Path) -> None:
    line = ("measure", "gpunet", "--set=preset=gpunet_8", "--out", table_file, "--check=2")
    before = LatencyTable.read(table_file)
    ended = tiny.paretoray(*line, "--json")
    assert ended.code == 0, ended.err
    assert LatencyTable.read(table_file) == before
    found = json.loads(ended.out)["check"]
    assert set(found["agreements"]) == {"plain_sum", "table", "measured_again"}
    assert len(found["networks"]) == 2
    network = found["networks"][0]
    assert set(network) == {"plain_sum_ms", "table_ms", "measured_ms", "again_ms"}
    assert network["plain_sum_ms"] > network["table_ms"]
    plot = table_file.with_name("table-check.png")
    assert found["plot"] == str(plot)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_the_figures_for_people(table_file: Path, tmp_path: Path) -> None:
    line = ("measure", "gpunet", "--set=preset=gpunet_8", "--out", table_file, "--check=2")
    ended = tiny.paretoray(*line, "--plot", tmp_path / "plots" / "check.svg")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == str(table_file)
    assert lines[1].split() == ["prediction", "spearman", "MAPE", "bias", "within", "10", "%"]
    assert [row.split("  ")[0] for row in lines[2:5]] == ["plain sum", "table", "measured again"]
    assert lines[5] == str(tmp_path / "plots" / "check.svg")
    assert "<svg" in (tmp_path / "plots" / "check.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--plot=check.png",), "--plot check.png: nothing to draw without --check N"),
        (("--check=5", "--plot=check.gif"), "--plot check.gif: ends in '.gif'; allowed: "),
        (("--check=1",), "Invalid value for '--check'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_measured(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "table.parquet"
    ended = tiny.paretoray("measure", "gpunet", "--out", out, *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert not out.exists()
