import dataclasses
import functools
import math
import random

import pytest
import torch
from torch.nn import functional

from cost_models.macs import macs
from cost_models.onnx_export import checked_onnx
from search_spaces.base import digest, sample
from search_spaces.conv_fabric import ConvFabric
from search_spaces.fabric import HEAD, STEM, Fabric, FabricNetwork
from search_spaces.resnet_fabric import ResNetFabric

RESNET = ResNetFabric(ResNetFabric.Config(depth=20, filters=4, in_shape=(1, 9, 7)))
CONV = ConvFabric(ConvFabric.Config(columns=3, scales=3, filters=4, in_shape=(2, 8, 4)))
PIXELS = ConvFabric(
    ConvFabric.Config(columns=4, scales=3, filters=4, head="segmentation", in_shape=(2, 8, 4))
)
SPACES = pytest.mark.parametrize("space", [RESNET, CONV, PIXELS], ids=["resnet", "conv", "pixels"])


def incoming(fabric: Fabric, target: str) -> list[tuple[str, str]]:
    """Return (edge, source) of the edges into a node."""
    return [(edge.name, edge.source) for edge in fabric.edges if edge.target == target]


def test_cross_edges_of_the_resnet_fabric() -> None:
    """Supplement, "ResNet Fabric": two inputs for a group's first and last sums, else three.

    Mirrored, as in the paper's code: position d reads positions m-2-d, m-1-d and m-3-d of the
    group before; before position 0 is the node that the group before starts from.
    """
    fabric = ResNetFabric(ResNetFabric.Config(depth=20)).fabric
    sources = {
        node.name: list(dict.fromkeys(source for _, source in incoming(fabric, node.name)))
        for node in fabric.nodes[1:]
    }
    assert sources == {
        "add0_0": [STEM],
        "add0_1": ["add0_0"],
        "add0_2": ["add0_1"],
        "add1_0": ["add0_2", "add0_1", "add0_0"],
        "add1_1": ["add1_0", "add0_0", "add0_1", STEM],
        "add1_2": ["add1_1", STEM, "add0_0"],
        "add2_0": ["add1_2", "add1_1", "add1_0"],
        "add2_1": ["add2_0", "add1_0", "add1_1", "add0_2"],
        "add2_2": ["add2_1", "add0_2", "add1_0"],
    }
    assert len(fabric.edges) == 2 * sum(map(len, sources.values()))  # a block and a skip of each


def test_shapes_of_the_resnet_fabric() -> None:
    """Strides are those of the groups between source and target: up to four, and any image."""
    assert [node.shape for node in RESNET.fabric.nodes[::3]] == [
        (4, 9, 7),
        (4, 9, 7),
        (8, 5, 4),
        (16, 3, 2),
    ]
    strides = {edge.name: edge.layers[0].stride for edge in RESNET.fabric.edges if edge.layers}
    assert strides["block2_2_from_add0_2"] == strides["skip2_2_from_add0_2"] == (4, 4)
    assert strides["block1_0"] == strides["skip1_0"] == (2, 2)
    assert strides["block1_1"] == (1, 1)
    assert "skip1_1" not in strides  # the identity


def test_edges_of_the_conv_fabric_in_order_of_creation() -> None:
    assert [edge.name for edge in CONV.fabric.edges] == [
        "conv0_1_from_stem",
        "conv0_2_from_add0_1",
        *("conv1_0_from_stem", "conv1_0_from_add0_1"),
        *("conv1_1_from_stem", "conv1_1_from_add0_1", "conv1_1_from_add0_2"),
        *("conv1_2_from_add0_1", "conv1_2_from_add0_2"),
        *("conv2_0_from_add1_0", "conv2_0_from_add1_1"),
        *("conv2_1_from_add1_0", "conv2_1_from_add1_1", "conv2_1_from_add1_2"),
        *("conv2_2_from_add1_1", "conv2_2_from_add1_2"),
        "conv2_1_from_add2_0",
        "conv2_2_from_add2_1",
    ]
    assert [edge.name for edge in PIXELS.fabric.edges[-2:]] == [
        "conv3_1_from_add3_2",
        "conv3_0_from_add3_1",
    ]


def test_kinds_of_convolutions_in_the_conv_fabric() -> None:
    edges = {edge.name: edge.layers for edge in CONV.fabric.edges}
    down, level, up = (edges[f"conv1_{scale}_from_add0_1"] for scale in (2, 1, 0))
    assert [layer.kind for layer in down] == [layer.kind for layer in level] == ["conv", "norm"]
    assert (down[0].stride, level[0].stride) == ((2, 2), (1, 1))
    assert [layer.kind for layer in up] == ["upsample", "conv", "norm"]
    assert up[1].stride == (1, 1)


