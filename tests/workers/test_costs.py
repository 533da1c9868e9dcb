"""Costs as functions of architectures: what is remembered, and what is drawn anew."""

import math
import statistics

import pytest
import torch

from cost_models import COST_MODELS
from cost_models.distributed import distributed
from cost_models.network_latency import Delay
from search_spaces.resnet_fabric import ResNetFabric
from tests.workers.methods.tiny import SPACE as GPUNET
from tests.workers.methods.tiny import TABLE
from workers import costs
from workers.costs import Machines, cost_function, expected

SPACE = ResNetFabric(ResNetFabric.Config(depth=8, filters=4, in_shape=(1, 8, 8), num_classes=4))
RESNET, FULL = SPACE.presets["resnet"], SPACE.presets["full"]


@pytest.mark.parametrize("name", COST_MODELS)
def test_cost_models_are_counted_on_layers(name):
    cost = cost_function(name, SPACE, None, Machines())
    for architecture in (RESNET, FULL):
        counted = COST_MODELS[name].function(SPACE.layers(architecture))
        assert cost(architecture) == cost(architecture, torch.zeros(1, 8, 8)) == counted


def test_all_costs_of_a_study_are_made_by_one_dict(monkeypatch):
    assert {*COST_MODELS, "latency_ms", *costs.RANDOM_COSTS} == set(costs.COSTS)
    monkeypatch.setitem(costs.COSTS, "edges", lambda *_: lambda edges, x=None: float(len(edges)))
    assert cost_function("edges", SPACE, None, Machines())(RESNET) == len(RESNET)


def test_latency_is_looked_up():
    architecture = GPUNET.presets["max"]
    cost = cost_function("latency_ms", GPUNET, TABLE, Machines())
    assert cost(architecture) == TABLE.network_ms(GPUNET.blocks(architecture))
    with pytest.raises(ValueError, match="cost: latency_ms needs a latency table"):
        cost_function("latency_ms", GPUNET, None, Machines())


def test_what_comes_again_is_not_counted_again(monkeypatch):
    counted = []
    monkeypatch.setattr(SPACE, "layers", lambda architecture: counted.append(architecture) or ())
    monkeypatch.setattr(costs, "MOST_REMEMBERED", 2)
    cost = cost_function("macs", SPACE, None, Machines())
    few = [{"skip0_0": True}, RESNET]
    for architecture in (*few, *few):
        cost(architecture)
    assert counted == few
    cost(FULL)  # no more are remembered: room is made
    cost(RESNET)
    assert counted == [*few, FULL, RESNET]


def draws(cost, architecture, count=200):
    torch.manual_seed(0)
    return [cost(architecture) for _ in range(count)]


def test_network_latency_is_random_and_repeats_with_torch_s_generator():
    cost = cost_function("network_latency_ms", SPACE, None, Machines())
    drawn = draws(cost, RESNET)
    assert len(set(drawn)) == len(drawn)
    assert draws(cost, RESNET) == drawn
    assert expected(cost, RESNET) == expected(cost, RESNET)
    assert expected(cost, RESNET) == pytest.approx(statistics.fmean(drawn), rel=0.2)
    assert expected(cost, FULL) > expected(cost, RESNET)


def test_without_delays_only_computing_takes_time():
    layers = SPACE.layers(FULL)
    macs = COST_MODELS["macs"].function(layers)
    for machines in (1, 4):
        still = Machines(machines, Delay(), macs_per_ms=1e6)
        (latency_ms,) = set(draws(cost_function("network_latency_ms", SPACE, None, still), FULL, 5))
        assert latency_ms <= macs / 1e6 * (1 + 1e-9)
        assert (latency_ms < 0.8 * macs / 1e6) == (machines > 1)
    assert distributed(layers, 4) < distributed(layers, 1)


def test_delays_are_those_of_the_study():
    slow = Machines(delay=Delay(fixed_ms=5.0))
    fast = Machines(delay=Delay(fixed_ms=0.5))
    times = [
        cost_function("network_latency_ms", SPACE, None, network)(FULL) for network in (slow, fast)
    ]
    assert times[0] - times[1] == pytest.approx(4.5 * round((times[0] - times[1]) / 4.5))
    assert times[0] > times[1] + 4


def test_measured_latency_is_measured_every_time():
    cost = cost_function("measured_latency_ms", SPACE, None, Machines())
    before = torch.get_rng_state()
    drawn = [cost(FULL, torch.zeros(SPACE.in_shape)) for _ in range(20)]
    assert len(set(drawn)) > 1
    assert min(drawn) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert min(drawn) > min(cost(RESNET) for _ in range(20))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"machines": 0}, "machines: 0; allowed: 1 or more"),
        ({"macs_per_ms": 0.0}, "macs_per_ms: 0.0; allowed: > 0"),
        ({"macs_per_ms": math.nan}, "macs_per_ms: nan; allowed: > 0"),
    ],
)
def test_impossible_machines_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Machines(**settings)
