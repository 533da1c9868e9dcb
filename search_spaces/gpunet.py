"""The GPUNet-style layered supernet of PruNet (Kierat et al., "Tiered Pruning", Table 1).

Every layer offers blocks that differ in kernel size, squeeze-and-excitation and the number of
hidden channels; layers that keep their shape can be skipped. Preset `gpunet1_supernet` is the
paper's space (its own GPUNet-1 has one layer fewer per stage); `gpunet_8`, `gpunet_28` and
`gpunet_32` are the same idea for images of 8, 28 and 32 pixels.

An architecture maps each layer to `null` (skipped), to `{"kernel_size": k}` (plain convolution) or
to `{"kernel_size": k, "se": bool, "hidden": channels}`.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torchvision.ops import StochasticDepth

from search_spaces.base import Architecture, Block, Choice, Layer, Shape, check_options

StageKind = Literal["conv", "fused_irb", "irb"]
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"swish": nn.SiLU, "relu": nn.ReLU}
NORM_EPS = 1e-3  # GPUNet's batch norms


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of Table 1: `depth` layers of one kind, the first with `stride`."""

    kind: StageKind
    channels: int
    depth: int
    stride: int
    activation: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A supernet: stem, stages and head, and the options that every searched block has."""

    in_shape: tuple[int, int, int]
    num_classes: int
    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_channels: int
    max_expand_ratio: int
    granularity: int
    baseline_expand_ratios: tuple[tuple[int, ...], ...]
    baseline_se: tuple[bool, ...]
    kernel_sizes: tuple[int, ...] = (3, 5)


PRESETS: Mapping[str, Preset] = {
    "gpunet1_supernet": Preset(
        in_shape=(3, 288, 288),
        num_classes=1000,
        stem_channels=24,
        stem_stride=2,
        stages=(
            Stage("conv", 24, 2, 1, "relu"),
            Stage("fused_irb", 64, 3, 2, "swish"),
            Stage("fused_irb", 96, 3, 2, "swish"),
            Stage("irb", 160, 2, 2, "swish"),
            Stage("irb", 288, 5, 1, "relu"),
            Stage("irb", 448, 5, 2, "relu"),
        ),
        head_channels=1280,
        max_expand_ratio=8,
        granularity=32,
        baseline_expand_ratios=((1,), (4, 4), (4, 4), (2,), (5, 5, 5, 5), (4, 4, 4, 4)),
        baseline_se=(False, False, False, True, False, True),
    ),
    "gpunet_8": Preset(
        in_shape=(1, 8, 8),
        num_classes=10,
        stem_channels=8,
        stem_stride=1,
        stages=(
            Stage("conv", 8, 1, 1, "relu"),
            Stage("fused_irb", 16, 2, 2, "swish"),
            Stage("irb", 32, 3, 2, "relu"),
        ),
        head_channels=64,
        max_expand_ratio=8,
        granularity=16,
        baseline_expand_ratios=((), (4,), (4, 4)),
        baseline_se=(False, False, True),
    ),
    "gpunet_28": Preset(
        in_shape=(1, 28, 28),
        num_classes=10,
        stem_channels=16,
        stem_stride=2,
        stages=(
            Stage("conv", 16, 1, 1, "relu"),
            Stage("fused_irb", 24, 2, 2, "swish"),
            Stage("irb", 40, 3, 1, "relu"),
            Stage("irb", 64, 3, 2, "relu"),
        ),
        head_channels=192,
        max_expand_ratio=6,
        granularity=16,
        baseline_expand_ratios=((), (4,), (4, 4), (4, 4)),
        baseline_se=(False, False, False, True),
    ),
    "gpunet_32": Preset(
        in_shape=(3, 32, 32),
        num_classes=10,
        stem_channels=24,
        stem_stride=1,
        stages=(
            Stage("conv", 24, 2, 1, "relu"),
            Stage("fused_irb", 32, 3, 2, "swish"),
            Stage("fused_irb", 48, 2, 1, "swish"),
            Stage("irb", 80, 4, 2, "relu"),
            Stage("irb", 128, 3, 2, "relu"),
        ),
        head_channels=512,
        max_expand_ratio=8,
        granularity=16,
        baseline_expand_ratios=((1,), (4, 4), (4,), (4, 4, 4), (4, 4)),
        baseline_se=(False, False, False, False, True),
    ),
}


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One searchable layer: what its blocks have in common and what they may differ in.

    Shapes are (channels, height, width) of one sample; `max_hidden` is 0 for plain convolutions.
    """

    name: str
    kind: StageKind
    in_shape: Shape
    out_shape: Shape
    stride: int
    activation: str
    kernel_sizes: tuple[int, ...]
    max_hidden: int
    granularity: int
    skippable: bool

    @property
    def hidden_options(self) -> tuple[int, ...]:
        """Widths of the hidden dimension: multiples of the granularity, up to the maximum."""
        return tuple(range(self.granularity, self.max_hidden + 1, self.granularity))

    @property
    def options(self) -> tuple[dict[str, Any] | None, ...]:
        """Every option of this layer's choice: blocks, then `None` where it can be skipped."""
        skip: tuple[None, ...] = (None,) if self.skippable else ()
        if self.kind == "conv":
            return (*({"kernel_size": k} for k in self.kernel_sizes), *skip)
        blocks = (
            {"kernel_size": k, "se": se, "hidden": hidden}
            for k, se, hidden in itertools.product(
                self.kernel_sizes, (False, True), self.hidden_options
            )
        )
        return (*blocks, *skip)


