"""The parts of a network as blocks whose latencies add up.

A block is a convolution or linear layer with all that follows it alone: what reads its output, as
long as nothing else does. A sum or a product begins a block of its own, in which a stored map
stands for its second operand.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx.node import map_arg

from search_spaces.base import Block, Shape
from search_spaces.torch_module.cutting import cut
from search_spaces.torch_module.groups import Axes
from search_spaces.torch_module.records import Step, narrowed


@dataclass(frozen=True)
class Segment:
    """Operations of which each reads the one before alone; named after the first."""

    name: str
    steps: tuple[Step, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups whose widths its shapes depend on."""
        axes = [axis for step in self.steps for axis in (step.in_axis, step.out_axis)]
        return tuple(dict.fromkeys(axis.group for axis in axes if axis is not None))


class PartOfNetwork(nn.Module):
    """A segment by itself.

    Args:
        segment: what it does.
        parts: the modules of its steps, by the names of their operations.
        stored_CHW: the first step's second operand, or None where it has one operand.
    """

    def __init__(
        self, segment: Segment, parts: Mapping[str, nn.Module], stored_CHW: torch.Tensor | None
    ) -> None:
        super().__init__()
        self.steps = [(step.operation.name, _function(step)) for step in segment.steps]
        self.parts = nn.ModuleDict(parts)
        self.register_buffer("stored_CHW", stored_CHW)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return what the last step computes."""
        for name, function in self.steps:
            if name in self.parts:
                x_BCHW = self.parts[name](x_BCHW)
            else:
                x_BCHW = function(x_BCHW, self.stored_CHW)
        return x_BCHW


def _function(step: Step) -> Callable[..., Any]:
    """Return what a step that is no module does, as a function, which copies of a module share."""
    node = step.operation.node

    def apply(*operands: torch.Tensor) -> Any:
        values: dict[Any, Any] = dict(zip(step.operation.sources, operands, strict=False))
        args: Any = map_arg(node.args, values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, values.__getitem__)
        if isinstance(node.target, str):
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    return apply


def segments(steps: Sequence[Step]) -> tuple[Segment, ...]:
    """Return a network's operations in blocks, in execution order."""
    readers = [name for step in steps for name in step.operation.inputs]
    chains: list[list[Step]] = []
    last: dict[str, list[Step]] = {}  # the chain that ends with an operation
    for step in steps:
        inputs = step.operation.inputs
        follows = len(inputs) == len(step.operation.sources) == 1 and readers.count(inputs[0]) == 1
        if follows and step.operation.kind not in ("conv", "linear"):
            chain = last[inputs[0]]
        else:
            chains.append(chain := [])
        chain.append(step)
        last[step.operation.name] = chain
    return tuple(Segment(chain[0].operation.name, tuple(chain)) for chain in chains)


def blocks_of(
    parts: Sequence[Segment], axes: Axes, offered: Mapping[str, Sequence[int]]
) -> Iterator[Block]:
    """Yield the blocks of all networks that have the offered widths, segment by segment.

    Args:
        parts: the segments of a network.
        axes: of its tensors.
        offered: the widths of each group.
    """
    for segment in parts:
        for chosen in itertools.product(*(offered[name] for name in segment.groups)):
            widths = dict(zip(segment.groups, chosen, strict=True))
            first = segment.steps[0]
            in_shape = narrowed(first.operation.in_shape, first.in_axis, widths)
            yield Block(_key(segment, in_shape, widths), in_shape, _builder(segment, axes, widths))


def _key(segment: Segment, in_shape: Shape, widths: Mapping[str, int]) -> str:
    """Return what a block computes, in words."""
    shapes = [narrowed(s.operation.out_shape, s.out_axis, widths) for s in segment.steps]
    texts = [f"{_text(s)}-{_sizes(o)}" for s, o in zip(segment.steps, shapes, strict=True)]
    return "-".join([_sizes(in_shape), *texts])


def _text(step: Step) -> str:
    module, kind = step.module, step.operation.kind
    if isinstance(module, nn.Conv2d):
        geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
        tied = f"-{module.weight.shape[1]}each" if module.groups > 1 else ""
        return f"conv{geometry}{tied}{'' if module.bias is None else '-bias'}".replace(" ", "")
    if module is None:
        target = step.operation.node.target
        return str(getattr(target, "__name__", target))
    return kind if kind in ("linear", "norm") else str(module).replace(" ", "")


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _builder(
    segment: Segment, axes: Axes, widths: Mapping[str, int]
) -> Callable[[], PartOfNetwork]:
    return lambda: _built(segment, axes, widths)


def _built(segment: Segment, axes: Axes, widths: Mapping[str, int]) -> PartOfNetwork:
    """Return a segment as a module with new weights, in evaluation mode."""
    parts = {}
    for step in segment.steps:
        if step.module is not None:
            part = copy.deepcopy(step.module)
            cut(part, axes, widths, step.operation.target)
            parts[step.operation.name] = _with_weights(part)
    first, stored_CHW = segment.steps[0], None
    if first.operation.second_shape is not None:
        stored_CHW = torch.rand(narrowed(first.operation.second_shape, first.in_axis, widths))
    return PartOfNetwork(segment, parts, stored_CHW).eval()


def _with_weights(part: Any) -> nn.Module:
    """Return a layer of the meta device on the default one, freshly initialised."""
    part = part.to_empty(device=torch.get_default_device())
    if any(True for _ in part.parameters()):
        part.reset_parameters()
    return part  # type: ignore[no-any-return]
