import itertools
import random
from collections.abc import Iterator

import pytest
import torch

from cost_models.onnx_export import checked_onnx
from search_spaces.base import Architecture, digest, sample
from search_spaces.slimmable_resnet import Config, SlimmableResNet

CONFIGS = [
    Config(depth, shortcut, in_shape=(3, 16, 16), num_classes=10)
    for depth in (20, 18)
    for shortcut in ("identity", "conv1x1")
]


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.depth}-{config.shortcut}")
def config(request: pytest.FixtureRequest) -> Config:
    return request.param


@pytest.fixture
def space(config: Config) -> SlimmableResNet:
    return SlimmableResNet(config)


def shapes(space: SlimmableResNet, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = space.build(architecture).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def names(space: SlimmableResNet) -> list[str]:
    return [choice.name for choice in space.choices]


def test_free_shortcuts_free_every_convolution() -> None:
    """Section V: conv2-7, conv8-13 and conv14-19 are the groups of ResNet-20."""
    resnet20 = SlimmableResNet(Config(20, "conv1x1"))
    widths = {choice.name: choice.options for choice in resnet20.choices}
    most = [16] * 7 + [32] * 6 + [64] * 6
    assert widths == {f"conv{n + 1}": tuple(range(1, m + 1)) for n, m in enumerate(most)}
    assert names(SlimmableResNet(Config(18, "conv1x1"))) == [f"conv{n}" for n in range(1, 18)]


def test_identities_tie_the_blocks_of_a_group() -> None:
    resnet20 = SlimmableResNet(Config(20, "identity"))
    numbers = [1, 2, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18]
    assert names(resnet20) == [f"conv{n}" for n in numbers]
    layers = resnet20.layers({**resnet20.presets["full"], "conv1": 5, "conv9": 7, "conv15": 11})
    width = {layer.module: layer.out_shape[0] for layer in layers if layer.kind == "conv"}
    assert [width[f"conv{n}"] for n in (1, 3, 5, 7)] == [5] * 4
    assert [width[f"conv{n}"] for n in (9, 11, 13)] == [7] * 3
    assert [width[f"conv{n}"] for n in (15, 17, 19)] == [11] * 3


def test_size_equals_enumeration(config: Config) -> None:
    multiple = {20: 33, 18: 200}[config.depth]
    space = SlimmableResNet(Config(config.depth, config.shortcut, channel_multiple=multiple))
    every = itertools.product(*(choice.options for choice in space.choices))
    digests = {digest(space, dict(zip(names(space), one, strict=True))) for one in every}
    assert space.size() == len(digests) > 1


def test_size_of_the_free_space() -> None:
    assert SlimmableResNet(Config(20, "conv1x1")).size() == 16**7 * 32**6 * 64**6


@pytest.mark.parametrize("width_mult", [0.25, 0.3, 0.5, 1.0])
def test_uniform_is_the_full_network_of_a_narrower_space(config, width_mult) -> None:
    uniform = SlimmableResNet(config).uniform(width_mult)
    narrow = SlimmableResNet(Config(config.depth, config.shortcut, width_mult))
    assert uniform == narrow.presets["full"] == narrow.presets["max"]
    assert narrow.canonical(uniform) == uniform


def test_widths_round_to_the_nearest_and_stay_above_zero() -> None:
    widths = SlimmableResNet(Config(20, "identity")).uniform(0.22)
    assert [widths[name] for name in ("conv1", "conv9", "conv15")] == [4, 7, 14]
    assert set(SlimmableResNet(Config(20, "conv1x1", 0.01)).presets["full"].values()) == {1}
    assert SlimmableResNet(Config(20, "conv1x1", 2.0)).presets["full"]["conv19"] == 128


def test_uniform_takes_the_nearest_width_on_offer() -> None:
    space = SlimmableResNet(Config(20, "conv1x1", channel_multiple=12))
    assert space.choices[0].options == (12, 16)
    assert space.choices[-1].options == (12, 24, 36, 48, 60, 64)
    widths = space.uniform(0.5)
    assert [widths[name] for name in ("conv1", "conv8", "conv19")] == [12, 12, 36]


@pytest.mark.parametrize("width_mult", [0, -0.5, 1.01, float("nan")])
def test_uniform_refuses_shares_that_cannot_be(width_mult) -> None:
    with pytest.raises(ValueError, match=r"width_mult: .* is outside \(0, 1\]"):
        SlimmableResNet().uniform(width_mult)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 34}, r"depth: 34 is unknown; allowed: \[18, 20\]"),
        ({"shortcut": "conv"}, r"shortcut: 'conv' is unknown; allowed: \['identity', 'conv1x1'\]"),
        ({"width_mult": 0.0}, "width_mult: 0.0 is not a positive number"),
        ({"width_mult": float("nan")}, "width_mult: nan is not a positive number"),
        ({"width_mult": float("inf")}, "width_mult: inf is not a positive number"),
        ({"channel_multiple": 0}, "channel_multiple: 0 is not positive"),
        ({"channel_multiple": 64}, "channel_multiple: 64 leaves .* 64 channels; allowed: below 64"),
        ({"width_mult": 0.5, "channel_multiple": 40}, "channel_multiple: 40 .* allowed: below 32"),
        ({"num_classes": 0}, "num_classes: 0 is not positive"),
        ({"in_shape": (3, 8, 0)}, "in_shape: .* has a dimension below 1"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("conv19"), "choice 'conv19' is missing"),
        (lambda a: a.update(conv20=3), "unknown choice 'conv20'; known: "),
        (lambda a: a.update(conv1=17), "choice 'conv1' is 17; allowed: 1, 2, .*16 in all"),
        (lambda a: a.update(conv1=None), "choice 'conv1' is null; allowed: "),
    ],
)
def test_malformed_architectures_are_refused(change, message) -> None:
    space = SlimmableResNet(Config(20, "conv1x1"))
    architecture = dict(space.presets["full"])
    change(architecture)
    for refuse in (space.canonical, space.layers, space.build, space.blocks):
        with pytest.raises(ValueError, match=message):
            refuse(architecture)


