"""Numbers of the fabrics of Veniat and Denoyer, "Learning Time/Memory-Efficient Deep Architectures
with Budgeted Super Networks".

Sizes of the convolutional fabric are computed by hand from its description, 128 filters, 10
classes and images of 3x32x32: a stem of 3,840 parameters, convolutions with bias and batch norm of
147,840 each, and a linear layer of 1,290.
"""

from dataclasses import replace

import pytest

from cost_models.macs import macs
from cost_models.params import num_params
from search_spaces.conv_fabric import ConvFabric
from search_spaces.resnet_fabric import ResNetFabric


@pytest.mark.parametrize(("columns", "edges"), [(1, 5), (2, 26), (4, 58), (8, 122)])
def test_edges_of_the_conv_fabric(columns: int, edges: int) -> None:
    """6 scales: 5 down the first column, 16 to each next one, 5 down the last."""
    space = ConvFabric(ConvFabric.Config(columns=columns))
    assert len(space.choices) == edges
    assert space.canonical(space.presets["full"]) == space.presets["full"]


@pytest.mark.parametrize(
    ("columns", "edges", "parameters", "millions_of_macs"),
    [(1, 5, 744_330, "53.82"), (8, 122, 18_041_610, "3272.93")],
)
def test_costs_of_the_conv_fabric(
    columns: int, edges: int, parameters: int, millions_of_macs: str
) -> None:
    """The whole fabric; with one column it is a chain of six convolutions and a classifier."""
    space = ConvFabric(ConvFabric.Config(columns=columns))
    layers = space.layers(space.presets["full"])
    assert num_params(layers) == 3_840 + edges * 147_840 + 1_290 == parameters
    assert f"{macs(layers) / 1e6:.2f}" == millions_of_macs
    kinds = [layer.kind for layer in layers]
    assert kinds.count("conv") == kinds.count("norm") == edges + 1


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")]
)
def test_the_fabric_holds_resnet(depth: int, millions: str) -> None:
    """Parameters in He et al., "Deep Residual Learning", Table 6.

    There, skips have no parameters and convolutions no biases.
    """
    space = ResNetFabric(ResNetFabric.Config(depth=depth))
    layers = space.layers(space.presets["resnet"])
    theirs = [
        replace(layer, bias=layer.bias and layer.kind != "conv")
        for layer in layers
        if not layer.module.startswith("skip")
    ]
    assert f"{num_params(theirs) / 1e6:.2g}" == millions
    weighty = [layer for layer in theirs if layer.kind in ("conv", "linear")]
    assert len(weighty) == depth
