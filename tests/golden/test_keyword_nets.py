"""Numbers of "Hello Edge: Keyword Spotting on Microcontrollers" (Zhang et al., 2017), whose DNN,
CNN and DS-CNN REDS slices, and of REDS's own vision networks (Corti et al., 2023, Tables 8 and 9).

Parameters and operations of the keyword networks follow from their published layers; Hello Edge
prints the operations, rounded.
"""

import pytest
import torch

from cost_models import COST_MODELS
from search_spaces.base import Layer
from search_spaces.keyword_nets import Config, KeywordNets

# Parameters of convolutions and linear layers, with scales and shifts of batch norms, and with
# the norms' running means and variances (Keras counts all of them); MACs; operations as printed.
KEYWORD_NETS = {
    ("dnn", "s"): (79_644, 79_644, 79_644, 79_200, 158_844, "158.8K"),
    ("dnn", "l"): (495_744, 495_744, 495_744, 494_424, 990_168, "990.2K"),
    ("cnn", "s"): (69_238, 69_610, 69_982, 2_498_304, 5_006_524, "5.0M"),
    ("cnn", "l"): (476_206, 476_734, 477_262, 12_636_672, 25_295_206, "25.3M"),
    ("ds_cnn", "s"): (22_604, 23_756, 24_908, 2_656_768, 5_385_548, "5.4M"),
    ("ds_cnn", "l"): (410_700, 416_772, 422_844, 28_327_812, 56_904_036, "56.9M"),
}


def full_layers(config: Config) -> tuple[Layer, ...]:
    space = KeywordNets(config)
    return space.layers(space.presets["full"])


def cost(name: str, config: Config) -> float:
    return COST_MODELS[name].function(full_layers(config))


def rounded(operations: float) -> str:
    thousands = operations < 1e6
    return f"{operations / (1e3 if thousands else 1e6):.1f}" + ("K" if thousands else "M")


@pytest.mark.parametrize(("model", "size"), KEYWORD_NETS)
def test_keyword_nets(model, size) -> None:
    """Hello Edge: its networks' layers, and its table of their operations."""
    config = Config(model, size)
    plain, with_norms, with_statistics, macs, operations, printed = KEYWORD_NETS[model, size]
    assert cost("num_params_without_norm", config) == plain
    assert cost("num_params", config) == with_norms
    normed = sum(layer.out_shape[0] for layer in full_layers(config) if layer.kind == "norm")
    assert with_norms + 2 * normed == with_statistics
    assert cost("macs", config) == macs
    assert cost("hello_edge_ops", config) == operations
    assert rounded(operations) == printed


def test_ds_cnn_s_layer_by_layer() -> None:
    """Hello Edge, DS-CNN S: a convolution, four depthwise and pointwise pairs, a classifier."""
    macs = COST_MODELS["macs"].function
    counts = [macs([layer]) for layer in full_layers(Config("ds_cnn", "s"))]
    computing = [count for count in counts if count]
    assert computing == [320_000, *4 * [72_000, 512_000], 768]


@pytest.mark.parametrize(
    ("model", "size", "maps"),
    [
        ("cnn", "s", [(28, 40, 7), (30, 16, 4)]),
        ("cnn", "l", [(60, 40, 7), (76, 16, 4)]),
        ("ds_cnn", "s", [(64, 25, 5)] * 9),
        ("ds_cnn", "l", [(276, 25, 10)] + [(276, 13, 5)] * 10),
    ],
)
def test_maps(model, size, maps) -> None:
    """Hello Edge on 49 frames of 10 coefficients; "valid" padding in CNN, "same" in DS-CNN."""
    convolutions = [layer for layer in full_layers(Config(model, size)) if layer.kind == "conv"]
    assert [layer.out_shape for layer in convolutions] == maps


@pytest.mark.parametrize(
    ("in_shape", "pooled", "num_params"),
    [((1, 28, 28), (64, 2, 10), 32_650), ((3, 32, 32), (64, 1, 12), 28_682)],
)
def test_vision(in_shape, pooled, num_params) -> None:
    """REDS's networks for Fashion-MNIST and CIFAR-10, from the layers of its stored models.

    Tables 8 and 9 print 128.54 Kb for both, which neither gives: 127.54 and 112.04 KiB.
    """
    config = Config("vision", in_shape=in_shape)
    pool = next(layer for layer in full_layers(config) if layer.kind == "avg_pool")
    assert pool.out_shape == pooled
    assert cost("num_params_without_norm", config) == num_params
    kibibytes = 4 * num_params / 1024
    assert f"{kibibytes:.2f}" == {32_650: "127.54", 28_682: "112.04"}[num_params]


@pytest.mark.parametrize(("model", "size"), KEYWORD_NETS)
def test_networks_hold_what_keras_counts(model, size) -> None:
    """The totals with moving statistics, held against a network and not its records."""
    space = KeywordNets(Config(model, size))
    with torch.device("meta"):
        state = space.build(space.presets["full"]).state_dict()
    counted = (t.numel() for name, t in state.items() if not name.endswith("num_batches_tracked"))
    assert sum(counted) == KEYWORD_NETS[model, size][2]
