"""What is known of a function's network, found once for each process."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

from torch import nn

from search_spaces.base import Shape
from search_spaces.torch_module.blocks import Segment, segments
from search_spaces.torch_module.groups import Axes, Group, find_groups
from search_spaces.torch_module.loading import network_on_meta
from search_spaces.torch_module.records import steps
from search_spaces.torch_module.tracing import last_layer, traced


@dataclass(frozen=True)
class Plan:
    """The full network on the meta device, its groups, and their places in it."""

    network: nn.Module
    groups: tuple[Group, ...]
    axes: Axes
    segments: tuple[Segment, ...]


@functools.lru_cache(maxsize=8)
def planned(function: str, options: str, in_shape: Shape) -> Plan:
    """Return the plan of a network.

    Args:
        function: what makes it.
        options: that the function is called with, as JSON.
        in_shape: of a sample.

    Raises:
        ValueError: the function cannot be used, or its network's channels cannot be cut.
    """
    network = network_on_meta(function, json.loads(options))
    operations = traced(network, in_shape)
    order = [operation.target for operation in operations if operation.target]
    last = last_layer(operations)
    groups, axes = find_groups(network, in_shape, list(dict.fromkeys(order)), last)
    return Plan(network, groups, axes, segments(steps(network, operations, axes)))
