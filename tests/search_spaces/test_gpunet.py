import itertools
import random

import pytest
import torch

from search_spaces.base import digest, sample
from search_spaces.gpunet import PRESETS, Config, GPUNet, InvertedResidual

TINY = Config(preset="gpunet_8", max_expand_ratio=1, granularity=32)


def test_size_equals_enumeration() -> None:
    space = GPUNet(TINY)
    every = list(itertools.product(*(choice.options for choice in space.choices)))
    names = [choice.name for choice in space.choices]
    digests = {digest(space, dict(zip(names, options, strict=True))) for options in every}
    assert space.size() == len(every) == len(digests)


def test_a_layer_offers_as_many_blocks_as_it_has_input_channels() -> None:
    """PruNet, section 3.1: 8C / 32 widths, two kernels, with and without SE."""
    for spec in GPUNet(Config(preset="gpunet1_supernet")).specs:
        if spec.kind != "conv":
            assert len(spec.options) == spec.in_shape[0] + spec.skippable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("stage1_layer0"), "choice 'stage1_layer0' is missing"),
        (lambda a: a.update(stage9_layer0=None), "unknown choice 'stage9_layer0'; known: "),
        (lambda a: a.update(stage1_layer0=3), "choice 'stage1_layer0' is 3; allowed: "),
        (lambda a: a.update(stage1_layer0={"kernel_size": 4}), r"allowed: \{.*3\}, \{.*5\}, null"),
        (lambda a: a.update(stage1_layer0={"kernel_size": [3]}), "choice 'stage1_layer0'"),
        (lambda a: a.update(stage2_layer0=None), "choice 'stage2_layer0' is null; allowed: "),
        (lambda a: a["stage2_layer0"].pop("se"), "choice 'stage2_layer0' is .*in all"),
    ],
)
def test_malformed_architectures_are_refused(change, message) -> None:
    space = GPUNet()
    preset = space.presets["max"]
    architecture = {key: option and dict(option) for key, option in preset.items()}
    assert space.canonical(architecture) == preset
    change(architecture)
    for refuse in (space.canonical, space.layers, space.build, space.blocks):
        with pytest.raises(ValueError, match=message):
            refuse(architecture)


@pytest.mark.parametrize("value", [None, [], "max", 3])
def test_only_objects_are_architectures(value) -> None:
    with pytest.raises(ValueError, match="architecture: expected an object, got"):
        GPUNet().canonical(value)


def test_equal_options_become_the_same_json() -> None:
    space = GPUNet()
    architecture = space.presets["min"]
    loose = {**architecture, "stage2_layer0": {"hidden": 16.0, "se": 0, "kernel_size": 3.0}}
    assert architecture["stage2_layer0"] == {"kernel_size": 3, "se": False, "hidden": 16}
    assert digest(space, loose) == digest(space, architecture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "gpunet_9"}, r"preset: 'gpunet_9' is unknown; allowed: \['gpunet1_printed'"),
        ({"granularity": 0}, "granularity: 0 is not positive"),
        ({"num_classes": -1}, "num_classes: -1 is not positive"),
        ({"in_shape": (3, 0, 8)}, "in_shape: .* has a dimension below 1"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_shape_and_classes_follow_the_data_set() -> None:
    space = GPUNet(Config(preset="gpunet_28", in_shape=(3, 33, 31), num_classes=7))
    network = space.build(sample(space, random.Random(0))).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 33, 31)).shape == (2, 7)


@pytest.mark.parametrize("preset", PRESETS)
def test_residuals_where_shapes_allow(preset: str) -> None:
    space = GPUNet(Config(preset=preset))
    with torch.device("meta"):
        network = space.build(space.presets["max"])
    for spec in space.specs:
        module = getattr(network, spec.name)
        same = spec.stride == 1 and spec.in_shape[0] == spec.out_shape[0]
        assert spec.skippable == same
        if isinstance(module, InvertedResidual):
            assert module.residual == same


def test_features_are_the_last_map_of_each_resolution() -> None:
    space = GPUNet(Config(preset="gpunet_32"))
    network = space.build(space.presets["gpunet1"]).eval()
    images_BCHW = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        maps = network.forward_features(images_BCHW)
        logits_BK = network(images_BCHW)
        assert torch.equal(network.head(maps[-1]), logits_BK)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (24, 32, 32),
        (48, 16, 16),
        (80, 8, 8),
        (128, 4, 4),
    ]
