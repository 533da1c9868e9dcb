import itertools

import pytest
import torch

from search_spaces.slimmable_resnet import SlimmableResNet
from tests.workers.methods.tiny_subnets import (
    NETWORKS,
    keyword_space,
    made_up_scores,
    subnet_config,
    trained_looking,
)
from workers.methods.reds.formulation import build_chain
from workers.methods.reds.importance import unit_scores
from workers.methods.reds.knapsack import nested
from workers.methods.reds.permutation import best_first, permuted
from workers.methods.reds.units import Axis, axes_of, sliced

every_network = pytest.mark.parametrize(("model", "size"), NETWORKS)


def ordered(space, seed=0):
    """The full network in float64, its scores, and both with the units in order."""
    network, axes = trained_looking(space, seed), axes_of(space)
    scores = made_up_scores(network, seed)
    orders = best_first(unit_scores(scores, axes))
    tensors = permuted(network.state_dict(), axes, orders)
    return network, tensors, permuted(scores, axes, orders), axes


def outputs(space, architecture, tensors, seed=0):
    network = space.build(architecture).double().eval()
    network.load_state_dict(tensors)
    generator = torch.Generator().manual_seed(seed)
    return network(torch.randn(3, *space.in_shape, generator=generator, dtype=torch.float64))


def largest_difference(one, two):
    return (one - two).abs().max().item()


@every_network
def test_the_permuted_network_computes_what_it_did(model, size):
    space = keyword_space(model, size)
    network, tensors, scores, axes = ordered(space)
    full = space.presets["full"]
    before, after = (outputs(space, full, t) for t in (network.state_dict(), tensors))
    assert largest_difference(before, after) < 1e-5
    moved = [not torch.equal(tensors[name], t) for name, t in network.state_dict().items()]
    assert sum(moved) > len(moved) / 2
    for layer, score_U in unit_scores(scores, axes).items():
        assert (score_U.diff() <= 0).all(), layer


@every_network
@pytest.mark.parametrize("solver", ["bu", "td"])
@pytest.mark.parametrize("subnets", [4, 10])
def test_subnets_are_nested_prefixes_that_equal_the_masked_network(model, size, solver, subnets):
    space = keyword_space(model, size)
    _, tensors, scores, axes = ordered(space)
    chain = build_chain(space, subnet_config(min_units=1), scores, axes)
    capacities = [chain.full_cost * index // subnets for index in range(1, subnets)]
    names = [choice.name for choice in space.choices]
    solutions = nested(chain, capacities, solver)
    found = [dict(zip(names, solution.widths, strict=True)) for solution in solutions]
    for small, large in itertools.pairwise([*found, space.presets["full"]]):
        assert all(small[name] <= large[name] for name in names)
    for architecture in found:
        inside = sliced(tensors, axes, architecture)
        masked = {name: masked_like(tensor, inside[name]) for name, tensor in tensors.items()}
        narrow = outputs(space, architecture, inside)
        assert largest_difference(narrow, outputs(space, space.presets["full"], masked)) < 1e-5


def masked_like(tensor, inside):
    """The tensor with 0 outside the leading part."""
    if tensor.ndim == 0:
        return tensor
    masked = torch.zeros_like(tensor)
    masked[tuple(slice(size) for size in inside.shape)] = inside
    return masked


def test_slices_are_views():
    space = keyword_space("ds_cnn", "s")
    tensors = space.build(space.presets["full"]).state_dict()
    for name, view in sliced(tensors, axes_of(space), space.presets["min"]).items():
        assert view.data_ptr() == tensors[name].data_ptr()


def test_every_place_of_a_unit_is_found():
    axes = axes_of(keyword_space("cnn", "s"))
    first, second = Axis("conv1", 1), Axis("conv2", 1)
    assert axes["conv1.conv.weight"] == (first, None, None, None)
    assert axes["conv1.norm.running_var"] == (first,)
    assert axes["conv2.conv.weight"] == (second, first, None, None)
    assert axes["low_rank.linear.weight"] == (Axis("low_rank", 1), Axis("conv2", 64))  # 16 x 4
    assert axes["classifier.linear.weight"] == (None, Axis("fc1", 1))
    assert axes["classifier.linear.bias"] == (None,)
    axes = axes_of(keyword_space("ds_cnn", "s"))
    assert axes["separable2.depthwise.weight"] == (Axis("separable1", 1), None, None, None)
    assert axes["separable2.depthwise_norm.weight"] == (Axis("separable1", 1),)


def test_a_layer_that_offers_one_width_has_no_axis():
    axes = axes_of(keyword_space("dnn", "s", channel_multiple=144))
    assert axes["fc1.linear.weight"] == (None, None)


def test_dimensions_of_two_widths_are_refused():
    class Crossed(SlimmableResNet):
        """The last layer's inputs shrink with the first layer, too."""

        def build(self, architecture):
            narrow = dict(architecture)
            last = self.choices[-1].name
            narrow[last] = min(narrow[last], 2 * narrow[self.choices[0].name])
            return super().build(narrow)

    with pytest.raises(ValueError, match=r"space: dimension 0 of .* does not follow one width"):
        axes_of(Crossed())
