"""The parts of a network: their records, modules, and the keys that name their computations."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from search_spaces.base import Layer, Shape
from search_spaces.elastic.chain import text
from search_spaces.elastic.modules import Activation, ConvNorm
from search_spaces.elastic.records import Trace, strided
from search_spaces.ofa_mobilenet_v3.modules import Head, InvertedResidual, squeezed_channels

cached = functools.lru_cache(maxsize=1 << 14)  # networks share the records of equal parts


@dataclass(frozen=True)
class StemPart:
    """The first convolution, 3x3."""

    name: str
    in_shape: Shape
    channels: int
    stride: int

    @property
    def out_shape(self) -> Shape:
        """What it makes of its map."""
        return strided((self.channels, *self.in_shape[1:]), self.stride)

    @property
    def key(self) -> str:
        """The name of its computation."""
        return f"conv-k3-s{self.stride}-h_swish-{text(self.in_shape)}-{self.channels}"

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; the first reads layer `source`, or the network's input."""
        trace = Trace(self.name, self.in_shape, source)
        trace.conv_norm("", self.channels, 3, self.stride)
        return tuple(trace.layers)

    def build(self) -> ConvNorm:
        """Return it as a module, freshly initialised."""
        return ConvNorm(self.in_shape[0], self.channels, 3, self.stride, activation="h_swish")


@dataclass(frozen=True)
class BlockPart:
    """An inverted residual block."""

    name: str
    in_shape: Shape
    channels: int
    hidden: int
    kernel_size: int
    stride: int
    activation: Activation
    se: bool

    @property
    def out_shape(self) -> Shape:
        """What it makes of its map."""
        return strided((self.channels, *self.in_shape[1:]), self.stride)

    @property
    def key(self) -> str:
        """The name of its computation."""
        kind = f"mbconv-k{self.kernel_size}-s{self.stride}-{self.activation}"
        sizes = f"{text(self.in_shape)}-{self.channels}-h{self.hidden}"
        return f"{kind}-{sizes}" + "-se" * self.se

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; the first reads layer `source`."""
        trace = Trace(self.name, self.in_shape, source)
        before = trace.last
        if self.hidden != self.in_shape[0]:
            trace.conv_norm("expand.", self.hidden)
        trace.conv_norm(
            "depthwise.", self.hidden, self.kernel_size, self.stride, groups=self.hidden
        )
        if self.se:
            _squeeze_excite(trace, self.hidden)
        trace.conv_norm("project.", self.channels, act=False)
        if self.in_shape == self.out_shape:
            trace.add("add", "add", inputs=(*trace.last, *before))
        return tuple(trace.layers)

    def build(self) -> InvertedResidual:
        """Return it as a module, freshly initialised."""
        return InvertedResidual(
            self.in_shape[0],
            self.channels,
            self.hidden,
            self.kernel_size,
            self.stride,
            self.activation,
            se=self.se,
        )


@dataclass(frozen=True)
class HeadPart:
    """What follows the blocks: two 1x1 convolutions with a pool between them, the classifier."""

    in_shape: Shape
    channels: int
    mixed: int
    num_classes: int
    name: str = "head"

    @property
    def key(self) -> str:
        """The name of its computation."""
        widths = f"{self.channels}-{self.mixed}-{self.num_classes}"
        return f"head-h_swish-{text(self.in_shape)}-{widths}"

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; the first reads layer `source`."""
        trace = Trace(self.name, self.in_shape, source)
        trace.conv_norm("conv.", self.channels)
        trace.add("pool", "avg_pool", (self.channels, 1, 1))
        trace.conv("mix", self.mixed)
        trace.add("act", "activation")
        trace.add("flatten", "flatten", (self.mixed,))
        trace.add("linear", "linear", (self.num_classes,), bias=True)
        return tuple(trace.layers)

    def build(self) -> Head:
        """Return it as a module, freshly initialised."""
        return Head(self.in_shape[0], self.channels, self.mixed, self.num_classes)


def _squeeze_excite(trace: Trace, channels: int) -> None:
    scaled, shape = trace.last, trace.shape
    trace.add("se.mean", "avg_pool", (channels, 1, 1))
    trace.conv("se.reduce", squeezed_channels(channels), bias=True)
    trace.add("se.act", "activation")
    trace.conv("se.expand", channels, bias=True)
    trace.add("se.gate", "activation")
    gate, trace.shape = trace.last, shape
    trace.add("se.scale", "scale", inputs=(*scaled, *gate))
