import itertools
import random

import pytest
import torch
from torch.nn import functional

from cost_models.onnx_export import checked_onnx
from search_spaces.base import Architecture, digest, sample
from search_spaces.keyword_nets import Config, KeywordNets
from search_spaces.keyword_nets.networks import NETWORKS

SMALL = [
    Config("dnn", "s"),
    Config("cnn", "s"),
    Config("ds_cnn", "s"),
    Config("vision"),
    Config("ds_cnn", "l", channel_multiple=32),
]


@pytest.fixture(params=SMALL, ids=lambda config: f"{config.model}-{config.size}")
def space(request: pytest.FixtureRequest) -> KeywordNets:
    return KeywordNets(request.param)


def shapes(space: KeywordNets, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = space.build(architecture).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(("model", "size"), NETWORKS)
def test_every_hidden_layer_has_a_width(model, size) -> None:
    space = KeywordNets(Config(model, size))
    assert [choice.name for choice in space.choices] == [s.name for s in space.specs[:-1]]
    for choice, spec in zip(space.choices, space.specs, strict=False):
        assert choice.options == tuple(range(1, spec.width + 1))


def test_widths_are_multiples_and_the_most() -> None:
    space = KeywordNets(Config("cnn", "l", channel_multiple=30))
    assert [choice.options for choice in space.choices] == [
        (30, 60),
        (30, 60, 76),
        (30, 58),
        (30, 60, 90, 120, 128),
    ]
    assert space.presets["min"] == {"conv1": 30, "conv2": 30, "low_rank": 30, "fc1": 30}
    assert space.presets["full"] == {"conv1": 60, "conv2": 76, "low_rank": 58, "fc1": 128}
    assert space.presets["max"] == space.presets["full"]


@pytest.mark.parametrize(
    "config", [Config("dnn", channel_multiple=30), Config(channel_multiple=24)]
)
def test_size_equals_enumeration(config) -> None:
    space = KeywordNets(config)
    every = itertools.product(*(choice.options for choice in space.choices))
    names = [choice.name for choice in space.choices]
    digests = {digest(space, dict(zip(names, options, strict=True))) for options in every}
    assert space.size() == len(digests) > 1


def test_sizes_of_the_free_spaces() -> None:
    assert KeywordNets(Config("dnn", "s")).size() == 144**3
    assert KeywordNets(Config("cnn", "s")).size() == 28 * 30 * 16 * 128
    assert KeywordNets(Config("ds_cnn", "l")).size() == 276**6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("conv1"), "choice 'conv1' is missing"),
        (lambda a: a.update(fc9=3), "unknown choice 'fc9'; known: "),
        (lambda a: a.update(conv1=0), "choice 'conv1' is 0; allowed: 1, 2, .*64 in all"),
        (lambda a: a.update(conv1=65), "choice 'conv1' is 65; allowed: "),
        (lambda a: a.update(conv1=2.5), "choice 'conv1' is 2.5; allowed: "),
        (lambda a: a.update(conv1=[3]), r"choice 'conv1' is \[3\]; allowed: "),
    ],
)
def test_malformed_architectures_are_refused(change, message) -> None:
    space = KeywordNets()
    architecture = dict(space.presets["full"])
    change(architecture)
    for refuse in (space.canonical, space.layers, space.build, space.blocks):
        with pytest.raises(ValueError, match=message):
            refuse(architecture)


def test_equal_widths_become_the_same_json() -> None:
    space = KeywordNets()
    loose = {**space.presets["min"], "conv1": 7.0, "separable1": True}
    strict = {**space.presets["min"], "conv1": 7}
    assert digest(space, loose) == digest(space, strict)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "rnn"}, r"model: 'rnn' is unknown; allowed: \['cnn', 'dnn', 'ds_cnn', 'vision'"),
        ({"size": "xl"}, r"size: ds_cnn has no 'xl'; allowed: \['l', 's'\]"),
        ({"model": "vision", "size": "l"}, r"size: vision has no 'l'; allowed: \['s'\]"),
        ({"channel_multiple": 0}, "channel_multiple: 0 is not positive"),
        ({"num_classes": -1}, "num_classes: -1 is not positive"),
        ({"in_shape": (1, 0, 8)}, "in_shape: .* has a dimension below 1"),
        ({"model": "cnn", "in_shape": (1, 18, 7)}, r"in_shape: .*small for cnn.*\(1, 19, 7\)"),
        ({"model": "cnn", "in_shape": (1, 19, 6)}, r"in_shape: .*small for cnn.*\(1, 19, 7\)"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("model", "in_shape"),
    [("dnn", (2, 7, 3)), ("cnn", (1, 19, 7)), ("ds_cnn", (3, 9, 5)), ("vision", (1, 8, 8))],
)
def test_shape_and_classes_follow_the_data_set(model, in_shape) -> None:
    space = KeywordNets(Config(model, in_shape=in_shape, num_classes=5))
    network = space.build(sample(space, random.Random(0))).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, *in_shape)).shape == (2, 5)


def test_records_are_named_as_the_tensors_they_count(space: KeywordNets) -> None:
    for architecture in space.presets.values():
        held = shapes(space, architecture)
        weights = {}
        for layer in space.layers(architecture):
            if layer.kind == "conv":
                fan_in = layer.in_shape[0] // layer.groups
                weights[layer.name] = (layer.out_shape[0], fan_in, *layer.kernel_size)
            if layer.kind == "linear":
                weights[layer.name] = (layer.out_shape[0], layer.in_shape[0])
            if layer.kind == "norm":
                weights[layer.name] = layer.out_shape[:1]
        assert {f"{name}.weight": shape for name, shape in weights.items()} == {
            name: shape for name, shape in held.items() if name.endswith(".weight")
        }


