"""Costs of many networks in one call, which counts a layer that they share once.

Spaces hand out the same records for the same parts, so networks share most of their layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cost_models import CostModel
from search_spaces.base import Layer


def batch_costs(
    networks: Iterable[Sequence[Layer]], models: Mapping[str, CostModel]
) -> dict[str, list[float]]:
    """Return every network's cost under every cost model, by the model's name.

    Equal to one call of a model's function for each network.
    """
    additive = {name: model for name, model in models.items() if model.additive}
    known: dict[str, dict[int, float]] = {name: {} for name in additive}
    seen: dict[int, Layer] = {}  # keeps the layers alive, so that no two have the same identity
    costs: dict[str, list[float]] = {name: [] for name in models}
    for layers in networks:
        numbers = [id(layer) for layer in layers]
        for number, layer in zip(numbers, layers, strict=True):
            if number not in seen:
                seen[number] = layer
                for name, model in additive.items():
                    known[name][number] = model.function((layer,))
        for name, model in models.items():
            if model.additive:
                costs[name].append(sum(map(known[name].__getitem__, numbers)))
            else:
                costs[name].append(model.function(layers))
    return costs
