"""The parts of a network as Layer records, which the cost models read.

Networks share the records of equal parts.
"""

from __future__ import annotations

import functools
from typing import Any

from search_spaces.base import Layer, LayerKind, Shape
from search_spaces.slimmable_resnet.networks import Layout, Map, ResidualSpec, strided

cached = functools.lru_cache(maxsize=1 << 14)


@cached
def stem_layers(layout: Layout, in_shape: Shape, width: int) -> tuple[Layer, ...]:
    """Return the layers of `conv1`; the first reads the network's input."""
    trace = _Trace("conv1", in_shape, None)
    trace.conv(width, layout.stem_kernel, layout.stem_stride)
    trace.add("act", "activation", trace.shape)
    if layout.stem_pool:
        pooled = (width, *strided(trace.shape[1:], 2))
        trace.add("pool", "max_pool", pooled, kernel_size=(3, 3), stride=(2, 2))
    return tuple(trace.layers)


@cached
def first_layers(spec: ResidualSpec, in_width: int, width: int, source: str) -> tuple[Layer, ...]:
    """Return the layers of a block's first convolution, which reads layer `source`."""
    trace = _Trace(spec.first, (in_width, *spec.in_map), source)
    trace.conv(width, 3, spec.stride)
    trace.add("act", "activation", trace.shape)
    return tuple(trace.layers)


@cached
def shortcut_layers(
    spec: ResidualSpec, in_width: int, width: int, source: str
) -> tuple[Layer, ...]:
    """Return the layers of a block's shortcut, which reads layer `source`; none if it is one."""
    trace = _Trace(spec.shortcut, (in_width, *spec.in_map), source)
    if spec.kind in ("conv", "conv_pool", "strided_conv"):
        trace.conv(width, 1, spec.stride if spec.kind == "strided_conv" else 1)
    if spec.kind in ("pool_pad", "conv_pool"):
        pooled = (trace.shape[0], *spec.out_map)
        trace.add("pool", "avg_pool", pooled, kernel_size=(2, 2), stride=(2, 2))
    if trace.shape[0] != width:
        trace.add("pad", "pad", (width, *spec.out_map))
    return tuple(trace.layers)


@cached
def second_layers(
    spec: ResidualSpec, in_width: int, width: int, shortcut: str
) -> tuple[Layer, ...]:
    """Return the layers of a block's second convolution and of the sum with layer `shortcut`."""
    trace = _Trace(spec.second, (in_width, *spec.out_map), f"{spec.first}.act")
    trace.conv(width, 3)
    trace.add("add", "add", trace.shape, inputs=(*trace.last, shortcut))
    trace.add("act", "activation", trace.shape)
    return tuple(trace.layers)


@cached
def head_layers(in_map: Map, width: int, num_classes: int, source: str) -> tuple[Layer, ...]:
    """Return the head's layers; the first reads layer `source`."""
    trace = _Trace("head", (width, *in_map), source)
    trace.add("pool", "avg_pool", (width,), kernel_size=in_map)
    trace.add("linear", "linear", (num_classes,), bias=True)
    return tuple(trace.layers)


class _Trace:
    """Collects a module's layer records; each reads the one before unless told otherwise."""

    def __init__(self, module: str, shape: Shape, source: str | None) -> None:
        self.layers: list[Layer] = []
        self.module = module
        self.shape = shape
        self.last: tuple[str, ...] = () if source is None else (source,)

    def add(self, name: str, kind: LayerKind, out_shape: Shape, **more: Any) -> None:
        more.setdefault("inputs", self.last)
        name = f"{self.module}.{name}"
        self.layers.append(Layer(name, kind, self.shape, out_shape, module=self.module, **more))
        self.shape, self.last = out_shape, (name,)

    def conv(self, width: int, size: int, stride: int = 1) -> None:
        out_shape = (width, *strided(self.shape[1:], stride))
        self.add("conv", "conv", out_shape, kernel_size=(size, size), stride=(stride, stride))
        self.add("norm", "norm", out_shape)
