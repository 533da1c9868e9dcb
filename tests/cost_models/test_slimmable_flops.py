from cost_models.slimmable_flops import slimmable_flops
from search_spaces.base import Layer

MAP = (8, 6, 4)


def test_macs_count_once_and_biases_nothing() -> None:
    pointwise = Layer("conv", "conv", MAP, (4, 6, 4), bias=True)
    linear = Layer("fc", "linear", (10,), (3,), bias=True)
    assert slimmable_flops([pointwise, linear]) == 8 * 4 * 6 * 4 + 30


def test_average_pools_count_what_they_read() -> None:
    halving = Layer("pool", "avg_pool", MAP, (8, 3, 2), kernel_size=(2, 2), stride=(2, 2))
    whole = Layer("head", "avg_pool", MAP, (8,), kernel_size=(6, 4))
    assert slimmable_flops([halving]) == slimmable_flops([whole]) == 8 * 6 * 4


def test_what_else_a_network_does_is_not_counted() -> None:
    kinds = ("norm", "activation", "max_pool", "add", "pad", "flatten")
    assert slimmable_flops([Layer(kind, kind, MAP, MAP) for kind in kinds]) == 0
