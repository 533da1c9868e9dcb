from cost_models.hello_edge import hello_edge_ops
from search_spaces.base import Layer

MAP = (8, 6, 5)


def test_a_mac_is_two_operations_and_a_bias_is_one() -> None:
    pointwise = Layer("conv", "conv", MAP, (4, 6, 5), bias=True)
    linear = Layer("fc", "linear", (10,), (3,), bias=True)
    assert hello_edge_ops([pointwise]) == (2 * 8 * 4 + 4) * 6 * 5
    assert hello_edge_ops([linear]) == 2 * 10 * 3 + 3
    assert hello_edge_ops([pointwise, linear]) == hello_edge_ops([pointwise]) + 63


def test_no_bias_costs_nothing() -> None:
    assert hello_edge_ops([Layer("fc", "linear", (10,), (3,))]) == 60


def test_what_else_a_network_does_is_not_counted() -> None:
    kinds = ("norm", "activation", "avg_pool", "max_pool", "add", "pad")
    assert hello_edge_ops([Layer(kind, kind, MAP, MAP) for kind in kinds]) == 0
