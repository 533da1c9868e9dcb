"""The operations of a network as Layer records of any width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from search_spaces.base import Layer, Shape
from search_spaces.torch_module.groups import Axes, Axis
from search_spaces.torch_module.tracing import Operation


@dataclass(frozen=True)
class Step:
    """An operation, and what rules the channels that it reads and writes (None: nothing)."""

    operation: Operation
    module: nn.Module | None
    in_axis: Axis | None
    out_axis: Axis | None


def steps(network: nn.Module, operations: Sequence[Operation], axes: Axes) -> tuple[Step, ...]:
    """Return the operations of a network with what rules their channels."""
    found: dict[str, Step] = {}
    for operation in operations:
        module = network.get_submodule(operation.target) if operation.target else None
        rules = [found[name].out_axis for name in operation.inputs]
        before = rules[0] if rules else None
        if operation.kind in ("conv", "linear"):
            after = axes[f"{operation.target}.weight"][0]
        elif operation.kind == "flatten" and before is not None:
            after = Axis(before.group, before.run * math.prod(operation.in_shape[1:]))
        else:
            after = before
        found[operation.name] = Step(operation, module, before, after)
    return tuple(found.values())


def record(step: Step, widths: Mapping[str, int], block: str) -> Layer:
    """Return an operation's record in the network of these widths, as a part of a block."""
    operation = step.operation
    in_shape = narrowed(operation.in_shape, step.in_axis, widths)
    out_shape = narrowed(operation.out_shape, step.out_axis, widths)
    more: dict[str, Any] = {"kernel_size": _pooled(operation)} if "pool" in operation.kind else {}
    if isinstance(step.module, nn.Conv2d):
        groups = step.module.groups
        more = {
            "kernel_size": step.module.kernel_size,
            "stride": step.module.stride,
            "groups": groups * out_shape[0] // operation.out_shape[0] if groups > 1 else 1,
            "bias": step.module.bias is not None,
        }
    elif isinstance(step.module, nn.Linear):
        more = {"bias": step.module.bias is not None}
    return Layer(
        operation.name,
        operation.kind,
        in_shape,
        out_shape,
        inputs=operation.inputs,
        module=block,
        **more,
    )


def narrowed(shape: Shape, axis: Axis | None, widths: Mapping[str, int]) -> Shape:
    """Return the shape of a sample whose channels an axis rules."""
    return shape if axis is None else (axis.run * widths[axis.group], *shape[1:])


def _pooled(operation: Operation) -> tuple[int, int]:
    """Return how many positions make one, rounded up; poolings may overlap or be adaptive."""
    after = (*operation.out_shape[1:], 1, 1)
    height, width = (
        math.ceil(before / now) for before, now in zip(operation.in_shape[1:], after, strict=False)
    )
    return height, width
