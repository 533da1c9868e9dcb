"""What every space promises, for every preset: records, modules and blocks tell one network."""

import json
import random
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cost_models.macs import macs
from cost_models.params import num_params
from search_spaces import SPACES
from search_spaces.base import Architecture, SearchSpace, crossover, digest, mutate, sample
from search_spaces.gpunet import PRESETS

# Options under which each space is tried; a space that is not named is tried as it comes.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "conv_fabric": {
        "classification": {"columns": 3, "scales": 4, "filters": 6, "in_shape": (3, 16, 24)},
        "segmentation": {
            "columns": 3,
            "scales": 4,
            "filters": 6,
            "head": "segmentation",
            "in_shape": (1, 16, 8),
        },
    },
    "gpunet": {name: {"preset": name} for name in PRESETS},
    "keyword_nets": {
        "dnn": {"model": "dnn", "channel_multiple": 16},
        "cnn": {"model": "cnn", "channel_multiple": 4},
        "ds_cnn": {"size": "l", "channel_multiple": 16},
        "vision": {"model": "vision", "channel_multiple": 8},
    },
    "resnet_fabric": {
        "cifar": {"depth": 20},
        "small_images": {"depth": 20, "filters": 4, "in_shape": (1, 9, 7), "num_classes": 3},
    },
    "slimmable_resnet": {
        "20-identity": {"channel_multiple": 4},
        "20-conv1x1": {"shortcut": "conv1x1", "channel_multiple": 4},
        "18-identity": {"depth": 18, "channel_multiple": 32},
        "18-conv1x1": {"depth": 18, "shortcut": "conv1x1", "channel_multiple": 32},
    },
    "torch_module": {
        name: {
            "function": f"torchvision.models:{name}",
            "in_shape": (3, 48, 40),
            "channel_multiple": multiple,
        }
        for name, multiple in (("mobilenet_v2", 64), ("resnet18", 64), ("vgg11_bn", 128))
    },
}
CASES = {
    f"{name}-{case}": (name, options)
    for name in SPACES
    for case, options in OPTIONS.get(name, {"": {}}).items()
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    name, options = request.param
    return SPACES[name](SPACES[name].Config(**options))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_layers_and_module_agree(space: SearchSpace, count: int) -> None:
    rng = random.Random(count)
    drawn = [sample(space, rng) for _ in range(count - len(space.presets))]
    for architecture in [*space.presets.values(), *drawn]:
        agree(space, architecture)


def agree(space: SearchSpace, architecture: Architecture) -> None:
    layers = space.layers(architecture)
    with torch.device("meta"), torch.inference_mode():
        network = space.build(architecture).eval()
        with FlopCounterMode(display=False) as counter:
            output = network(torch.empty(1, *space.in_shape))
    assert output.shape == (1, *layers[-1].out_shape)
    assert 2 * macs(layers) == counter.get_total_flops()
    assert num_params(layers) == sum(p.numel() for p in network.parameters())


def test_layers_are_in_execution_order_and_fit(space: SearchSpace) -> None:
    for architecture in space.presets.values():
        shapes = {}
        for layer in space.layers(architecture):
            assert layer.name not in shapes
            first_input = shapes[layer.inputs[0]] if layer.inputs else space.in_shape
            assert layer.in_shape == first_input, layer.name
            assert set(layer.inputs) <= set(shapes)
            shapes[layer.name] = layer.out_shape
        assert layer.out_shape[0] == space.num_classes


def test_blocks_make_the_network(space: SearchSpace) -> None:
    offered = {block.key: block for block in space.all_blocks()}
    rng = random.Random(1)
    for _ in range(5):
        architecture = sample(space, rng)
        parameters = flops = 0
        for block in space.blocks(architecture):
            assert offered[block.key] == block
            with torch.device("meta"), torch.inference_mode():
                module = block.build()
                with FlopCounterMode(display=False) as counter:
                    module(torch.empty(1, *block.in_shape))
            assert not module.training
            parameters += sum(p.numel() for p in module.parameters())
            flops += counter.get_total_flops()
        assert parameters == num_params(space.layers(architecture))
        assert flops == 2 * macs(space.layers(architecture))


def test_all_blocks_are_distinct(space: SearchSpace) -> None:
    keys = [block.key for block in space.all_blocks()]
    assert len(set(keys)) == len(keys)


def test_digest_depends_on_the_network_alone(space: SearchSpace) -> None:
    rng = random.Random(2)
    networks, digests = set(), set()
    for _ in range(20):
        architecture = sample(space, rng)
        assert space.canonical(architecture) == architecture
        shuffled = dict(sorted(architecture.items(), reverse=True))
        again = json.loads(json.dumps(shuffled), object_hook=reversed_keys)
        text = json.dumps(architecture, sort_keys=True)
        assert json.dumps(space.canonical(again), sort_keys=True) == text
        assert digest(space, again) == digest(space, architecture)
        networks.add(text)
        digests.add(digest(space, architecture))
    assert len(digests) == len(networks) > 10


def reversed_keys(value: dict[str, object]) -> dict[str, object]:
    return dict(reversed(value.items()))


def test_relatives_are_architectures(space: SearchSpace) -> None:
    rng = random.Random(3)
    mother, father = sample(space, rng), sample(space, rng)
    children = [mutate(space, mother, rng) for _ in range(10)]
    assert any(child != mother for child in children)
    for child in [*children, crossover(space, mother, father, rng)]:
        assert space.canonical(child) == child
        assert space.layers(child)


def test_draws_repeat(space: SearchSpace) -> None:
    first, second, other = (sample(space, random.Random(seed)) for seed in (4, 4, 5))
    assert first == second != other
