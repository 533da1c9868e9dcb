"""Wider networks cost no less, of every space of widths; the order of an architecture's keys is
nothing to a cost.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models import COST_MODELS
from search_spaces import SPACES
from search_spaces.base import SearchSpace, sample

NAMES = ("macs", "num_params", "num_params_without_norm", "weight_bytes", "peak_memory_bytes")
OPTIONS = {
    "dnn": ("keyword_nets", {"model": "dnn"}),
    "cnn": ("keyword_nets", {"model": "cnn"}),
    "ds_cnn": ("keyword_nets", {"model": "ds_cnn", "size": "l"}),
    "vision": ("keyword_nets", {"model": "vision"}),
    "resnet20": ("slimmable_resnet", {"depth": 20}),
    "resnet20_1x1": ("slimmable_resnet", {"depth": 20, "shortcut": "conv1x1"}),
    "resnet18_1x1": ("slimmable_resnet", {"depth": 18, "shortcut": "conv1x1"}),
}
BUILT = {
    case: SPACES[name](SPACES[name].Config(**given)) for case, (name, given) in OPTIONS.items()
}


def costs(space: SearchSpace, architecture: dict) -> list[float]:
    layers = space.layers(architecture)
    return [COST_MODELS[name].function(layers) for name in NAMES]


@pytest.mark.parametrize("case", BUILT)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), which=st.integers(0, 2**16), step=st.integers(1, 40))
def test_costs_grow_with_every_width(case: str, seed: int, which: int, step: int) -> None:
    space = BUILT[case]
    architecture = sample(space, random.Random(seed))
    choice = space.choices[which % len(space.choices)]
    place = choice.options.index(architecture[choice.name])
    wider = choice.options[min(place + step, len(choice.options) - 1)]
    before = costs(space, architecture)
    assert min(before) >= 0
    after = costs(space, {**architecture, choice.name: wider})
    assert all(old <= new for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_keys_is_nothing(name: str, seed: int) -> None:
    space, rng = SPACES[name](), random.Random(seed)
    architecture = sample(space, rng)
    names = list(architecture)
    rng.shuffle(names)
    shuffled = {name: architecture[name] for name in names}
    assert costs(space, shuffled) == costs(space, architecture)
