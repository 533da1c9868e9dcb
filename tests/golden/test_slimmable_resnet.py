"""Tables I and II of Yang et al., "Non-uniform DNN Structured Subnets Sampling for Dynamic
Inference": rows "S-NN" (uniform widths) and "Ours", subnet4 (every shortcut a 1x1 convolution).

Parameters are those of convolutions and the linear layer; FLOPs are as the profiler of slimmable
networks counts them. Where a printed number does not come out, the test says so.
"""

import pytest

from cost_models import COST_MODELS
from search_spaces.slimmable_resnet import Config, SlimmableResNet

RESNET20 = {0.25: 2_624_672, 0.5: 10_262_848, 0.75: 22_914_528, 1.0: 40_579_712}
RESNET18 = {0.25: 135_609_472, 0.5: 483_162_368, 0.75: 1_042_658_688, 1.0: 1_814_098_432}


def cost(name: str, config: Config, width_mult: float = 1.0) -> float:
    """Return the cost of uniform widths, which are the same by option and by preset."""
    space = SlimmableResNet(config)
    layers = space.layers(space.uniform(width_mult))
    narrow = SlimmableResNet(Config(config.depth, config.shortcut, width_mult))
    assert narrow.layers(narrow.presets["full"]) == layers
    return COST_MODELS[name].function(layers)


def params(depth: int, width_mult: float) -> float:
    return cost("num_params_without_norm", Config(depth, "identity"), width_mult)


@pytest.mark.parametrize(
    ("width_mult", "computed", "printed"),
    [(0.5, 67_362, "6.74"), (1.0, 268_346, "26.83")],
)
def test_parameters_of_resnet20(width_mult, computed, printed) -> None:
    """Table I, S-NN, in 10^4."""
    assert params(20, width_mult) == computed
    assert f"{computed / 1e4:.2f}" == printed


def test_parameters_of_resnet20_that_are_printed_otherwise() -> None:
    """Table I, S-NN: 1.69 is cut off, not rounded; 15.14 does not come out (15.115)."""
    assert params(20, 0.25) == 16_982  # 1.698
    assert params(20, 0.75) == 151_150  # 15.115


@pytest.mark.parametrize(
    ("width_mult", "printed"), [(0.25, "2.62"), (0.5, "10.26"), (0.75, "22.91"), (1.0, "40.58")]
)
def test_flops_of_resnet20(width_mult, printed) -> None:
    """Table I, S-NN, in 10^6; they need the 2x2 average pools of shortcuts between groups."""
    flops = cost("slimmable_flops", Config(20, "identity"), width_mult)
    assert flops == RESNET20[width_mult]
    assert f"{flops / 1e6:.2f}" == printed


def test_resnet20_with_convolutions_in_all_shortcuts() -> None:
    """Table I, Ours, subnet4: 28.19 and 43.49; the row Group prints 26.83 beside these FLOPs.

    With a stride inside the 1x1 convolutions the FLOPs would be 42.65.
    """
    config = Config(20, "conv1x1")
    assert cost("num_params_without_norm", config) == 281_914
    assert cost("slimmable_flops", config) == 43_487_872


@pytest.mark.parametrize(
    ("width_mult", "computed", "printed"),
    [(0.25, 828_696, "0.83"), (0.5, 3_051_080, "3.05"), (1.0, 11_679_912, "11.68")],
)
def test_parameters_of_resnet18(width_mult, computed, printed) -> None:
    """Table II, S-NN, in 10^6."""
    assert params(18, width_mult) == computed
    assert f"{computed / 1e6:.2f}" == printed


def test_parameters_of_resnet18_that_are_printed_otherwise() -> None:
    """Table II, S-NN: 6.68 does not come out (6.668).

    It would with batch norms (6.675), but then the half width's 3.05 would not (3.056).
    """
    assert params(18, 0.75) == 6_668_152
    assert cost("num_params", Config(18, "identity"), 0.75) == 6_675_352
    assert cost("num_params", Config(18, "identity"), 0.5) == 3_055_880


@pytest.mark.parametrize(("width_mult", "printed"), [(0.5, "4.83"), (0.75, "10.4"), (1.0, "18.14")])
def test_flops_of_resnet18(width_mult, printed) -> None:
    """Table II, S-NN, in 10^8."""
    flops = cost("slimmable_flops", Config(18, "identity"), width_mult)
    assert flops == RESNET18[width_mult]
    digits = len(printed.partition(".")[2])
    assert f"{flops / 1e8:.{digits}f}" == printed


def test_flops_of_resnet18_that_are_cut_off() -> None:
    """Table II, S-NN: 1.35 is 1.356 without its last digit."""
    flops = cost("slimmable_flops", Config(18, "identity"), 0.25)
    assert flops == RESNET18[0.25]
    assert f"{flops / 1e8:.3f}" == "1.356"


def test_resnet18_with_convolutions_in_all_shortcuts() -> None:
    """Table II, Ours, subnet4: 12.2 and 19.8 do not come out (12.03 and 19.37).

    12.2 would with the usual projections beside a 1x1 convolution in each of the eight blocks.
    """
    config = Config(18, "conv1x1")
    assert cost("num_params_without_norm", config) == 12_032_168
    assert cost("slimmable_flops", config) == 1_936_828_928
    pairs = [(64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    beside = sum(before * after for before, after in [*pairs, (512, 512)])
    assert f"{(params(18, 1.0) + beside) / 1e6:.1f}" == "12.2"
