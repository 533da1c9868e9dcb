"""Properties of the cost models on chains of convolutions, and their values by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import COST_MODELS
from cost_models.macs import macs
from cost_models.params import num_params, num_params_without_norm, weight_bytes
from cost_models.peak_memory import peak_memory_bytes
from search_spaces.base import Layer

SIZE = 6  # rows and columns of every map

widths = st.lists(st.integers(1, 40), min_size=2, max_size=6)


def conv(name: str, channels_in: int, channels_out: int, **more) -> Layer:
    shapes = (channels_in, SIZE, SIZE), (channels_out, SIZE, SIZE)
    return Layer(name, "conv", *shapes, kernel_size=(3, 3), **more)


def chain(channels: list[int], norms: bool = True) -> list[Layer]:
    """Return layers that are all of one module: where a chain is cut, so is a module."""
    layers: list[Layer] = []
    for index, (before, after) in enumerate(pairwise(channels)):
        inputs = (layers[-1].name,) if layers else ()
        layers.append(conv(f"conv{index}", before, after, inputs=inputs))
        if norms:
            shape = (after, SIZE, SIZE)
            layers.append(Layer(f"norm{index}", "norm", shape, shape, inputs=(f"conv{index}",)))
    return layers


@pytest.mark.parametrize("name", COST_MODELS)
@given(widths, st.data())
def test_costs_are_whole_not_negative_and_grow_with_every_width(name, channels, data) -> None:
    cost = COST_MODELS[name].function
    index = data.draw(st.integers(0, len(channels) - 1))
    wider = [*channels[:index], channels[index] + 1, *channels[index + 1 :]]
    assert isinstance(cost(chain(channels)), int)
    assert 0 < cost(chain(channels)) <= cost(chain(wider))


@pytest.mark.parametrize("name", COST_MODELS)
@given(widths, widths)
def test_costs_add_up_if_they_say_so(name, first, second) -> None:
    model = COST_MODELS[name]
    whole = model.function(chain([*first, *second]))
    parts = model.function(chain([*first, second[0]])) + model.function(chain(second))
    assert whole == parts if model.additive else whole < parts


@given(widths)
def test_peak_memory_of_a_chain_is_its_largest_input_and_output(channels) -> None:
    largest = max(before + after for before, after in pairwise(channels)) * SIZE * SIZE
    assert peak_memory_bytes(chain(channels, norms=False)) == 4 * largest
    assert peak_memory_bytes(chain(channels)) == 4 * largest  # norms change maps in place


def test_peak_memory_keeps_what_an_edge_still_needs() -> None:
    shape, wide = (2, SIZE, SIZE), (10, SIZE, SIZE)
    layers = [
        conv("stem", 1, 2),
        conv("expand", 2, 10, inputs=("stem",)),
        Layer("act", "activation", wide, wide, inputs=("expand",)),
        conv("project", 10, 2, inputs=("act",)),
        Layer("add", "add", shape, shape, inputs=("project", "stem")),
    ]
    assert peak_memory_bytes(layers) == 4 * SIZE * SIZE * (2 + 10 + 2)
    without_edge = [*layers[:4], replace(layers[4], inputs=("project",))]
    assert peak_memory_bytes(without_edge) == 4 * SIZE * SIZE * (10 + 2)


def test_a_map_that_others_need_is_not_changed_in_place() -> None:
    shape = (2, SIZE, SIZE)
    layers = [
        conv("stem", 1, 2),
        Layer("act", "activation", shape, shape, inputs=("stem",)),
        Layer("add", "add", shape, shape, inputs=("act", "stem")),
    ]
    assert peak_memory_bytes(layers) == 4 * SIZE * SIZE * (2 + 2 + 2)


def test_the_networks_input_lives_until_its_last_reader() -> None:
    layers = [conv("a", 3, 1), conv("b", 1, 1, inputs=("a",)), conv("c", 3, 1)]
    assert peak_memory_bytes(layers) == 4 * SIZE * SIZE * (3 + 1 + 1)


def test_counts_by_hand() -> None:
    depthwise = Layer(
        "dw", "conv", (8, 6, 6), (8, 3, 3), kernel_size=(5, 3), stride=(2, 2), groups=8, bias=True
    )
    linear = Layer("fc", "linear", (8,), (10,), bias=True)
    norm = Layer("norm", "norm", (8, 3, 3), (8, 3, 3))
    others = [Layer(kind, kind, (8, 3, 3), (8, 3, 3)) for kind in ("activation", "add", "scale")]
    layers = [depthwise, norm, *others, linear]
    assert macs(layers) == 8 * 9 * 15 + 80
    assert num_params_without_norm(layers) == (8 * 15 + 8) + (80 + 10)
    assert num_params(layers) == num_params_without_norm(layers) + 16
    assert weight_bytes(layers) == 4 * num_params(layers)


def test_an_empty_network_costs_nothing() -> None:
    assert [model.function([]) for model in COST_MODELS.values()] == [0] * len(COST_MODELS)


def test_models_stand_under_their_own_names() -> None:
    assert [model.name for model in COST_MODELS.values()] == list(COST_MODELS)
