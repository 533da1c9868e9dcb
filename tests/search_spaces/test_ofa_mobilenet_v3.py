"""What the tables of Once-for-all's MobileNetV3 say of its blocks."""

from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.elastic.modules import make_div8
from search_spaces.ofa_mobilenet_v3 import PRESETS, Config, OFAMobileNetV3

PAPER = OFAMobileNetV3(Config(preset="paper_w1.0"))


@pytest.fixture(scope="module")
def network() -> Any:
    with torch.device("meta"):
        return PAPER.build(PAPER.presets["max"])


def activations(module: nn.Module) -> set[type[nn.Module]]:
    return {type(m) for m in module.modules() if isinstance(m, nn.ReLU | nn.Hardswish)}


def test_activations_are_those_of_the_table(network) -> None:
    """ReLU up to stage 2, h-swish in the stem, behind it and in the head."""
    for name, part in network.named_children():
        expected = nn.ReLU if name.startswith(("first", "stage1", "stage2")) else nn.Hardswish
        blocks = [part.expand, part.depthwise] if hasattr(part, "depthwise") else [part]
        assert set().union(*map(activations, blocks)) == {expected}, name
    assert activations(network.stage4_block0.se) == {nn.ReLU}
    assert isinstance(network.stage4_block0.se.gate, nn.Hardsigmoid)


def test_squeeze_and_excitation_is_where_the_table_has_it(network) -> None:
    has_se = {
        name: hasattr(part.se, "gate")
        for name, part in network.named_children()
        if hasattr(part, "se")
    }
    stages = {name.split("_")[0] for name, has in has_se.items() if has}
    assert stages == {"stage2", "stage4", "stage5"}
    assert sum(has_se.values()) == 12
    assert network.stage5_block3.se.reduce.out_channels == make_div8(960 // 4) == 240


def test_only_the_first_block_does_not_expand(network) -> None:
    assert isinstance(network.first.expand, nn.Identity)
    assert network.first.residual
    for row in PAPER.rows:
        block = network.get_submodule(row.name)
        assert block.expand.conv.out_channels == 6 * block.expand.conv.in_channels
        assert block.depthwise.conv.kernel_size == (7, 7)


@pytest.mark.parametrize("preset", PRESETS)
def test_residuals_where_shapes_allow(preset: str) -> None:
    space = OFAMobileNetV3(Config(preset=preset))
    layers = {layer.name: layer for layer in space.layers(space.presets["max"])}
    for row in space.rows:
        before = layers[f"{row.name}.expand.conv"].in_shape
        after = layers[f"{row.name}.project.conv"].out_shape
        assert (f"{row.name}.add" in layers) == (before == after)
        assert (before == after) == (not row.name.endswith("block0"))


@pytest.mark.parametrize(
    ("width", "rounded"),
    [(1, 8), (8, 8), (12, 16), (19.2, 24), (28.8, 32), (33.6, 32), (134.4, 136), (166.4, 168)],
)
def test_channels_are_rounded_to_multiples_of_8(width, rounded) -> None:
    """19.2 would become 16, which is less than 0.9 of it."""
    assert make_div8(width) == rounded


def test_depth_cuts_a_stage_from_behind() -> None:
    shallow = {**PAPER.presets["max"], "d": [4, 4, 2, 3, 4]}
    modules = {layer.module for layer in PAPER.layers(shallow)}
    gone = {row.name for row in PAPER.rows} - modules
    assert gone == {"stage3_block2", "stage3_block3", "stage4_block3"}
    canonical = PAPER.canonical(shallow)
    assert [i for i, size in enumerate(canonical["ks"]) if size is None] == [10, 11, 15]
    assert [i for i, ratio in enumerate(canonical["e"]) if ratio is None] == [10, 11, 15]
