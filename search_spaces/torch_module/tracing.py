"""A network as the list of what it does, by symbolic execution (torch.fx)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from search_spaces.base import LayerKind, Shape
from search_spaces.torch_module.operations import FUNCTIONS, METHODS, MODULES, Kind

SPATIAL = ({2, 3}, {-1, -2})  # the dimensions that a mean may be over


@dataclass(frozen=True)
class Operation:
    """One step of the full network; `node` is what torch.fx knows of it.

    Shapes are of one sample. `sources` are the nodes that it reads; `inputs` the operations whose
    values these are, without the network's input. `target` is the module's path, empty where it is
    none. `second_shape` is that of the second source, where there are two.
    """

    name: str
    kind: LayerKind
    node: fx.Node
    target: str
    sources: tuple[fx.Node, ...]
    inputs: tuple[str, ...]
    in_shape: Shape
    second_shape: Shape | None
    out_shape: Shape


def traced(network: nn.Module, in_shape: Shape) -> tuple[Operation, ...]:
    """Return what a network on the meta device does, in execution order.

    Raises:
        ValueError: it cannot be told, or something in it moves or mixes channels; names that.
    """
    try:
        module = fx.symbolic_trace(network)
    except Exception as error:  # whatever the network's own code raises
        raise ValueError(f"function: its network cannot be traced: {_line(error)}") from error
    follower = _Follower(module, in_shape)
    for node in module.graph.nodes:
        follower.follow(node)
    return tuple(follower.operations)


def last_layer(operations: Sequence[Operation]) -> str:
    """Return the path of the convolution or linear layer whose outputs the network returns.

    Raises:
        ValueError: the network does nothing.
    """
    if not operations:
        raise ValueError("function: its network has no operations")
    found = {operation.name: operation for operation in operations}
    operation = operations[-1]
    while operation.kind not in ("conv", "linear") and operation.inputs:
        operation = found[operation.inputs[0]]
    return operation.target


class _Follower:
    """Collects operations, node by node, and runs them to see their shapes."""

    def __init__(self, module: fx.GraphModule, in_shape: Shape) -> None:
        self.module, self.in_shape = module, in_shape
        self.runner = fx.Interpreter(module)
        self.runner.args_iter = iter([torch.empty(1, *in_shape, device="meta")])
        self.operations: list[Operation] = []
        self.names: dict[fx.Node, str] = {}  # of the operation that a node's values come from
        self.applied: set[str] = set()

    def follow(self, node: fx.Node) -> None:
        """Add what a node does.

        Raises:
            ValueError: it is not known to keep channels in their places.
        """
        if node.op == "output":
            _require(isinstance(node.args[0], fx.Node), node, "a tuple of outputs")
            return
        kind = None if node.op == "placeholder" else self._kind(node)
        try:
            self.runner.env[node] = self.runner.run_node(node)
        except Exception as error:
            raise ValueError(
                f"in_shape: {self.in_shape} does not suit the network: {_line(error)}"
            ) from error
        sources = list(node.all_input_nodes)
        if kind is not None:
            self._add(node, kind, sources)
        else:
            self.names[node] = self.names[sources[0]] if sources else ""

    def _shape(self, node: fx.Node) -> Shape:
        return tuple(self.runner.env[node].shape[1:])

    def _add(self, node: fx.Node, kind: LayerKind, sources: list[fx.Node]) -> None:
        if kind == "scale":  # the map first, then the factors of its channels
            sources.sort(key=lambda source: -math.prod(self._shape(source)))
        shapes, out_shape = [self._shape(source) for source in sources], self._shape(node)
        _require(_keeps_channels(kind, shapes, out_shape), node, _text(self.module, node))
        if kind in ("add", "scale"):
            _require(len(sources) == 2, node, _text(self.module, node))
        target = str(node.target) if node.op == "call_module" else ""
        _require(target not in self.applied, node, "a second application")
        if kind in ("conv", "linear", "norm"):
            self.applied.add(target)
        self.names[node] = node.name
        self.operations.append(
            Operation(
                name=node.name,
                kind=kind,
                node=node,
                target=target,
                sources=tuple(sources),
                inputs=tuple(filter(None, (self.names[source] for source in sources))),
                in_shape=shapes[0],
                second_shape=shapes[1] if len(shapes) > 1 else None,
                out_shape=out_shape,
            )
        )

    def _kind(self, node: fx.Node) -> Kind:
        table: Any = {"call_function": FUNCTIONS, "call_method": METHODS}.get(node.op, {})
        key: Any = node.target
        if node.op == "call_module":
            module = self.module.get_submodule(str(node.target))
            _check_norm(module, str(node.target))
            table, key = MODULES, type(module)
        text = _text(self.module, node)
        _require(key in table, node, text)
        if key == "mean":
            dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            _require(isinstance(dims, list | tuple) and set(dims) in SPATIAL, node, text)
        kind: Kind = table[key]
        return kind


def _keeps_channels(kind: LayerKind, shapes: list[Shape], out_shape: Shape) -> bool:
    """Whether an operation of this kind does to shapes what is known to leave channels in place."""
    in_shape = shapes[0]
    if kind in ("conv", "linear"):
        return len(in_shape) == (3 if kind == "conv" else 1)
    if kind == "flatten":
        return len(out_shape) == 1
    if kind == "scale":
        factors = (in_shape, (in_shape[0], *[1] * (len(in_shape) - 1)))
        return out_shape == in_shape and shapes[-1] in factors
    if kind in ("norm", "activation", "add"):
        return all(shape == out_shape for shape in shapes)
    return in_shape[0] == out_shape[0]


def _check_norm(module: nn.Module, path: str) -> None:
    """Refuse statistics that no group rules: the dependency graph sees parameters alone."""
    norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if norm and module.track_running_stats and not module.affine:
        raise ValueError(
            f"function: its channels cannot be cut to the first ones: {path!r} is a"
            f" {type(module).__name__} with affine=False; allowed: affine=True"
        )


def _text(module: fx.GraphModule, node: fx.Node) -> str:
    """Return what a node does, in the words of torch."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    if node.target is getattr:
        return f"Tensor.{node.args[1]}"
    if node.op == "get_attr":
        return f"parameter {node.target}"
    known = torch.overrides.resolve_name(node.target)
    return str(known or getattr(node.target, "__name__", node.target))


def _require(holds: bool, node: fx.Node, text: str) -> None:
    if not holds:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        where = f" in {stack[-1][0]}" if stack else ""
        raise ValueError(
            f"function: its channels cannot be cut to the first ones: {text}{where} stands in the"
            " way"
        )


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
