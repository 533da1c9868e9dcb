"""A batched call gives what single calls give, for every space."""

import random

import pytest

from cost_models import COST_MODELS
from cost_models.batch import batch_costs
from search_spaces import SPACES
from search_spaces.base import sample


@pytest.mark.parametrize("name", SPACES)
def test_a_batch_costs_what_its_networks_cost(name: str) -> None:
    space, rng = SPACES[name](), random.Random(0)
    networks = [space.layers(sample(space, rng)) for _ in range(4)]
    found = batch_costs(iter(networks), COST_MODELS)
    for model in COST_MODELS.values():
        assert found[model.name] == [model.function(layers) for layers in networks]


def test_no_networks_cost_nothing() -> None:
    assert batch_costs([], COST_MODELS) == {name: [] for name in COST_MODELS}
