"""What the tables of Once-for-all's ResNet-50 say of its stem and blocks."""

import pytest
import torch
from torch.nn import functional

from search_spaces.elastic.modules import make_div8
from search_spaces.ofa_resnet50 import PRESETS, Config, OFAResNet50
from search_spaces.ofa_resnet50.modules import Bottleneck, ResidualConv

PAPER = OFAResNet50(Config(preset="paper"))


def test_the_stem_keeps_its_residual_convolution_where_d_begins_with_2() -> None:
    """The authors' feature encoder calls 2 "skip"; their network keeps the convolution then."""
    largest = PAPER.presets["max"]
    for depth in (0, 2):
        layers = PAPER.layers({**largest, "d": [depth, *largest["d"][1:]]})
        assert ("stem_mid" in {layer.module for layer in layers}) == (depth == 2)


def test_depths_are_added_to_those_that_always_run() -> None:
    for extra, expected in ((0, [2, 2, 4, 2]), (1, [3, 3, 5, 3]), (2, [4, 4, 6, 4])):
        layers = PAPER.layers({**PAPER.presets["max"], "d": [2, *[extra] * 4]})
        modules = {layer.module for layer in layers}
        assert [sum(m.startswith(f"stage{n}_") for m in modules) for n in (1, 2, 3, 4)] == expected
    canonical = PAPER.canonical({**PAPER.presets["max"], "d": [2, 0, 1, 2, 2]})
    assert [i for i, ratio in enumerate(canonical["e"]) if ratio is None] == [2, 3, 7]


def test_widths_are_chosen_by_index() -> None:
    architecture = {**PAPER.presets["max"], "w": [2, 0, 1, 2, 0, 1]}
    layers = {layer.name: layer for layer in PAPER.layers(architecture)}
    names = [
        "stem_in.conv",
        "stem_out.conv",
        *(f"stage{n}_block1.conv3.conv" for n in (1, 2, 3, 4)),
    ]
    assert [layers[name].out_shape[0] for name in names] == [32, 40, 208, 512, 664, 1640]
    assert layers["stage2_block0.conv1.conv"].in_shape[0] == 208
    assert layers["stage2_block0.shortcut.conv"].in_shape == (208, 28, 28)
    assert layers["head.linear"].in_shape == (1640,)


def test_first_blocks_project() -> None:
    layers = PAPER.layers(PAPER.presets["max"])
    projecting = {layer.module for layer in layers if ".shortcut." in layer.name}
    pooling = {layer.module for layer in layers if layer.name.endswith(".shortcut.pool")}
    assert projecting == {f"stage{n}_block0" for n in (1, 2, 3, 4)}
    assert pooling == projecting - {"stage1_block0"}


def test_two_widths_of_the_papers_stem_are_one() -> None:
    """0.65 and 0.8: two architectures, as the published count has it, of equal networks."""
    narrow, wider = ({**PAPER.presets["max"], "w": [index, *[2] * 5]} for index in (0, 1))
    assert PAPER.layers(narrow) == PAPER.layers(wider)
    assert PAPER.canonical(narrow) != PAPER.canonical(wider)


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "paper"])
def test_small_presets_have_no_two_widths_that_are_one(preset: str) -> None:
    options = PRESETS[preset]
    stem = options.scaled(options.stem_channels)
    assert len({make_div8(width // 2) for width in stem}) == len(set(stem)) == 3
    for stage in options.stages:
        widths = options.scaled(stage.channels)
        assert len(set(widths)) == 3
        for width in widths:
            assert len({make_div8(round(width * ratio)) for ratio in options.expand_ratios}) == 3


def test_a_residual_convolution_adds_behind_its_activation() -> None:
    module = ResidualConv(4).eval()
    x_BCHW = torch.randn(2, 4, 5, 5)
    expected = x_BCHW + functional.relu(module.norm(module.conv(x_BCHW)))
    torch.testing.assert_close(module(x_BCHW), expected)


@pytest.mark.parametrize("sizes", [(7, 5), (7, 6), (8, 5), (8, 6)])
def test_projections_pool_at_odd_borders_too(sizes: tuple[int, int]) -> None:
    block = Bottleneck(4, 8, 8, 2, projects=True).eval()
    x_BCHW = torch.randn(2, 4, *sizes)
    pooled = functional.avg_pool2d(x_BCHW, 2, ceil_mode=True)
    shortcut = block.shortcut.norm(block.shortcut.conv(pooled))
    expected = functional.relu(block.conv3(block.conv2(block.conv1(x_BCHW))) + shortcut)
    torch.testing.assert_close(block(x_BCHW), expected)
