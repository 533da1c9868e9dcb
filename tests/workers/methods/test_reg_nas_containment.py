"""Networks that contain a reference have its weights, every one of them."""

import random

import pytest
import torch
from torch.nn import functional

from search_spaces.base import sample
from search_spaces.elastic import Supernet
from search_spaces.elastic.encoding import entries
from tests.workers.methods.tiny_elastic import MOBILENET, RESNET, elastic_problem
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.containment import contains
from workers.methods.reg_nas.evolution import Evolution
from workers.methods.reg_nas.limits import Limits
from workers.methods.reg_nas.reward import Scored
from workers.protocol import seeded

both_spaces = pytest.mark.parametrize("space", [MOBILENET, RESNET], ids=lambda space: space.name)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are tiny
    yield
    torch.set_num_threads(threads)


def bred(space, reference, count, generations=4):
    """Networks of a population that mutation and crossover made, rewards being random."""
    problem, rng = elastic_problem(space), random.Random(0)
    most = problem.cost(space.presets["max"])
    limits = Limits(space, problem.cost, 0.8 * most, reference=reference)
    evolution = Evolution(limits, Config(population=count // generations), seeded(0))
    found = []
    for _ in range(generations):
        found += evolution.ask()
        evolution.tell(
            [Scored(one, 0.0, rng.random(), 0.0) for one in found[-count // generations :]]
        )
    return found


def trained_looking(space):
    """A supernet whose kernels are transformed by more than the identity."""
    torch.manual_seed(0)
    supernet = Supernet(space)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if ".transforms." in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return supernet


def shrunk(supernet, name, kernel, size):
    """A larger kernel's centre, transformed as the supernet does, until it has the size."""
    while kernel.shape[-1] > size:
        smaller = kernel.shape[-1] - 2
        matrix = supernet.get_parameter(f"{name}.transforms.{smaller + 2}to{smaller}")
        centre = kernel[:, :, 1:-1, 1:-1].flatten(2)
        kernel = functional.linear(centre, matrix).unflatten(2, (smaller, smaller))
    return kernel


@both_spaces
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_target_has_the_references_weights(space, count):
    reference = sample(space, random.Random(7))
    supernet = trained_looking(space)
    own = supernet.extract(reference)
    targets = bred(space, reference, count)
    assert len(targets) == count
    grown = 0
    for target in targets:
        assert target["r"] == reference["r"]
        assert contains(space, target, reference)
        theirs = supernet.extract(target)
        for name, tensor in own.items():
            larger = theirs[name]
            if larger.ndim == 4 and larger.shape[-1] > tensor.shape[-1]:
                grown += 1
                layer = name.removesuffix(".weight")
                larger = shrunk(supernet, layer, larger, tensor.shape[-1])[: len(tensor)]
                torch.testing.assert_close(larger, tensor)
            else:
                assert larger[tuple(map(slice, tensor.shape))].equal(tensor), name
    assert (grown > 0) == (space is MOBILENET)


@both_spaces
def test_smaller_networks_and_other_resolutions_contain_nothing(space):
    smallest, largest = (space.presets[name] for name in ("min", "max"))
    assert contains(space, {**largest, "r": smallest["r"]}, smallest)
    assert not contains(space, largest, smallest)  # sees larger images
    for name, option in entries(smallest).items():
        if option is not None:
            target = space.canonical(entries(largest) | {name: option})
            assert not contains(space, target, largest), name


def test_what_the_reference_leaves_out_is_free():
    shallow = MOBILENET.presets["min"]
    deep = {**MOBILENET.presets["max"], "r": shallow["r"]}
    for block in range(4):  # the first stage's: two of them run in the reference
        kernels = [*deep["ks"]]
        kernels[block] = 3
        grown = MOBILENET.canonical({**shallow, "ks": [5] * len(kernels)})
        assert contains(MOBILENET, {**deep, "ks": kernels}, shallow)
        assert contains(MOBILENET, {**deep, "ks": kernels}, grown) == (block >= 2)
