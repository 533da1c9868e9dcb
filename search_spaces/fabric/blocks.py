"""The parts of a fabric as blocks whose latency is measured; keys name the computation."""

from __future__ import annotations

from search_spaces.base import Block, Layer, Shape
from search_spaces.fabric.modules import SumWithConstants, chain


def chain_block(layers: tuple[Layer, ...]) -> Block:
    """Return layers that read one another in turn as a block."""
    in_shape = layers[0].in_shape
    key = "-".join([_text(in_shape), *map(_label, layers)])
    return Block(key, in_shape, lambda: chain(layers).eval())


def sum_block(shape: Shape, num_inputs: int) -> Block:
    """Return a node as a block; it reads as many maps as the node has inputs."""
    key = f"{_text(shape)}-sum-{num_inputs}-activation"
    return Block(key, shape, lambda: SumWithConstants(shape, num_inputs).eval())


def _label(layer: Layer) -> str:
    if layer.kind == "conv":
        return f"conv-k{layer.kernel_size[0]}-s{layer.stride[0]}-{layer.out_shape[0]}"
    return f"linear-{layer.out_shape[0]}" if layer.kind == "linear" else layer.kind


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
