"""The parts of a network as Layer records, which the cost models read.

Networks share the records of equal parts: a part is traced once.
"""

from __future__ import annotations

import functools
from typing import Any

from search_spaces.base import Layer, LayerKind, Shape
from search_spaces.gpunet.modules import LayerSpec, squeezed_channels
from search_spaces.gpunet.presets import Preset, strided


@functools.cache
def stem_layers(preset: Preset) -> tuple[Layer, ...]:
    """Return the stem's layers; the first reads the network's input."""
    trace = _Trace("stem")
    out_shape = strided(preset.in_shape, preset.stem_channels, preset.stem_stride)
    trace.conv("stem", preset.in_shape, out_shape, 3, preset.stem_stride)
    return tuple(trace.layers)


@functools.cache
def block_layers(
    spec: LayerSpec, source: str, kernel_size: int, se: bool = False, hidden: int = 0
) -> tuple[Layer, ...]:
    """Return the layers of an option; the first reads layer `source`."""
    trace = _Trace(spec.name, source)
    if spec.kind == "conv":
        trace.conv(spec.name, spec.in_shape, spec.out_shape, kernel_size, spec.stride)
    else:
        trace.inverted_residual(spec, kernel_size, se, hidden)
    return tuple(trace.layers)


@functools.cache
def head_layers(preset: Preset, in_shape: Shape, source: str) -> tuple[Layer, ...]:
    """Return the head's layers; the first reads layer `source`."""
    trace = _Trace("head", source)
    wide: Shape = (preset.head_channels, *in_shape[1:])
    trace.conv("head.conv", in_shape, wide)
    trace.add("head.pool", "avg_pool", wide, wide[:1])
    trace.add("head.linear", "linear", wide[:1], (preset.num_classes,), bias=True)
    return tuple(trace.layers)


class _Trace:
    """Collects a block's layer records; each reads the one before unless told otherwise."""

    def __init__(self, module: str, source: str | None = None) -> None:
        self.layers: list[Layer] = []
        self.module = module
        self.last: tuple[str, ...] = () if source is None else (source,)

    def add(
        self, name: str, kind: LayerKind, in_shape: Shape, out_shape: Shape, **more: Any
    ) -> None:
        more.setdefault("inputs", self.last)
        self.layers.append(Layer(name, kind, in_shape, out_shape, module=self.module, **more))
        self.last = (name,)

    def conv(
        self,
        name: str,
        in_shape: Shape,
        out_shape: Shape,
        size: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        geometry = {"kernel_size": (size, size), "stride": (stride, stride), "groups": groups}
        self.add(f"{name}.conv", "conv", in_shape, out_shape, **geometry)
        self.add(f"{name}.norm", "norm", out_shape, out_shape)
        if act:
            self.add(f"{name}.act", "activation", out_shape, out_shape)

    def inverted_residual(self, spec: LayerSpec, kernel_size: int, se: bool, hidden: int) -> None:
        name, source = spec.name, self.last
        wide_in: Shape = (hidden, *spec.in_shape[1:])
        wide_out: Shape = (hidden, *spec.out_shape[1:])
        if spec.kind == "fused_irb":
            self.conv(f"{name}.expand", spec.in_shape, wide_out, kernel_size, spec.stride)
        else:
            self.conv(f"{name}.expand", spec.in_shape, wide_in)
            self.conv(f"{name}.depthwise", wide_in, wide_out, kernel_size, spec.stride, hidden)
        if se:
            squeezed: Shape = (squeezed_channels(spec.in_shape[0]), 1, 1)
            scaled, gate = self.last, (hidden, 1, 1)
            self.add(f"{name}.se.mean", "avg_pool", wide_out, gate)
            self.add(f"{name}.se.reduce", "conv", gate, squeezed, bias=True)
            self.add(f"{name}.se.act", "activation", squeezed, squeezed)
            self.add(f"{name}.se.expand", "conv", squeezed, gate, bias=True)
            self.add(f"{name}.se.gate", "activation", gate, gate)
            inputs = (*scaled, *self.last)
            self.add(f"{name}.se.scale", "scale", wide_out, wide_out, inputs=inputs)
        self.conv(f"{name}.project", wide_out, spec.out_shape, act=False)
        if spec.in_shape == spec.out_shape:
            inputs = (*self.last, *source)
            self.add(f"{name}.add", "add", spec.out_shape, spec.out_shape, inputs=inputs)
