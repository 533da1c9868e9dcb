"""A search problem for methods that search fabrics: a small one on the synthetic 8x8 images."""

from __future__ import annotations

import dataclasses

from search_spaces.base import SearchSpace
from search_spaces.resnet_fabric import ResNetFabric, ResNetFabricConfig
from tests.workers.methods.tiny import tiny_problem
from workers.costs import Machines, cost_function
from workers.protocol import Cost, Problem, State

SPACE = ResNetFabric(ResNetFabricConfig(depth=8, filters=4, in_shape=(1, 8, 8), num_classes=4))


def fabric_problem(
    seed: int = 0, start: State | None = None, cost: str | Cost = "macs", space: SearchSpace = SPACE
) -> Problem:
    if isinstance(cost, str):
        cost = cost_function(cost, space, None, Machines())
    return dataclasses.replace(tiny_problem(seed, start), space=space, table=None, cost=cost)