@pytest.mark.parametrize("in_shape", [(1, 8, 8), (3, 33, 31), (2, 1, 5)])
def test_shape_and_classes_follow_the_data_set(config, in_shape) -> None:
    space = SlimmableResNet(Config(config.depth, config.shortcut, 0.25, in_shape, 7))
    network = space.build(sample(space, random.Random(0))).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, *in_shape)).shape == (2, 7)


def test_free_shortcuts_convolve_before_they_pool() -> None:
    space = SlimmableResNet(Config(20, "conv1x1"))
    layers = {layer.name: layer for layer in space.layers(space.presets["full"])}
    conv, pool = layers["shortcut9.conv"], layers["shortcut9.pool"]
    assert (conv.in_shape, conv.out_shape, conv.stride) == ((16, 32, 32), (32, 32, 32), (1, 1))
    assert (pool.kind, pool.in_shape, pool.out_shape) == ("avg_pool", (32, 32, 32), (32, 16, 16))
    assert layers["conv9.add"].inputs == ("conv9.norm", "shortcut9.pool")
    assert "shortcut3.pool" not in layers


def test_free_shortcuts_begin_near_the_identity() -> None:
    space = SlimmableResNet(Config(20, "conv1x1"))
    network = space.build(space.presets["full"])
    for name, channels in (("shortcut3", 16), ("shortcut9", 16), ("shortcut19", 64)):
        weight_OI = network.get_parameter(f"{name}.conv.weight").detach().flatten(1)
        off_OI = weight_OI - torch.eye(len(weight_OI), channels)
        assert 0 < off_OI.abs().max() <= 0.1 / channels**0.5
        assert (weight_OI.norm(dim=1) > 0).all()  # those past the input's channels, too


@pytest.mark.parametrize(("before", "after"), [(16, 32), (13, 6), (4, 4)])
def test_option_a_appends_zeros_or_drops_channels(before, after) -> None:
    space = SlimmableResNet(Config(20, "identity"))
    network = space.build({**space.presets["full"], "conv1": before, "conv9": after})
    x_BCHW = torch.rand(2, before, 4, 6) + 1
    y_BCHW = network.get_submodule("shortcut9")(x_BCHW)
    kept = min(before, after)
    assert y_BCHW.shape == (2, after, 2, 3)
    means_BCHW = x_BCHW.unflatten(3, (3, 2)).unflatten(2, (2, 2)).mean((3, 5))
    torch.testing.assert_close(y_BCHW[:, :kept], means_BCHW[:, :kept])
    assert not y_BCHW[:, kept:].any()


def test_shortcuts_that_compute() -> None:
    """Identities have no layers; ResNet-18 has its three strided projections."""
    resnet20 = SlimmableResNet(Config(20, "identity"))
    layers = resnet20.layers(resnet20.presets["full"])
    pools = [layer.name for layer in layers if layer.module.startswith("shortcut")]
    assert pools == ["shortcut9.pool", "shortcut9.pad", "shortcut15.pool", "shortcut15.pad"]
    resnet18 = SlimmableResNet(Config(18, "identity"))
    layers = resnet18.layers(resnet18.presets["full"])
    projections = [layer for layer in layers if layer.name.startswith("shortcut")]
    assert [layer.module for layer in projections if layer.kind == "conv"] == [
        f"shortcut{n}" for n in (7, 11, 15)
    ]
    assert {layer.stride for layer in projections if layer.kind == "conv"} == {(2, 2)}