def test_a_width_is_that_of_its_module_and_is_read_by_the_next(space: KeywordNets) -> None:
    full = shapes(space, space.presets["full"])
    names = [spec.name for spec in space.specs]
    for choice, reader in zip(space.choices, names[1:], strict=True):
        less = {**space.presets["full"], choice.name: choice.options[-2]}
        narrower = shapes(space, less)
        changed = {name for name, shape in full.items() if narrower[name] != shape}
        assert {name.split(".")[0] for name in changed} == {choice.name, reader}
        own = [s for n, s in narrower.items() if n.startswith(f"{choice.name}.") and n in changed]
        assert {shape[0] for shape in own} == {choice.options[-2]}


def test_a_narrower_network_is_a_leading_slice(space: KeywordNets) -> None:
    """The full network computes the same once everything outside the slices is zero."""
    torch.manual_seed(0)
    full = space.build(space.presets["full"]).eval()
    architecture = sample(space, random.Random(0))
    narrow = space.build(architecture)
    for _ in range(2):  # batch norms whose statistics are their own
        narrow(torch.randn(8, *space.in_shape) + 1)
    inside = {name: torch.zeros_like(tensor) for name, tensor in full.state_dict().items()}
    for name, tensor in narrow.eval().state_dict().items():
        inside[name][tuple(map(slice, tensor.shape))] = tensor
    full.load_state_dict(inside)
    samples_BCHW = torch.randn(3, *space.in_shape)
    with torch.inference_mode():
        torch.testing.assert_close(full(samples_BCHW), narrow(samples_BCHW))


@pytest.mark.parametrize(
    ("config", "path", "padding"),
    [
        (Config("ds_cnn", "s"), "conv1.conv", (1, 1, 4, 5)),
        (Config("ds_cnn", "l"), "conv1.conv", (1, 2, 4, 5)),
        (Config("ds_cnn", "l"), "separable1.depthwise", (0, 1, 1, 1)),
        (Config("ds_cnn", "l"), "separable2.depthwise", (1, 1, 1, 1)),
        (Config("vision"), "conv1.conv", (0, 1, 0, 1)),
        (Config("cnn", "s"), "conv1.conv", (0, 0, 0, 0)),
    ],
)
def test_padding_is_tensorflows(config, path, padding) -> None:
    """TensorFlow, "SAME": max((out - 1) stride + kernel - in, 0) zeros, the odd one last."""
    space = KeywordNets(config)
    network = space.build(space.presets["full"])
    layer, _, part = path.partition(".")
    record = next(record for record in space.layers(space.presets["full"]) if record.name == path)
    parts = dict(network.get_submodule(layer).named_children())
    conv = parts[part]
    x_BCHW = torch.randn(1, *record.in_shape)
    expected = functional.conv2d(
        functional.pad(x_BCHW, padding), conv.weight, conv.bias, conv.stride, groups=conv.groups
    )
    padded = parts[f"{part}_pad"](x_BCHW) if f"{part}_pad" in parts else x_BCHW
    torch.testing.assert_close(conv(padded), expected)


def test_what_follows_the_layers_of_the_cnn() -> None:
    """Its low-rank layer has neither norm nor activation, its second has both."""
    space = KeywordNets(Config("cnn", "s"))
    kinds: dict[str, list[str]] = {}
    for layer in space.layers(space.presets["full"]):
        kinds.setdefault(layer.module, []).append(layer.kind)
    assert kinds == {
        "conv1": ["conv", "norm", "activation"],
        "conv2": ["conv", "norm", "activation"],
        "low_rank": ["flatten", "linear"],
        "fc1": ["linear", "norm", "activation"],
        "classifier": ["linear"],
    }


def test_vision_leaks() -> None:
    space = KeywordNets(Config("vision"))
    network = space.build(space.presets["full"])
    slopes = {m.negative_slope for m in network.modules() if isinstance(m, torch.nn.LeakyReLU)}
    assert slopes == {0.3}
    assert not any(isinstance(module, torch.nn.ReLU) for module in network.modules())


def test_networks_become_onnx(space: KeywordNets) -> None:
    architecture = sample(space, random.Random(1))
    assert checked_onnx(space.build(architecture), space.in_shape)


def test_equal_layers_are_one_block() -> None:
    """fc2 and fc3 of the DNN compute the same, and so do the separable layers of DS-CNN S."""
    dnn = KeywordNets(Config("dnn", "s"))
    assert sum(1 for _ in dnn.all_blocks()) == 144 + 144**2 + 144
    ds_cnn = KeywordNets(Config("ds_cnn", "s"))
    assert sum(1 for _ in ds_cnn.all_blocks()) == 64 + 64**2 + 64
    keys = [block.key for block in ds_cnn.blocks(ds_cnn.presets["full"])]
    assert len(keys) == 6
    assert len(set(keys)) == 3


def test_blocks_are_listed_as_they_are_asked_for() -> None:
    space = KeywordNets(Config("ds_cnn", "l"))
    assert len(list(itertools.islice(space.all_blocks(), 10))) == 10
