"""What every space promises, for every preset: records, modules and blocks tell one network."""

import json
import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cost_models.macs import macs
from cost_models.params import num_params
from search_spaces import SPACES
from search_spaces.base import Architecture, SearchSpace, crossover, digest, mutate, sample
from search_spaces.gpunet import PRESETS, Config

# Settings under which each space is tried; a space that is not named is tried as it comes.
CONFIGS = {"gpunet": [Config(preset=name) for name in PRESETS]}
CASES = [(name, config) for name in SPACES for config in CONFIGS.get(name, [SPACES[name].Config()])]


@pytest.fixture(
    params=CASES, ids=[f"{name}-{getattr(config, 'preset', '')}" for name, config in CASES]
)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    name, config = request.param
    return SPACES[name](config)


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
    assert output.shape == (1, space.num_classes)
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
        assert layer.out_shape == (space.num_classes,)


def test_blocks_make_the_network(space: SearchSpace) -> None:
    offered = {block.key: block for block in space.all_blocks()}
    rng = random.Random(1)
    for _ in range(5):
        architecture = sample(space, rng)
        shape, parameters = (1, *space.in_shape), 0
        for block in space.blocks(architecture):
            assert offered[block.key] == block
            assert shape[1:] == block.in_shape
            with torch.device("meta"), torch.inference_mode():
                module = block.build()
                shape = tuple(module(torch.empty(shape)).shape)
            assert not module.training
            parameters += sum(p.numel() for p in module.parameters())
        assert shape == (1, space.num_classes)
        assert parameters == num_params(space.layers(architecture))


def test_all_blocks_are_distinct(space: SearchSpace) -> None:
    keys = [block.key for block in space.all_blocks()]
    assert len(set(keys)) == len(keys)


def test_digest_depends_on_the_network_alone(space: SearchSpace) -> None:
    rng = random.Random(2)
    digests = set()
    for _ in range(20):
        architecture = sample(space, rng)
        assert space.canonical(architecture) == architecture
        shuffled = dict(sorted(architecture.items(), reverse=True))
        again = json.loads(json.dumps(shuffled), object_hook=reversed_keys)
        assert json.dumps(space.canonical(again), sort_keys=True) == json.dumps(
            architecture, sort_keys=True
        )
        assert digest(space, again) == digest(space, architecture)
        digests.add(digest(space, architecture))
    assert len(digests) == 20


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
