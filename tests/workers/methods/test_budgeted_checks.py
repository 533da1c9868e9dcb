"""What is refused before anything runs, and the cheapest network that budgets are held against."""

import dataclasses
import itertools
import math

import pytest

from cost_models import COST_MODELS
from search_spaces import SPACES
from search_spaces.gpunet import GPUNet
from search_spaces.resnet_fabric import ResNetFabric
from tests.workers.methods.tiny_fabric import SPACE
from workers.augment import Augmentation
from workers.methods.budgeted import METHOD, Config
from workers.methods.budgeted.checks import least_cost
from workers.methods.budgeted.config import auto_lambdas
from workers.records import from_json

CONFIG = Config(warmup_epochs=1, epochs=2)
SMALL = {
    "resnet": ("resnet_fabric", {"depth": 8, "filters": 2, "in_shape": (1, 8, 8)}),
    "conv": ("conv_fabric", {"columns": 2, "scales": 3, "filters": 2, "in_shape": (1, 8, 8)}),
    "segmentation": (
        "conv_fabric",
        {"columns": 2, "scales": 3, "filters": 2, "in_shape": (1, 8, 8), "head": "segmentation"},
    ),
}


def check(points=({},), config=CONFIG, space=SPACE, cost="macs"):
    METHOD.check(space, config, [dataclasses.replace(config, **point) for point in points], cost)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("cost", ["macs", "num_params", "distributed_1", "distributed_4"])
def test_the_least_cost_is_that_of_the_cheapest_of_all_networks(name, cost):
    space_name, options = SMALL[name]
    space = SPACES[space_name](SPACES[space_name].Config(**options))
    names = [choice.name for choice in space.choices]
    networks = {
        tuple(space.canonical(dict(zip(names, on, strict=True))))
        for on in itertools.product((False, True), repeat=len(names))
    }
    count = COST_MODELS[cost].function
    costs = [count(space.layers(dict.fromkeys(edges, True))) for edges in networks if edges]
    assert len(costs) == space.size()
    assert least_cost(space.fabric, cost) == min(costs)


def test_of_other_costs_the_least_is_not_known():
    for cost in ("latency_ms", "measured_latency_ms", "network_latency_ms", "peak_memory_bytes"):
        assert least_cost(SPACE.fabric, cost) is None
        check([{"budget": 1e-9}], cost=cost)


def test_a_budget_below_the_cheapest_network_is_refused():
    large = ResNetFabric(ResNetFabric.Config(depth=8, filters=32, in_shape=(3, 64, 64)))
    least = round(least_cost(large.fabric, "macs"))
    check([{"budget": float(least)}, {"budget": None}], space=large)
    message = rf"budget: {least - 1} is below .* cheapest network costs; allowed: {least} MAC or"
    with pytest.raises(ValueError, match=message):
        check([{"budget": 1e9}, {"budget": least - 1.0}], space=large)
    with pytest.raises(ValueError, match=r"budget: 3 is below .* allowed: 5 cycles or above"):
        check([{"budget": 3.0}], cost="distributed_2")


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"warmup_epochs": 3}, "warmup_epochs: a point has 3, .* which has 1; allowed: 1"),
        ({"lr": 0.2}, "lr: a point has 0.2"),
        ({"batch_size": 32}, "batch_size: a point has 32"),
        ({"augment": Augmentation(flip=True)}, "augment: a point has"),
    ],
)
def test_points_that_one_warm_up_cannot_serve_are_refused(point, message):
    with pytest.raises(ValueError, match=message):
        check([{}, point])


def test_points_may_differ_in_what_the_search_alone_reads():
    check([{"budget": 1e6, "lambda_": 1e-5, "policy": "random", "epochs": 5, "logit_lr": 1.0}])


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"lambda_": 1e-5}, "lambda: 1e-05 penalises nothing without a budget; allowed: 0, or a"),
        ({"random_share": 0.5}, "random_share: 0.5 is for policy random, not reinforce; allowed"),
    ],
)
def test_settings_of_a_point_that_count_for_nothing_are_refused(point, message):
    with pytest.raises(ValueError, match=message):
        check([{}, point])
    check([{**point, "budget": 1e6, "policy": "random"}], config=Config(**point))


def test_other_spaces_are_refused():
    message = r"space: budgeted searches fabrics; gpunet is not allowed: use resnet_fabric or"
    with pytest.raises(ValueError, match=message):
        check(space=GPUNet(GPUNet.Config(preset="gpunet_8")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0.0}, "budget: 0.0 is not allowed; allowed: above 0"),
        ({"lambda_": -1.0}, "lambda: -1.0 is not allowed; allowed: 0 or above"),
        ({"lambda_": math.nan}, "lambda: nan is not allowed"),
        ({"lambda_ramp": 1.0}, "lambda_ramp: 1.0 is not allowed; allowed: 0 up to 1"),
        ({"batch_size": 1}, "batch_size: 1 is not allowed; allowed: 2 or above"),
        ({"lr_drops": (0.5, 1.0)}, r"lr_drops: \(0.5, 1.0\) is not allowed; allowed: between"),
        ({"epochs": 0}, "epochs: 0 is not allowed; allowed: 1 or above"),
        ({"logit_lr": 0.0}, "logit_lr: 0.0 is not allowed; allowed: above 0"),
        ({"momentum": 1.0}, "momentum: 1.0 is not allowed"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_files_spell_lambda_without_the_underscore():
    config = from_json(Config, {"lambda": 0.5, "budget": 3e5, "lr_drops": [0.5]})
    assert (config.lambda_, config.budget, config.lr_drops) == (0.5, 3e5, (0.5,))


def test_the_learning_rate_drops_as_the_paper_says():
    config = Config()  # 50 epochs of warm-up, 300 of search
    epochs = (0, 49, 50, 199, 200, 274, 275, 349)
    expected = [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert [config.learning_rate(epoch) for epoch in epochs] == pytest.approx(expected)


def test_lambda_grows_from_a_hundredth_during_the_ramp():
    config = Config(epochs=8, lambda_=1e-4, lambda_ramp=0.5)
    grown = [config.penalty(epoch) for epoch in (0, 1, 2, 4, 7)]
    assert grown == pytest.approx([1e-6, 10**-5.5, 1e-5, 1e-4, 1e-4])
    assert [Config(lambda_=1e-4).penalty(epoch) for epoch in (0, 299)] == [1e-4, 1e-4]


def test_automatic_lambdas_span_two_decades_around_one_over_the_budget():
    lambdas = auto_lambdas({"budget": 250_000})
    assert lambdas == [1e-6, 3.16e-6, 1e-5, 3.16e-5, 1e-4]
    assert auto_lambdas({"budget": 22.0})[2] == 0.1
    for budget in (None, 0, "auto"):
        with pytest.raises(ValueError, match=f"lambda: auto needs a budget above 0, got {budget}"):
            auto_lambdas({"budget": budget})
