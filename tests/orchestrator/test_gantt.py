"""The Gantt chart of a schedule: what stands where, and in which colour."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cost_models.distributed import Schedule, schedule
from orchestrator.gantt import MOST_LABELLED, draw
from search_spaces.base import Layer
from tests.cost_models.networks import chain, network

READS = {"stem": [], "left": ["stem"], "right": ["stem"], "sum": ["left", "right"]}
SUM_SHAPE = (2, 1, 1)


@pytest.fixture
def layers() -> list[Layer]:
    *convs, last = network(READS)
    return [*convs, replace(last, kind="add", out_shape=SUM_SHAPE)]


def bars(figure: Figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def centre(bar: Rectangle) -> tuple[int, int]:
    return round(bar.get_x() + bar.get_width() / 2), round(bar.get_y() + bar.get_height() / 2)


def test_every_module_stands_in_its_cycle_on_its_machine(layers: list[Layer]) -> None:
    made = schedule(layers, 2)
    figure = draw(made, layers, "four")
    places = {p.module: (p.cycle + 1, p.machine) for p in made.placements}
    labels = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert labels == places
    assert sorted(map(centre, bars(figure))) == sorted(places.values())
    assert all(bar.get_width() == 1 for bar in bars(figure))


def test_the_heading_has_the_figures(layers: list[Layer]) -> None:
    heading = draw(schedule(layers, 2), layers, "four").get_suptitle()
    assert heading == "four: 4 modules, 2 machines, 3 cycles, 67 % busy"
    alone = draw(schedule(layers, 1), layers, "four").get_suptitle()
    assert alone == "four: 4 modules, 1 machine, 4 cycles, 100 % busy"


def test_colours_are_those_of_shapes_and_paler_where_nothing_is_multiplied(
    layers: list[Layer],
) -> None:
    figure = draw(schedule(layers, 2), layers, "four")
    legend = figure.legends[0]
    shapes = [text.get_text() for text in legend.get_texts()]
    assert shapes == ["1×1×1", "2×1×1"]
    one, two = (to_rgb(handle.get_facecolor()) for handle in legend.legend_handles)
    drawn = {centre(bar): to_rgb(bar.get_facecolor()) for bar in bars(figure)}
    sum_color = drawn.pop((3, 0))
    assert set(drawn.values()) == {one}
    assert all(pale > full for pale, full in zip(sum_color, two, strict=True) if full < 1)


def test_long_charts_have_no_names() -> None:
    for length, names in ((MOST_LABELLED, MOST_LABELLED), (MOST_LABELLED + 1, 0)):
        layers = network(chain(length))
        assert len(draw(schedule(layers, 1), layers, "chain").axes[0].texts) == names


def test_no_network_has_an_empty_chart() -> None:
    figure = draw(Schedule(2, ()), [], "nothing")
    assert bars(figure) == []
    figure.savefig(BytesIO(), format="svg")