class ConvBlock(nn.Sequential):
    """Convolution, batch norm, activation; "same" padding, no residual."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        activation: str | None = "relu",
        groups: int = 1,
    ) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(
                    in_channels,
                    out_channels,
                    kernel_size,
                    stride,
                    padding=kernel_size // 2,
                    groups=groups,
                    bias=False,
                ),
                norm=nn.BatchNorm2d(out_channels, eps=NORM_EPS),
            )
        )
        if activation is not None:
            self.add_module("act", ACTIVATIONS[activation]())


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their global means (Hu et al., 2018)."""

    def __init__(self, channels: int, squeezed: int, activation: str) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = ACTIVATIONS[activation]()
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the input, channels scaled by gates in (0, 1)."""
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        return x_BCHW * torch.sigmoid(self.expand(self.act(self.reduce(mean_BC11))))


class InvertedResidual(nn.Module):
    """IRB and Fused-IRB: expand to `hidden` channels, mix, project; residual where shapes allow.

    IRB: 1x1 expansion, depthwise k x k (stride), [SE], 1x1 projection. Fused-IRB: k x k expansion
    (stride), [SE], 1x1 projection. The squeezed width is a quarter of the block's input channels.
    """

    def __init__(self, spec: LayerSpec, kernel_size: int, se: bool, hidden: int) -> None:
        super().__init__()
        channels_in, channels_out, act = spec.in_shape[0], spec.out_shape[0], spec.activation
        if spec.kind == "fused_irb":
            self.expand = ConvBlock(channels_in, hidden, kernel_size, spec.stride, act)
            self.depthwise: nn.Module = nn.Identity()
        else:
            self.expand = ConvBlock(channels_in, hidden, 1, 1, act)
            self.depthwise = ConvBlock(hidden, hidden, kernel_size, spec.stride, act, hidden)
        squeezed = squeezed_channels(channels_in)
        self.se: nn.Module = SqueezeExcite(hidden, squeezed, act) if se else nn.Identity()
        self.project = ConvBlock(hidden, channels_out, 1, 1, None)
        self.residual = spec.in_shape == spec.out_shape
        self.drop_path = StochasticDepth(0.0, "row")

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output, shape (batch, *out_shape)."""
        y_BCHW: torch.Tensor = self.project(self.se(self.depthwise(self.expand(x_BCHW))))
        return x_BCHW + self.drop_path(y_BCHW) if self.residual else y_BCHW


