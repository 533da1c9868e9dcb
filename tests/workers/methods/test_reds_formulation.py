import random

import pytest
import torch

from benchmarks.reds_solve import bounds, ds_cnn, integer_program, promising
from cost_models.macs import macs
from cost_models.peak_memory import peak_memory_bytes
from search_spaces.base import sample
from search_spaces.slimmable_resnet import SlimmableResNet
from tests.workers.methods.test_reds_units import every_network, ordered
from tests.workers.methods.tiny_subnets import keyword_space, subnet_config
from workers.methods.reds.chain import Chain
from workers.methods.reds.formulation import SCALE, build_chain
from workers.methods.reds.knapsack import nested, solve
from workers.methods.reds.prices import prices_of


def chain_of(model, size, **settings):
    space = keyword_space(model, size)
    _, _, scores, axes = ordered(space)
    config = subnet_config(**{"min_units": 1, **settings})
    return space, scores, build_chain(space, config, scores, axes)


def entries(chain: Chain, space, architecture):
    """What each layer adds: scores, costs, bytes."""
    widths = [architecture[choice.name] for choice in space.choices]
    only = chain.between(widths, widths)
    return tuple(
        [int(table.item()) for table in tables]
        for tables in (only.scores, only.costs, only.memory_bytes)
    )


@every_network
def test_costs_and_memory_are_those_of_the_cost_models(model, size):
    space, _, chain = chain_of(model, size)
    rng = random.Random(0)
    for architecture in [*space.presets.values(), *(sample(space, rng) for _ in range(20))]:
        _, costs, memory = entries(chain, space, architecture)
        assert sum(costs) == macs(space.layers(architecture))
        assert max(memory) == peak_memory_bytes(space.layers(architecture))


@every_network
def test_scores_are_sums_over_what_is_kept(model, size):
    """Of pointwise kernels what both units are kept of; of all others whatever a unit reads."""
    space, scores, chain = chain_of(model, size)
    architecture = sample(space, random.Random(1))
    expected = 0.0
    for name, weight in space.build(architecture).named_parameters():
        if weight.ndim > 1 and not name.startswith("classifier"):
            inputs = weight.shape[1] if "pointwise" in name else None
            expected += scores[name][: len(weight), :inputs].double().sum().item()
    found, _, _ = entries(chain, space, architecture)
    assert sum(found) == pytest.approx(SCALE * expected, rel=1e-5)


def test_fixed_prices_are_those_of_the_papers_tables():
    """A quarter of each layer of DNN S has 15 % of its multiply-accumulates, priced as 25 %."""
    space, scores, chain = chain_of("dnn", "s", linear_cost=True)
    assert chain.full_cost == 250 * 144 + 2 * 144 * 144  # the head's are not counted
    quarter = dict.fromkeys(("fc1", "fc2", "fc3"), 36)
    found, costs, _ = entries(chain, space, quarter)
    assert sum(costs) == chain.full_cost / 4
    hidden = macs(space.layers(quarter)) - 36 * 12
    assert hidden == 9000 + 1296 + 1296
    assert hidden / chain.full_cost == pytest.approx(0.15, abs=0.001)
    units = [scores[f"{name}.linear.weight"][:36].double().sum().item() for name in quarter]
    assert found == pytest.approx([SCALE * unit for unit in units], rel=1e-5)


def test_layers_that_are_kept_whole_cost_and_are_worth_nothing_to_choose():
    space, _, chain = chain_of("cnn", "s", keep=("low_rank", "fc1"))
    assert [len(width) for width in chain.widths] == [28, 30, 1, 1]
    least = {**space.presets["min"], "low_rank": 16, "fc1": 128}
    assert chain.least_cost == macs(space.layers(least))
    found, costs, _ = entries(chain, space, space.presets["full"])
    assert found[2:] == [0, 0]
    assert sum(costs) == macs(space.layers(space.presets["full"]))


def test_layers_keep_their_least_number_of_units():
    _, _, chain = chain_of("ds_cnn", "s", min_units=7)
    assert [int(width[0]) for width in chain.widths] == [7] * 5


def test_memory_holds_in_the_solution():
    space, _, chain = chain_of("ds_cnn", "s")
    loose = solve(chain, chain.full_cost // 2)
    names = [choice.name for choice in space.choices]
    taken = peak_memory_bytes(space.layers(dict(zip(names, loose.widths, strict=True))))
    tight = solve(chain, chain.full_cost // 2, most_bytes=taken // 2)
    fitted = dict(zip(names, tight.widths, strict=True))
    assert peak_memory_bytes(space.layers(fitted)) <= taken // 2
    assert tight.score < loose.score


def test_a_network_without_gradients_is_refused():
    space = keyword_space("dnn", "s")
    _, _, scores, axes = ordered(space)
    silent = {name: torch.zeros_like(score) for name, score in scores.items()}
    with pytest.raises(ValueError, match="importance: every score is 0"):
        build_chain(space, subnet_config(), silent, axes)


def test_networks_that_are_no_chains_are_refused():
    with pytest.raises(ValueError, match="space: reds slices chains of layers"):
        prices_of(SlimmableResNet(), linear=False)


@pytest.mark.parametrize("size", ["s", "l"])
@pytest.mark.parametrize("solver", ["bu", "td"])
@pytest.mark.parametrize("subnets", [4, 10])
def test_all_fractions_of_ds_cnn_are_solved_to_the_optimum(size, solver, subnets):
    chain = ds_cnn(size)
    capacities = [chain.full_cost * index // subnets for index in range(1, subnets)]
    for capacity, solution in zip(capacities, nested(chain, capacities, solver), strict=True):
        assert solution.gap == 0
        assert solution.cost <= capacity


@pytest.mark.slow
def test_an_integer_program_proves_the_same_optimum_of_ds_cnn_l():
    chain = ds_cnn("l")
    capacity = chain.full_cost // 4
    ours = solve(chain, capacity)
    pairs = promising(chain, capacity, int(0.99 * bounds(chain, capacity)[0].max()))
    peer = integer_program(chain, capacity, 300, pairs)
    assert ours.gap == 0
    assert peer.gap == 0
    assert peer.score == ours.score
