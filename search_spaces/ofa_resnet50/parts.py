"""The parts of a network: their records, modules, and the keys that name their computations."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import nn

from search_spaces.base import Layer, Shape
from search_spaces.elastic.chain import text
from search_spaces.elastic.modules import ConvNorm
from search_spaces.elastic.records import Trace, strided
from search_spaces.ofa_resnet50.modules import Bottleneck, Head, ResidualConv

cached = functools.lru_cache(maxsize=1 << 14)  # networks share the records of equal parts


@dataclass(frozen=True)
class StemPart:
    """A 3x3 convolution of the stem; one that is residual keeps its channels."""

    name: str
    in_shape: Shape
    channels: int
    stride: int = 1
    residual: bool = False

    @property
    def out_shape(self) -> Shape:
        """What it makes of its map."""
        return strided((self.channels, *self.in_shape[1:]), self.stride)

    @property
    def key(self) -> str:
        """The name of its computation."""
        key = f"conv-k3-s{self.stride}-relu-{text(self.in_shape)}-{self.channels}"
        return key + "-add" * self.residual

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; the first reads layer `source`, or the network's input."""
        trace = Trace(self.name, self.in_shape, source)
        before = trace.last
        trace.conv_norm("", self.channels, 3, self.stride)
        if self.residual:
            trace.add("add", "add", inputs=(*trace.last, *before))
        return tuple(trace.layers)

    def build(self) -> ConvNorm:
        """Return it as a module, freshly initialised."""
        if self.residual:
            return ResidualConv(self.channels)
        return ConvNorm(self.in_shape[0], self.channels, 3, self.stride)


@dataclass(frozen=True)
class PoolPart:
    """The 3x3 max pool with stride 2 that ends the stem."""

    name: str
    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        """What it makes of its map."""
        return strided(self.in_shape, 2)

    @property
    def key(self) -> str:
        """The name of its computation."""
        return f"max_pool-k3-s2-{text(self.in_shape)}"

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its one record, which reads layer `source`."""
        trace = Trace(self.name, self.in_shape, source)
        trace.add("pool", "max_pool", self.out_shape, kernel_size=(3, 3), stride=(2, 2))
        return tuple(trace.layers)

    def build(self) -> nn.MaxPool2d:
        """Return it as a module."""
        return nn.MaxPool2d(3, 2, padding=1)


@dataclass(frozen=True)
class BlockPart:
    """A bottleneck block; the first of a stage projects its shortcut."""

    name: str
    in_shape: Shape
    channels: int
    hidden: int
    stride: int
    projects: bool

    @property
    def out_shape(self) -> Shape:
        """What it makes of its map."""
        return strided((self.channels, *self.in_shape[1:]), self.stride)

    @property
    def key(self) -> str:
        """The name of its computation."""
        sizes = f"{text(self.in_shape)}-{self.channels}-h{self.hidden}"
        return f"bottleneck-s{self.stride}-relu-{sizes}" + "-projects" * self.projects

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; two of them read layer `source`."""
        trace = Trace(self.name, self.in_shape, source)
        before = trace.last
        if self.projects:
            self._project(trace)
        shortcut, trace.last, trace.shape = trace.last, before, self.in_shape
        trace.conv_norm("conv1.", self.hidden)
        trace.conv_norm("conv2.", self.hidden, 3, self.stride)
        trace.conv_norm("conv3.", self.channels, act=False)
        trace.add("add", "add", inputs=(*trace.last, *shortcut))
        trace.add("act", "activation")
        return tuple(trace.layers)

    def build(self) -> Bottleneck:
        """Return it as a module, freshly initialised."""
        return Bottleneck(
            self.in_shape[0], self.channels, self.hidden, self.stride, projects=self.projects
        )

    def _project(self, trace: Trace) -> None:
        if self.stride > 1:
            window, pooled = (self.stride, self.stride), strided(self.in_shape, self.stride)
            trace.add("shortcut.pool", "avg_pool", pooled, kernel_size=window, stride=window)
        trace.conv_norm("shortcut.", self.channels, act=False)


@dataclass(frozen=True)
class HeadPart:
    """The global average pool and the classifier."""

    in_shape: Shape
    num_classes: int
    name: str = "head"

    @property
    def key(self) -> str:
        """The name of its computation."""
        return f"head-{text(self.in_shape)}-{self.num_classes}"

    @cached
    def layers(self, source: str | None) -> tuple[Layer, ...]:
        """Return its records; the first reads layer `source`."""
        trace = Trace(self.name, self.in_shape, source)
        trace.add("pool", "avg_pool", (self.in_shape[0], 1, 1))
        trace.add("flatten", "flatten", self.in_shape[:1])
        trace.add("linear", "linear", (self.num_classes,), bias=True)
        return tuple(trace.layers)

    def build(self) -> Head:
        """Return it as a module, freshly initialised."""
        return Head(self.in_shape[0], self.num_classes)
