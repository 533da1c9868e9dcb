"""The parts of a fabric as Layer records, which the cost models and the modules are made of.

Every part is one module: a stem, an edge, a sum, a head. An edge that computes nothing, an
identity, has no records: whoever reads it reads its source.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from search_spaces.base import Layer, LayerKind, Shape

STEM, HEAD = "stem", "head"


def output_of(node: str) -> str:
    """Return the name of the layer that ends a node: the one that the node's readers read."""
    return f"{node}.act"


def stem_layers(in_shape: Shape, channels: int) -> tuple[Layer, ...]:
    """Return a 3x3 convolution, batch norm and ReLU that read the network's input."""
    trace = _Trace(STEM, in_shape)
    trace.conv("conv", channels)
    trace.add("norm", "norm")
    trace.add("act", "activation")
    return tuple(trace.layers)


def basic_block_layers(
    name: str, source: str, in_shape: Shape, channels: int, stride: int
) -> tuple[Layer, ...]:
    """Return the residual function of a basic block; the node that it leads to adds the skip."""
    trace = _Trace(name, in_shape, output_of(source))
    trace.conv("conv1", channels, stride=stride)
    trace.add("norm1", "norm")
    trace.add("act", "activation")
    trace.conv("conv2", channels)
    trace.add("norm2", "norm")
    return tuple(trace.layers)


def conv_norm_layers(
    name: str,
    source: str,
    in_shape: Shape,
    channels: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    upsample: bool = False,
) -> tuple[Layer, ...]:
    """Return a convolution and batch norm; `upsample` doubles the resolution before them."""
    trace = _Trace(name, in_shape, output_of(source))
    if upsample:
        rows, columns = in_shape[1:]
        trace.add("upsample", "upsample", (in_shape[0], 2 * rows, 2 * columns))
    trace.conv("conv", channels, kernel_size, stride)
    trace.add("norm", "norm")
    return tuple(trace.layers)


@functools.cache
def sum_layers(name: str, shape: Shape, inputs: tuple[str, ...]) -> tuple[Layer, ...]:
    """Return a node: the sum of the layers that it reads, of equal shape, and a ReLU."""
    summed = Layer(f"{name}.sum", "add", shape, shape, inputs=inputs, module=name)
    source, before = (inputs, ()) if len(inputs) == 1 else ((summed.name,), (summed,))
    return (*before, Layer(output_of(name), "activation", shape, shape, inputs=source, module=name))


def classifier_layers(source: str, in_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Return the mean over positions, unless there is but one, and a linear layer."""
    trace = _Trace(HEAD, in_shape, output_of(source))
    if math.prod(in_shape[1:]) > 1:
        trace.add("pool", "avg_pool", (in_shape[0], 1, 1))
    trace.add("flatten", "flatten", in_shape[:1])
    trace.add("linear", "linear", (classes,), bias=True)
    return tuple(trace.layers)


def pixel_classifier_layers(source: str, in_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Return a 1x1 convolution that gives every position its class scores."""
    trace = _Trace(HEAD, in_shape, output_of(source))
    trace.conv("conv", classes, kernel_size=1)
    return tuple(trace.layers)


class _Trace:
    """Collects the layers of one module; each reads the one before, the first `source`."""

    def __init__(self, module: str, in_shape: Shape, source: str | None = None) -> None:
        self.layers: list[Layer] = []
        self.module = module
        self.shape = in_shape
        self.last: tuple[str, ...] = () if source is None else (source,)

    def add(self, name: str, kind: LayerKind, out_shape: Shape | None = None, **more: Any) -> None:
        name, out_shape = f"{self.module}.{name}", out_shape or self.shape
        more |= {"inputs": self.last, "module": self.module}
        self.layers.append(Layer(name, kind, self.shape, out_shape, **more))
        self.shape, self.last = out_shape, (name,)

    def conv(self, name: str, channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        """Add a "same"-padded convolution; it has a bias, as those of the paper's code."""
        out_shape = (channels, *(math.ceil(length / stride) for length in self.shape[1:]))
        geometry = {"kernel_size": (kernel_size, kernel_size), "stride": (stride, stride)}
        self.add(name, "conv", out_shape, bias=True, **geometry)