def expected(fabric: Fabric, network: FabricNetwork, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Compute a network from its end, as a fabric is defined."""

    @functools.cache
    def map_of(node: str) -> torch.Tensor:
        if node == STEM:
            return network.stem(x_BCHW)
        maps = [
            getattr(network, edge)(map_of(source))
            for edge, source in incoming(fabric, node)
            if hasattr(network, edge)
        ]
        return functional.relu(torch.stack(maps).sum(0))

    return getattr(network, HEAD)(map_of(fabric.nodes[-1].name))


@SPACES
def test_a_network_computes_what_its_edges_say(space) -> None:
    rng = random.Random(0)
    for _ in range(3):
        network = space.build(sample(space, rng)).eval()
        x_BCHW = torch.rand(2, *space.in_shape)
        with torch.inference_mode():
            torch.testing.assert_close(network(x_BCHW), expected(space.fabric, network, x_BCHW))


def test_segmentation_gives_a_map_of_every_class() -> None:
    network = PIXELS.build(PIXELS.presets["full"]).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 2, 8, 4)).shape == (2, 10, 8, 4)


@SPACES
def test_a_network_inherits_its_weights_from_a_larger_one_by_name(space) -> None:
    whole = space.build(space.presets["full"]).eval()
    rng = random.Random(1)
    for architecture in [space.presets["min"], *(sample(space, rng) for _ in range(3))]:
        part = space.build(architecture).eval()
        weights = whole.state_dict()
        part.load_state_dict({name: weights[name] for name in part.state_dict()})
        order = [name for name in weights if name in part.state_dict()]
        assert order == list(part.state_dict())


@SPACES
def test_all_of_a_network_but_identities_is_in_its_records(space) -> None:
    architecture = sample(space, random.Random(2))
    identities = {edge.name for edge in space.fabric.edges if not edge.layers}
    children = {name for name, _ in space.build(architecture).named_children()}
    assert children - identities == {layer.module for layer in space.layers(architecture)}


@pytest.mark.parametrize(
    "space",
    [ResNetFabric(ResNetFabric.Config(depth=8, filters=4, in_shape=(1, 9, 7))), CONV, PIXELS],
    ids=lambda space: space.name,
)
def test_networks_export_to_onnx(space) -> None:
    network = space.build(space.presets["full"])
    for _ in range(2):  # batch norms that are not the identity
        network(torch.rand(4, *space.in_shape))
    checked_onnx(network, space.in_shape)


def test_only_edges_on_paths_are_kept() -> None:
    down = (
        "conv0_1_from_stem",
        "conv0_2_from_add0_1",
        "conv1_2_from_add0_2",
        "conv2_2_from_add1_2",
    )
    path = dict.fromkeys(down, True)
    off = {choice.name: False for choice in CONV.choices}
    dead_end = {"conv1_0_from_stem": True, "conv2_0_from_add1_0": True}
    from_nowhere = {"conv2_0_from_add1_1": True, "conv2_1_from_add2_0": True}
    detour = {"conv1_1_from_stem": True, "conv2_2_from_add1_1": True}
    for extra in (off, dead_end, from_nowhere):
        assert CONV.canonical(extra | path) == path
        assert digest(CONV, extra | path) == digest(CONV, path)
    kept = CONV.canonical(detour | from_nowhere | path | {"conv2_2_from_add2_1": True})
    edges = [edge.name for edge in CONV.fabric.edges]
    assert list(kept) == sorted(kept, key=edges.index)
    assert set(kept) == {*path, *detour, *from_nowhere, "conv2_2_from_add2_1"}


@SPACES
def test_without_a_path_there_is_no_network(space) -> None:
    last = space.fabric.edges[-1].name
    for architecture in ({}, {last: True}):
        assert space.canonical(architecture) == {}
        assert space.layers(architecture) == space.blocks(architecture) == ()
        with pytest.raises(ValueError, match=r"^architecture: .* no path from 'stem' to 'head'$"):
            space.build(architecture)


@SPACES
@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"block9_9": True}, r"unknown edge 'block9_9'; known: '\w+', .* \(\d+ in all\)$"),
        ({"EDGE": 1}, r"edge '\w+' is 1; allowed: false, true$"),
        ({"EDGE": None}, r"edge '\w+' is null; allowed: false, true$"),
        (["EDGE"], "expected an object, got list$"),
        (None, "expected an object, got NoneType$"),
    ],
)
def test_malformed_architectures_are_refused(space, architecture, message) -> None:
    if architecture and "EDGE" in architecture and isinstance(architecture, dict):
        architecture = {space.fabric.edges[0].name: architecture["EDGE"]}
    for refuse in (space.canonical, space.layers, space.build, space.blocks):
        with pytest.raises(ValueError, match=f"^architecture: {message}"):
            refuse(architecture)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (ResNetFabric, {"depth": 2}, r"depth: 2; allowed: 6 m \+ 2"),
        (ResNetFabric, {"depth": 21}, r"depth: 21; allowed: 6 m \+ 2"),
        (ResNetFabric, {"filters": 0}, "filters: 0; allowed: 1 or above"),
        (ResNetFabric, {"num_classes": 0}, "num_classes: 0; allowed: 1 or above"),
        (ResNetFabric, {"in_shape": (3, 0, 8)}, r"in_shape: \[3, 0, 8\]; allowed: 1 or above"),
        (ConvFabric, {"columns": 0}, "columns: 0; allowed: 1 or above"),
        (
            ConvFabric,
            {"columns": 1, "head": "segmentation"},
            "columns: 1; allowed: 2 or above",
        ),
        (ConvFabric, {"scales": 1}, "scales: 1; allowed: 2 or above"),
        (ConvFabric, {"in_shape": (3, 0, 8)}, r"in_shape: \[3, 0, 8\]; allowed: 1 or above"),
        (ConvFabric, {"filters": -1}, "filters: -1; allowed: 1 or above"),
        (ConvFabric, {"head": "depth"}, r"head: 'depth'; allowed: \['classification', 'segm"),
        (
            ConvFabric,
            {"in_shape": (3, 32, 48)},
            r"scales: 6; allowed for in_shape \[3, 32, 48\]: up to 5, since every scale halves",
        ),
    ],
)
def test_impossible_options_are_refused(cls, options, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        cls.Config(**options)


def test_scales_wait_for_the_shape_of_the_data_set() -> None:
    """A study's options are read before its data: nine scales are right for 256 pixels."""
    config = ConvFabric.Config(scales=9, filters=2)
    with pytest.raises(ValueError, match=r"scales: 9; .* in_shape \[3, 32, 32\]: up to 6"):
        ConvFabric(config)
    fitted = ConvFabric(dataclasses.replace(config, in_shape=(3, 256, 256), num_classes=3))
    assert fitted.fabric.nodes[-1].shape == (2, 1, 1)
    assert fitted.num_classes == 3


def least(space, weight) -> float:
    """Return the least sum of weights of edges that a path from stem to head can have."""
    costs = {node.name: math.inf for node in space.fabric.nodes} | {STEM: 0}
    for edge in space.fabric.edges:
        costs[edge.target] = min(costs[edge.target], costs[edge.source] + weight(edge))
    return costs[space.fabric.nodes[-1].name]


@pytest.mark.parametrize("head", ["classification", "segmentation"])
@pytest.mark.parametrize("columns", [2, 3, 6, 7, 8])
def test_min_is_the_shortest_and_cheapest_path(head: str, columns: int) -> None:
    options = {"columns": columns, "scales": 4, "filters": 8, "head": head}
    space = ConvFabric(ConvFabric.Config(in_shape=(3, 16, 16), **options))
    path = space.presets["min"]
    assert space.canonical(path) == path
    for weight in (lambda edge: macs(edge.layers), lambda edge: 1):
        on_path = sum(weight(edge) for edge in space.fabric.edges if edge.name in path)
        assert on_path == least(space, weight)


def test_min_of_the_resnet_fabric_is_the_path_of_skips() -> None:
    layers = RESNET.layers(RESNET.presets["min"])
    convolutions = [layer.module for layer in layers if layer.kind == "conv"]
    assert convolutions == [STEM, "skip1_0", "skip2_0"]
    assert macs(layers) < macs(RESNET.layers(RESNET.presets["resnet"]))


def test_nodes_are_measured_once_for_every_number_of_inputs() -> None:
    keys = [block.key for block in RESNET.all_blocks() if "-sum-" in block.key]
    assert sorted(keys) == sorted(
        f"{shape}-sum-{count}-activation"
        for shape, most in {"4x9x7": 2, "8x5x4": 8, "16x3x2": 8}.items()
        for count in range(1, most + 1)
    )


def test_a_measured_node_adds_as_many_maps_as_it_has_inputs() -> None:
    block = next(block for block in RESNET.all_blocks() if block.key == "4x9x7-sum-2-activation")
    x_BCHW = torch.randn(2, 4, 9, 7)
    module = block.build()
    (constant_CHW,) = module.buffers()
    torch.testing.assert_close(module(x_BCHW), (x_BCHW + constant_CHW).relu())