class Head(nn.Sequential):
    """1x1 convolution, batch norm, ReLU, global average pool, dropout, classifier."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__(
            OrderedDict(
                conv=ConvBlock(in_channels, channels, 1),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(0.0),
                linear=nn.Linear(channels, num_classes),
            )
        )


class GPUNetwork(nn.Sequential):
    """A stand-alone network: stem, layers, head, in that order."""

    def forward_features(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Return the last feature map of every resolution, finest first (for detection necks)."""
        maps: list[torch.Tensor] = []
        for module in list(self)[:-1]:
            x_BCHW = module(x_BCHW)
            if maps and maps[-1].shape[2:] == x_BCHW.shape[2:]:
                maps.pop()
            maps.append(x_BCHW)
        return maps


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes default to the preset's, or follow the data set.

    `max_expand_ratio` and `granularity` (hidden channels) override the preset's.
    """

    preset: str = "gpunet_28"
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    max_expand_ratio: int | None = None
    granularity: int | None = None

    def __post_init__(self) -> None:
        """Refuse unknown presets and impossible sizes."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset: {self.preset!r} is unknown; allowed: {sorted(PRESETS)}")
        for name in ("num_classes", "max_expand_ratio", "granularity"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {self.in_shape} has a dimension below 1")


class GPUNet:
    """The space itself; see the module's page for the form of an architecture."""

    name = "gpunet"
    Config = Config

    def __init__(self, config: Config | None = None) -> None:
        config = config or Config()
        changed = {
            key: getattr(config, key)
            for key in ("in_shape", "num_classes", "max_expand_ratio", "granularity")
            if getattr(config, key) is not None
        }
        self.preset = replace(PRESETS[config.preset], **changed)
        self.in_shape: Shape = self.preset.in_shape
        self.num_classes = self.preset.num_classes
        self.stem_shape = _strided(self.in_shape, self.preset.stem_channels, self.preset.stem_stride)
        self.specs = tuple(_specs(self.preset, self.stem_shape))
        self.choices = tuple(Choice(spec.name, spec.options) for spec in self.specs)
        self.presets: Mapping[str, Architecture] = {
            "gpunet1": self._baseline(),
            "min": {spec.name: spec.options[-1 if spec.skippable else 0] for spec in self.specs},
            "max": {spec.name: _largest(spec) for spec in self.specs},
        }

    def size(self) -> int:
        """Return the exact number of architectures (paper, section 3.1)."""
        return math.prod(len(choice.options) for choice in self.choices)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with its layers in order; nothing is ever inactive here.

        Raises:
            ValueError: a layer is missing, unknown, or has an option that it does not offer.
        """
        check_options(self.choices, architecture)
        return {spec.name: architecture[spec.name] for spec in self.specs}

    def build(self, architecture: Architecture) -> GPUNetwork:
        """Return the stand-alone network, freshly initialised."""
        architecture = self.canonical(architecture)
        parts = OrderedDict(stem=self._stem())
        for spec in self.specs:
            if architecture[spec.name] is not None:
                parts[spec.name] = build_block(spec, architecture[spec.name])
        parts["head"] = self._head()
        return GPUNetwork(parts)

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return stem, layers and head as blocks whose latencies add up."""
        architecture = self.canonical(architecture)
        chosen = (
            block_of(spec, architecture[spec.name])
            for spec in self.specs
            if architecture[spec.name] is not None
        )
        return (self.stem_block, *chosen, self.head_block)

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the space once."""
        every = (
            block_of(spec, option)
            for spec in self.specs
            for option in spec.options
            if option is not None
        )
        yield from dict.fromkeys((self.stem_block, *every, self.head_block))

    @property
    def stem_block(self) -> Block:
        """The stem as a block."""
        stride, channels = self.preset.stem_stride, self.preset.stem_channels
        key = f"conv-k3-s{stride}-swish-{_text(self.in_shape)}-{channels}"
        return Block(key, self.in_shape, lambda: self._stem().eval())

    @property
    def head_block(self) -> Block:
        """The head as a block."""
        shape = self.specs[-1].out_shape
        key = f"head-{_text(shape)}-{self.preset.head_channels}-{self.num_classes}"
        return Block(key, shape, lambda: self._head().eval())

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order."""
        architecture = self.canonical(architecture)
        trace = _Trace()
        trace.conv_block("stem", self.in_shape, self.stem_shape, 3, self.preset.stem_stride)
        for spec in self.specs:
            option = architecture[spec.name]
            if option is None:
                continue
            if spec.kind == "conv":
                trace.conv_block(
                    spec.name, spec.in_shape, spec.out_shape, option["kernel_size"], spec.stride
                )
            else:
                trace.inverted_residual(spec, **option)
        shape, channels = self.specs[-1].out_shape, self.preset.head_channels
        trace.module = "head"
        trace.conv("head.conv", shape, (channels, *shape[1:]))
        trace.add("head.pool", "pool", (channels, *shape[1:]), (channels,))
        trace.add("head.linear", "linear", (channels,), (self.num_classes,), bias=True)
        return tuple(trace.layers)

    def _stem(self) -> ConvBlock:
        preset = self.preset
        return ConvBlock(self.in_shape[0], preset.stem_channels, 3, preset.stem_stride, "swish")

    def _head(self) -> Head:
        return Head(self.specs[-1].out_shape[0], self.preset.head_channels, self.num_classes)

    def _baseline(self) -> Architecture:
        """GPUNet-1, or the small presets' hand-made counterpart: kernel 3, one layer fewer."""
        architecture: Architecture = {}
        for index, stage in enumerate(self.preset.stages):
            ratios = self.preset.baseline_expand_ratios[index]
            for position in range(stage.depth):
                spec = next(s for s in self.specs if s.name == _layer_name(index, position))
                if position >= len(ratios):
                    option = None
                elif spec.kind == "conv":
                    option = {"kernel_size": 3}
                else:
                    hidden = _rounded(ratios[position] * spec.in_shape[0], spec)
                    se = self.preset.baseline_se[index]
                    option = {"kernel_size": 3, "se": se, "hidden": hidden}
                architecture[spec.name] = option
        return architecture


def squeezed_channels(in_channels: int) -> int:
    """Return the width inside squeeze-and-excitation: a quarter of the block's input."""
    return max(1, round(0.25 * in_channels))


def build_block(spec: LayerSpec, option: Mapping[str, Any]) -> nn.Module:
    """Return one option of a layer as a module, freshly initialised."""
    if spec.kind == "conv":
        channels_in, channels_out = spec.in_shape[0], spec.out_shape[0]
        size = option["kernel_size"]
        return ConvBlock(channels_in, channels_out, size, spec.stride, spec.activation)
    return InvertedResidual(spec, **option)


def block_of(spec: LayerSpec, option: Mapping[str, Any]) -> Block:
    """Return one option of a layer as a measurable block; its key names the computation."""
    key = f"{spec.kind}-k{option['kernel_size']}-s{spec.stride}-{spec.activation}"
    key += f"-{_text(spec.in_shape)}-{spec.out_shape[0]}"
    if spec.kind != "conv":
        key += f"-h{option['hidden']}" + ("-se" if option["se"] else "")
    return Block(key, spec.in_shape, lambda: build_block(spec, option).eval())


class _Trace:
    """Collects layer records; each reads the one before unless told otherwise."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.module = ""

    @property
    def last(self) -> tuple[str, ...]:
        return (self.layers[-1].name,) if self.layers else ()

    def add(self, name: str, kind: Any, in_shape: Shape, out_shape: Shape, **more: Any) -> None:
        more.setdefault("inputs", self.last)
        self.layers.append(Layer(name, kind, in_shape, out_shape, module=self.module, **more))

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

    def conv_block(
        self, name: str, in_shape: Shape, out_shape: Shape, size: int, stride: int
    ) -> None:
        self.module = name
        self.conv(name, in_shape, out_shape, size, stride)

    def inverted_residual(
        self, spec: LayerSpec, kernel_size: int, se: bool, hidden: int
    ) -> None:
        name, source = spec.name, self.last
        self.module = name
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
            self.add(f"{name}.se.mean", "pool", wide_out, gate)
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


def _specs(preset: Preset, shape: Shape) -> Iterator[LayerSpec]:
    for index, stage in enumerate(preset.stages):
        for position in range(stage.depth):
            stride = stage.stride if position == 0 else 1
            out_shape = _strided(shape, stage.channels, stride)
            widest = preset.max_expand_ratio * shape[0] // preset.granularity * preset.granularity
            yield LayerSpec(
                name=_layer_name(index, position),
                kind=stage.kind,
                in_shape=shape,
                out_shape=out_shape,
                stride=stride,
                activation=stage.activation,
                kernel_sizes=preset.kernel_sizes,
                max_hidden=0 if stage.kind == "conv" else max(widest, preset.granularity),
                granularity=preset.granularity,
                skippable=out_shape == shape,
            )
            shape = out_shape


def _layer_name(stage_index: int, position: int) -> str:
    return f"stage{stage_index + 1}_layer{position}"


def _largest(spec: LayerSpec) -> dict[str, Any]:
    size = max(spec.kernel_sizes)
    if spec.kind == "conv":
        return {"kernel_size": size}
    return {"kernel_size": size, "se": True, "hidden": spec.max_hidden}


def _rounded(channels: int, spec: LayerSpec) -> int:
    steps = max(1, round(channels / spec.granularity))
    return min(steps * spec.granularity, spec.max_hidden)


def _strided(shape: Shape, channels: int, stride: int) -> Shape:
    return (channels, *(math.ceil(size / stride) for size in shape[1:]))


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
