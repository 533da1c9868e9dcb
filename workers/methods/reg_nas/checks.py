"""What REG-NAS refuses before anything runs: a space, a cost, a sweep, a budget, a reference."""

from __future__ import annotations

from collections.abc import Sequence

from cost_models import COST_MODELS
from search_spaces.base import SearchSpace
from workers.costs import RANDOM_COSTS
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.limits import Limits
from workers.methods.reg_nas.supernet_training import elastic_of
from workers.protocol import Cost

SHARED = ("supernet", "calibration_images")


def check(space: SearchSpace, config: Config, points: Sequence[Config], cost: str) -> None:
    """Refuse what cannot be searched, or not with one supernet (`protocol.Method.check`).

    Args:
        space: the study's.
        config: the settings that the supernet is trained and evaluated with.
        points: the settings of every point of the sweep.
        cost: name of the study's cost.

    Raises:
        ValueError: names the key, what was given and what is allowed.
    """
    elastic_of(space)
    if cost in RANDOM_COSTS:
        raise ValueError(f"cost: {cost} is drawn anew at every call; allowed: one that is not")
    for point in (config, *points):
        for name in SHARED:
            if getattr(point, name) != getattr(config, name):
                raise ValueError(
                    f"{name}: a point has its own, but all points share one supernet and its"
                    " evaluator; allowed: a study for each"
                )
    for point in points:
        _check_costs(space, point, cost)


def _check_costs(space: SearchSpace, config: Config, cost: str) -> None:
    """Refuse a reference that is no network, and budgets below the smallest one's cost."""
    reference = config.reference
    if reference is not None:
        try:
            reference = space.canonical(reference)
        except ValueError as error:
            raise ValueError(f"reference: {error}") from error
    if cost in COST_MODELS:  # what a latency table says is not known yet
        contained = reference if config.cas else None
        Limits(space, _counted(space, cost), config.budgets[0], reference=contained)


def _counted(space: SearchSpace, cost: str) -> Cost:
    model = COST_MODELS[cost]
    return lambda architecture, _=None: float(model.function(space.layers(architecture)))
