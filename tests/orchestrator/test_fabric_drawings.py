"""Drawings of fabrics: every edge once, those of the network in colour."""

import itertools
from xml.etree import ElementTree

import pytest

from orchestrator.fabric_drawings import PALE, draw_fabric
from search_spaces import SPACES
from search_spaces.base import SearchSpace

SVG = "{http://www.w3.org/2000/svg}"


def space(name: str, **options) -> SearchSpace:
    return SPACES[name](SPACES[name].Config(**options))


SPACES_DRAWN = {
    "resnet_8": space("resnet_fabric", depth=8),
    "resnet_32": space("resnet_fabric", depth=32),
    "conv": space("conv_fabric", columns=4, scales=3, filters=4),
    "segmentation": space("conv_fabric", columns=4, scales=3, filters=4, head="segmentation"),
}
every_space = pytest.mark.parametrize("name", SPACES_DRAWN)


def drawn(name: str, architecture: dict) -> ElementTree.Element:
    svg = draw_fabric(SPACES_DRAWN[name].fabric, architecture, "t<1>", "98 % & more")
    return ElementTree.fromstring(svg)


@every_space
@pytest.mark.parametrize("preset", ["min", "full"])
def test_every_edge_is_drawn_and_those_of_the_network_in_colour(name, preset):
    space = SPACES_DRAWN[name]
    svg = drawn(name, space.presets[preset])
    lines = {line.findtext(f"{SVG}title"): line for line in svg.iter(f"{SVG}path")}
    assert list(lines) == sorted(lines, key=lambda edge: edge in space.presets[preset])
    assert set(lines) == {choice.name for choice in space.choices}
    coloured = {edge for edge, line in lines.items() if line.get("stroke") != PALE}
    assert coloured == set(space.canonical(space.presets[preset]))


@every_space
def test_nodes_lie_apart_inside_the_picture_and_their_rows_by_size(name):
    fabric = SPACES_DRAWN[name].fabric
    svg = drawn(name, fabric.full)
    places = {
        circle.findtext(f"{SVG}title"): (float(circle.get("cx")), float(circle.get("cy")))
        for circle in svg.iter(f"{SVG}circle")
    }
    assert set(places) == {node.name for node in fabric.nodes}
    assert len(set(places.values())) == len(places)
    for x, y in places.values():
        assert 0 < x < float(svg.get("width"))
        assert 0 < y < float(svg.get("height"))
    for one, two in itertools.combinations(fabric.nodes, 2):
        lower = places[two.name][1] - places[one.name][1]
        assert (lower > 0) == (two.shape[1] < one.shape[1])
        assert (lower == 0) == (two.shape == one.shape)


def test_groups_of_a_resnet_run_back_and_forth():
    svg = drawn("resnet_32", {})
    x = {c.findtext(f"{SVG}title"): float(c.get("cx")) for c in svg.iter(f"{SVG}circle")}
    assert x["add0_0"] < x["add0_4"]
    assert x["add1_0"] > x["add1_4"]
    assert x["add2_0"] < x["add2_4"]


def test_columns_of_a_convolutional_fabric_stand_upright():
    svg = drawn("segmentation", {})
    x = {c.findtext(f"{SVG}title"): c.get("cx") for c in svg.iter(f"{SVG}circle")}
    assert x["add2_0"] == x["add2_1"] == x["add2_2"]


def test_identities_are_dashed_and_texts_are_escaped():
    svg = drawn("resnet_8", {})
    dashed = [
        line.findtext(f"{SVG}title")
        for line in svg.iter(f"{SVG}path")
        if line.get("stroke-dasharray")
    ]
    assert dashed == ["skip0_0"]
    assert [text.text for text in svg.iter(f"{SVG}text")][:2] == ["t<1>", "98 % & more"]
