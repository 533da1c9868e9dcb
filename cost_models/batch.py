"""Costs of many networks in one call, in which costs share what they compute of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cost_models import CostModel
from cost_models.module_graph import module_graph
from search_spaces.base import Layer


def batch_costs(
    networks: Iterable[Sequence[Layer]], models: Mapping[str, CostModel]
) -> dict[str, list[float]]:
    """Return every network's cost under every cost model, by the model's name.

    Equal to one call of a model's function for each network.
    """
    costs: dict[str, list[float]] = {name: [] for name in models}
    by_graph = {name: m.of_graph for name, m in models.items() if m.of_graph is not None}
    by_layers = {name: m.function for name, m in models.items() if m.of_graph is None}
    for layers in networks:
        for name, function in by_layers.items():
            costs[name].append(function(layers))
        if by_graph:
            graph = module_graph(layers)
            for name, of_graph in by_graph.items():
                costs[name].append(of_graph(graph))
    return costs
