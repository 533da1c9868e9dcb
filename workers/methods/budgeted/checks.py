"""What Budgeted Super Networks refuse before anything runs: a space, a sweep, a budget."""

from __future__ import annotations

from collections.abc import Sequence

from cost_models import COST_MODELS
from search_spaces.base import Layer, SearchSpace
from search_spaces.fabric import Edge, Fabric
from search_spaces.fabric.records import sum_layers
from workers.methods.budgeted.config import Config
from workers.methods.budgeted.edges import Wiring
from workers.methods.budgeted.fabric_training import fabric_of

SHAPES_WARMUP = ("warmup_epochs", "batch_size", "lr", "momentum", "weight_decay", "amp", "augment")


def check(space: SearchSpace, config: Config, points: Sequence[Config], cost: str) -> None:
    """Refuse what cannot be searched, or not from one warm-up (`protocol.Method.check`).

    Args:
        space: the study's.
        config: the settings that warm-up runs with.
        points: the settings of every point of the sweep.
        cost: name of the study's cost.

    Raises:
        ValueError: names the key, what was given and what is allowed.
    """
    fabric = fabric_of(space)
    least = least_cost(fabric, cost)
    for point in points:
        _check_used(point)
        for name in SHAPES_WARMUP:
            given, warmed = getattr(point, name), getattr(config, name)
            if given != warmed:
                raise ValueError(
                    f"{name}: a point has {given}, but all points start from one warm-up, which"
                    f" has {warmed}; allowed: {warmed}, or a study for each value"
                )
        if least is not None and point.budget is not None and point.budget < least:
            raise ValueError(
                f"budget: {point.budget:.15g} is below what the cheapest network costs;"
                f" allowed: {least:.15g} {COST_MODELS[cost].unit} or above"
            )


def _check_used(point: Config) -> None:
    """Refuse settings that would count for nothing."""
    if point.lambda_ > 0 and point.budget is None:
        raise ValueError(
            f"lambda: {point.lambda_} penalises nothing without a budget; allowed: 0, or a budget"
        )
    if point.random_share > 0 and point.policy != "random":
        raise ValueError(
            f"random_share: {point.random_share} is for policy random, not {point.policy};"
            " allowed: 0"
        )


def least_cost(fabric: Fabric, cost: str) -> float | None:
    """Return what the cheapest network costs, None for latencies and `peak_memory_bytes`.

    For costs that add up over layers it is the cheapest path. On machines side by side, a path
    takes one cycle for each of its modules, and more edges do not make it shorter.

    Args:
        fabric: whose networks count.
        cost: name of a cost.
    """
    model = COST_MODELS.get(cost)
    if model is None or not (model.additive or cost.startswith("distributed_")):
        return None
    alone = model.function if model.additive else _modules
    shapes = {node.name: node.shape for node in fabric.nodes}
    costs = [float(alone(_edge_layers(edge, shapes[edge.target]))) for edge in fabric.edges]
    path = Wiring(fabric).best_path(costs)
    return float(model.function(fabric.layers(path)))


def _edge_layers(edge: Edge, shape: tuple[int, ...]) -> list[Layer]:
    """Return the layers that an edge adds to a path: its own, and the node's that it leads to."""
    return [*edge.layers, *sum_layers(edge.target, shape, (edge.output,))]


def _modules(layers: Sequence[Layer]) -> int:
    return len({layer.module for layer in layers})
