"""REDS on networks that are no chains: groups of channels of any module."""

import dataclasses
import itertools
import json
import random

import pytest
import torch

from cost_models.macs import macs
from cost_models.peak_memory import peak_memory_bytes
from search_spaces.base import sample
from search_spaces.slimmable_resnet import Config as ResNetConfig
from search_spaces.slimmable_resnet import SlimmableResNet
from search_spaces.torch_module import Config, TorchModule
from tests.workers.methods.test_reds_units import largest_difference, masked_like, ordered, outputs
from tests.workers.methods.tiny import tiny_problem
from tests.workers.methods.tiny_subnets import subnet_config
from workers.datasets import truth
from workers.evaluation import evaluate
from workers.methods.reds import METHOD
from workers.methods.reds.chain import Chain
from workers.methods.reds.formulation import SCALE, build_instance
from workers.methods.reds.groups import GroupGraph
from workers.methods.reds.knapsack import nested
from workers.methods.reds.load_subnet import subnet
from workers.methods.reds.prices import is_chain
from workers.methods.reds.search import pretrain, search
from workers.methods.reds.units import Axis, axes_of, sliced
from workers.protocol import Finished

TIED = "tests.search_spaces.own_networks:Tied"
POOLED = "tests.search_spaces.own_networks:Pooled"


def tied(**options) -> TorchModule:
    options = {"in_channels": 1, **options}
    return TorchModule(Config(TIED, options, in_shape=(1, 8, 8), num_classes=4, channel_multiple=1))


def torchvision_space(name, pixels=32, channel_multiple=8) -> TorchModule:
    shape = (3, pixels, pixels)
    return TorchModule(
        Config(
            f"torchvision.models:{name}",
            in_shape=shape,
            num_classes=10,
            channel_multiple=channel_multiple,
        )
    )


def instance_of(space, **settings):
    _, tensors, scores, axes = ordered(space)
    config = subnet_config(**{"min_units": 1, **settings})
    return tensors, scores, axes, build_instance(space, config, scores, axes)


def places_of(instance, space, architecture):
    widths = [architecture[choice.name] for choice in space.choices]
    return [list(width).index(one) for width, one in zip(instance.widths, widths, strict=True)]


def test_networks_whose_layers_read_the_one_before_are_chains():
    assert is_chain(torchvision_space("vgg11_bn", channel_multiple=64))
    assert not is_chain(torchvision_space("resnet18"))
    assert isinstance(instance_of(tied())[-1], GroupGraph)


@pytest.mark.parametrize("name", ["tied", "resnet18", "vgg11_bn", "mobilenet_v3_small"])
def test_costs_and_memory_are_those_of_the_cost_models(name):
    space = tied() if name == "tied" else torchvision_space(name, channel_multiple=64)
    instance = build_instance(space, subnet_config(min_units=1), {}, {})
    assert isinstance(instance, Chain) == (name == "vgg11_bn")
    rng = random.Random(0)
    for architecture in [*space.presets.values(), *(sample(space, rng) for _ in range(10))]:
        widths = [architecture[choice.name] for choice in space.choices]
        only = instance.between(widths, widths)
        assert only.full_cost == macs(space.layers(architecture))
        assert only.least_memory_bytes == peak_memory_bytes(space.layers(architecture))