def reading(space: SlimmableResNet, choice: str) -> Iterator[str]:
    """Yield the modules whose tensors a choice gives a dimension of, by the blocks' specs."""
    if choice == "conv1":
        yield "conv1"
    for spec in space.specs:
        if choice in (spec.reads, spec.first):
            yield spec.first
        if choice in (spec.first, spec.writes):
            yield spec.second
        if choice in (spec.reads, spec.writes) and spec.kind not in ("identity", "pool_pad"):
            yield spec.shortcut
    if choice == space.specs[-1].writes:
        yield "head"


def test_specs_tell_whose_widths_a_choice_gives(space: SlimmableResNet) -> None:
    full = shapes(space, space.presets["full"])
    for choice in space.choices:
        narrower = shapes(space, {**space.presets["full"], choice.name: 3})
        changed = {name.split(".")[0] for name in full if full[name] != narrower[name]}
        assert changed == set(reading(space, choice.name))
        assert narrower[f"{choice.name}.conv.weight"][0] == 3


def test_records_are_named_as_the_tensors_they_count(space: SlimmableResNet) -> None:
    for architecture in (space.presets["full"], sample(space, random.Random(0))):
        weights = {}
        for layer in space.layers(architecture):
            if layer.kind == "conv":
                weights[layer.name] = (layer.out_shape[0], layer.in_shape[0], *layer.kernel_size)
            if layer.kind == "linear":
                weights[layer.name] = (layer.out_shape[0], layer.in_shape[0])
            if layer.kind == "norm":
                weights[layer.name] = layer.out_shape[:1]
        held = shapes(space, architecture)
        assert {f"{name}.weight": shape for name, shape in weights.items()} == {
            name: shape for name, shape in held.items() if name.endswith(".weight")
        }


def test_a_narrower_network_is_a_leading_slice(space: SlimmableResNet) -> None:
    """The full network computes the same once everything outside the slices is zero."""
    torch.manual_seed(0)
    full = space.build(space.presets["full"]).eval()
    # Groups that do not shrink: option A would drop channels of the narrower network alone.
    architecture = {**space.uniform(0.3), "conv2": 3, "conv8": 5, "conv10": 1}
    narrow = space.build(architecture)
    for _ in range(2):  # batch norms whose statistics are their own
        narrow(torch.randn(4, *space.in_shape) + 1)
    inside = {name: torch.zeros_like(tensor) for name, tensor in full.state_dict().items()}
    for name, tensor in narrow.eval().state_dict().items():
        inside[name][tuple(map(slice, tensor.shape))] = tensor
    full.load_state_dict(inside)
    samples_BCHW = torch.randn(2, *space.in_shape)
    with torch.inference_mode():
        torch.testing.assert_close(full(samples_BCHW), narrow(samples_BCHW))


def test_networks_become_onnx(config: Config) -> None:
    """On maps of odd sizes, whose last pools are smaller."""
    space = SlimmableResNet(Config(config.depth, config.shortcut, 0.25, (3, 17, 15)))
    architecture = sample(space, random.Random(1))
    assert checked_onnx(space.build(architecture), space.in_shape)


def test_dropped_channels_become_onnx() -> None:
    space = SlimmableResNet(Config(20, "identity", in_shape=(3, 8, 8)))
    architecture = {**space.uniform(0.25), "conv1": 13, "conv9": 6}
    assert checked_onnx(space.build(architecture), space.in_shape)


def test_the_end_of_a_block_is_measured_with_its_sum() -> None:
    space = SlimmableResNet(Config(20, "identity"))
    ends = [block for block in space.blocks(space.presets["full"]) if "-add-" in block.key]
    assert len(ends) == 9
    module = ends[0].build()
    x_BCHW = torch.rand(1, *ends[0].in_shape)
    with torch.inference_mode():
        summed = module.second(x_BCHW) + module.shortcut_CHW
        assert torch.equal(module(x_BCHW), summed.relu())
    assert module.shortcut_CHW.any()


def test_equal_parts_are_one_block() -> None:
    space = SlimmableResNet(Config(20, "identity", channel_multiple=48))  # the last group has two
    assert len(space.blocks(space.presets["full"])) == 1 + 9 * 2 + 2 + 1
    assert len(list(space.all_blocks())) == 1 + (3 + 2 + 4) + (2 + 4) + (1 + 2) + 2