@pytest.mark.parametrize("solver", ["bu", "td"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_subnets_fit_into_the_memory(name, solver):
    space = torchvision_space(name, channel_multiple=16)
    *_, graph = instance_of(space)
    capacities = [graph.full_cost * share // 4 for share in (1, 2, 4)]  # of all, memory decides
    loose = nested(graph, capacities, solver)
    most_bytes = (graph.least_memory_bytes + peak_memory_bytes(layers_of(space, loose[-1]))) // 2
    tight = nested(graph, capacities, solver, most_bytes=most_bytes)
    for free, solution in zip(loose, tight, strict=True):
        assert peak_memory_bytes(layers_of(space, solution)) <= most_bytes
        assert macs(layers_of(space, solution)) == solution.cost
        assert solution.score <= free.bound
        assert solution.gap < 0.05
    assert tight[-1].score < loose[-1].score


def layers_of(space, solution):
    names = [choice.name for choice in space.choices]
    return space.layers(dict(zip(names, solution.widths, strict=True)))


def test_linear_costs_are_those_of_each_layers_own_units_beside_all_before():
    space = tied()
    graph = build_instance(space, subnet_config(min_units=1, linear_cost=True), {}, {})
    stem, tied_to_it = 64 * 9 * 4, 9 * 4 * 9 * 6  # 4 and 6 channels a unit, 8 x 8 and 3 x 3
    squeeze, excite = 24, 8 * 6  # all 24 channels are read, then all 8
    for widths in [(1, 1), (2, 5), (4, 8)]:
        expected = widths[0] * (stem + tied_to_it + excite) + widths[1] * squeeze
        assert graph.between(widths, widths).full_cost == expected
    full = macs(space.layers(space.presets["full"]))
    assert graph.full_cost == full - 9 * 24 * 4  # the head's are not counted


@pytest.mark.parametrize("linear_cost", [False, True])
def test_scores_are_sums_over_what_is_kept(linear_cost):
    """Of pointwise kernels what both units are kept of; of all others whatever a unit reads."""
    space = torchvision_space("mobilenet_v2")
    _, scores, axes, graph = instance_of(space, linear_cost=linear_cost)
    architecture = sample(space, random.Random(1))
    expected = 0.0
    for name, weight in space.build(architecture).named_parameters():
        if weight.ndim > 1 and axes[name][0] is not None:
            by_kernels = weight.shape[2:] == (1, 1) and not linear_cost
            inputs = weight.shape[1] if by_kernels else None
            expected += scores[name][: len(weight), :inputs].double().sum().item()
    found = graph.score(places_of(graph, space, architecture))
    assert found == pytest.approx(SCALE * expected, rel=1e-5)


def test_kept_groups_keep_all_units_and_are_worth_nothing_to_choose():
    space = tied()
    *_, graph = instance_of(space, keep=("squeeze",))
    assert [list(width) for width in graph.widths] == [[1, 2, 3, 4], [8]]
    assert not any(part.scores.any() for part in graph.parts if part.scope == (1,))


def test_every_place_of_a_unit_is_found():
    axes = axes_of(tied())
    assert axes["stem.weight"] == (Axis("stem", 4), None, None, None)
    assert axes["tied.weight"] == (Axis("stem", 6), None, None, None)
    assert axes["squeeze.weight"] == (Axis("squeeze", 1), Axis("stem", 6), None, None)
    assert axes["classifier.weight"] == (None, Axis("stem", 54))  # 6 channels of 3 x 3
    axes = axes_of(torchvision_space("vgg11_bn", channel_multiple=64))
    assert axes["classifier.0.weight"] == (Axis("classifier.0", 1), Axis("features.25", 49))


def test_the_permuted_network_and_its_subnets_compute_what_they_did():
    subnets_equal_the_masked_network(tied(), 4, largest_gap=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "mobilenet_v2", "vgg11_bn", "regnet_x_400mf"]
)
@pytest.mark.parametrize("subnets", [4, 10])
def test_torchvision_networks_convert(name, subnets):
    subnets_equal_the_masked_network(torchvision_space(name, pixels=64), subnets)


def subnets_equal_the_masked_network(space, subnets, largest_gap=0.01):
    """Permutation, nestedness, capacities and slices, for both solvers, in float64."""
    network, tensors, scores, axes = ordered(space)
    full = space.presets["full"]
    before, after = (outputs(space, full, t) for t in (network.state_dict(), tensors))
    assert before.abs().max() > 1e-3
    assert largest_difference(before, after) < 1e-5
    moved = [not torch.equal(tensors[name], t) for name, t in network.state_dict().items()]
    assert sum(moved) > len(moved) / 2
    instance = build_instance(space, subnet_config(min_units=1), scores, axes)
    capacities = [instance.full_cost * index // subnets for index in range(1, subnets)]
    names = [choice.name for choice in space.choices]
    for solver in ("bu", "td"):
        solutions = nested(instance, capacities, solver)
        found = [dict(zip(names, solution.widths, strict=True)) for solution in solutions]
        for capacity, solution, architecture in zip(capacities, solutions, found, strict=True):
            assert macs(space.layers(architecture)) == solution.cost <= capacity
            assert solution.gap < largest_gap
        for small, large in itertools.pairwise([*found, full]):
            assert all(small[name] <= large[name] for name in names)
        for architecture in found:
            inside = sliced(tensors, axes, architecture)
            masked = {name: masked_like(tensor, inside[name]) for name, tensor in tensors.items()}
            narrow = outputs(space, architecture, inside)
            assert largest_difference(narrow, outputs(space, full, masked)) < 1e-5


@pytest.fixture(scope="module")
def searched():
    """A problem, and the last progress of a search."""
    problem = dataclasses.replace(tiny_problem(), space=tied(), table=None)
    config = subnet_config(min_units=1, fractions=(0.4, 0.7))
    *_, start = pretrain(problem, config, None)
    problem = dataclasses.replace(problem, start=start.state())
    METHOD.check(problem.space, config, [config], "macs")
    *_, last = search(problem, config, None)
    return problem, last


def test_subnets_are_trained_and_reported_with_their_gaps(searched):
    problem, last = searched
    largest = macs(problem.space.layers(problem.space.presets["full"]))
    for share, candidate in zip((0.4, 0.7, 1), last.candidates, strict=True):
        assert macs(problem.space.layers(candidate.architecture)) <= share * largest
        assert 0 <= candidate.metrics["gap"] < 1
        network = problem.space.build(candidate.architecture)
        network.load_state_dict(dict(candidate.weights))
        evaluation = evaluate(network, problem.data.val, problem.data)
        assert evaluation.accuracy == candidate.metrics["val_accuracy"]


def test_one_file_holds_all_subnets(searched):
    problem, last = searched
    figures = dict.fromkeys(
        ("num_params", "weight_bytes", "peak_memory_bytes", "test_accuracy", "latency_measured_ms"),
        1.0,
    )
    finished = [
        Finished(
            {
                "candidate": f"t000.{index}",
                "architecture": candidate.architecture,
                "macs": macs(problem.space.layers(candidate.architecture)),
                "latency_device": None,
                "latency_backend": None,
                **figures,
                **candidate.metrics,
            },
            candidate.weights,
            candidate.predictions["val"],
            truth(problem.data.val),
        )
        for index, candidate in enumerate(last.candidates)
    ]
    assert METHOD.deliver is not None
    files = METHOD.deliver(problem.space, finished)
    about = json.loads(files["subnets.json"])
    for index, candidate in enumerate(last.candidates):
        inside = subnet(dict(finished[-1].weights), about, index)
        assert all(torch.equal(inside[name], t) for name, t in candidate.weights.items())


def test_networks_with_frozen_parameters_are_refused():
    with pytest.raises(ValueError, match=r"^space: 'norm.weight' is frozen; allowed: networks"):
        METHOD.check(tied(frozen=True), subnet_config(min_units=1), [], "macs")


def test_padding_ties_units_to_their_places():
    """Between its groups ResNet-20 appends zero channels to those before."""
    with pytest.raises(ValueError, match="space: reds orders units anew; in slimmable_resnet"):
        METHOD.check(SlimmableResNet(ResNetConfig()), subnet_config(), [], "macs")


def test_networks_without_an_onnx_form_are_refused(capfd):
    options = {"in_shape": (1, 8, 8), "num_classes": 4, "channel_multiple": 1}
    space = TorchModule(Config(POOLED, {"in_channels": 1}, **options))
    with pytest.raises(ValueError, match=r"space: its networks have no ONNX form: .*adaptive_avg"):
        METHOD.check(space, subnet_config(norm_epochs=0, min_units=1), [], "macs")
    assert capfd.readouterr().out == ""


def test_networks_with_other_branches_are_searched_too():
    options = {"depth": 20, "shortcut": "conv1x1", "in_shape": (3, 8, 8)}
    space = SlimmableResNet(ResNetConfig(**options))
    subnets_equal_the_masked_network(space, 4)
    config = subnet_config(fractions=(0.3,), min_units=1)
    METHOD.check(space, config, [config], "macs")
    with pytest.raises(ValueError, match=r"peak_memory_bytes: 10 is infeasible; .* one is \d+$"):
        METHOD.check(space, dataclasses.replace(config, peak_memory_bytes=10), [], "macs")
