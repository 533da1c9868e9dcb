"""The space itself: its choices, and what becomes of an architecture."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from search_spaces.base import Architecture, Block, Choice, Layer, Shape, check_options
from search_spaces.gpunet import presets
from search_spaces.gpunet.modules import ConvBlock, GPUNetwork, Head, LayerSpec, build_block
from search_spaces.gpunet.presets import PRESETS, Preset, strided
from search_spaces.gpunet.records import block_layers, head_layers, stem_layers


class GPUNet:
    """The space itself; see the package's page for the form of an architecture."""

    name = "gpunet"
    Config = presets.Config

    def __init__(self, config: presets.Config | None = None) -> None:
        config = config or presets.Config()
        changed = {
            key: getattr(config, key)
            for key in ("in_shape", "num_classes", "max_expand_ratio", "granularity")
            if getattr(config, key) is not None
        }
        self.preset = replace(PRESETS[config.preset], **changed)
        self.in_shape: Shape = self.preset.in_shape
        self.num_classes = self.preset.num_classes
        self.stem_shape = strided(self.in_shape, self.preset.stem_channels, self.preset.stem_stride)
        self.specs = tuple(_specs(self.preset, self.stem_shape))
        self.choices = tuple(Choice(spec.name, spec.options) for spec in self.specs)
        self._options = {
            choice.name: {_option_key(option): option for option in choice.options}
            for choice in self.choices
        }
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
        try:
            if architecture.keys() != self._options.keys():
                raise KeyError
            return {
                name: options[_option_key(architecture[name])]
                for name, options in self._options.items()
            }
        except (AttributeError, KeyError, TypeError):
            check_options(self.choices, architecture)
            raise

    def build(self, architecture: Architecture) -> GPUNetwork:
        """Return the stand-alone network, freshly initialised."""
        architecture = self.canonical(architecture)
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=self._stem())
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
        layers = list(stem_layers(self.preset))
        for spec in self.specs:
            if architecture[spec.name] is not None:
                layers += block_layers(spec, layers[-1].name, **architecture[spec.name])
        layers += head_layers(self.preset, self.specs[-1].out_shape, layers[-1].name)
        return tuple(layers)

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


def block_of(spec: LayerSpec, option: Mapping[str, Any]) -> Block:
    """Return one option of a layer as a measurable block; its key names the computation."""
    key = f"{spec.kind}-k{option['kernel_size']}-s{spec.stride}-{spec.activation}"
    key += f"-{_text(spec.in_shape)}-{spec.out_shape[0]}"
    if spec.kind != "conv":
        key += f"-h{option['hidden']}" + ("-se" if option["se"] else "")
    return Block(key, spec.in_shape, lambda: build_block(spec, option).eval())


def _specs(preset: Preset, shape: Shape) -> Iterator[LayerSpec]:
    for index, stage in enumerate(preset.stages):
        for position in range(stage.depth):
            stride = stage.stride if position == 0 else 1
            out_shape = strided(shape, stage.channels, stride)
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


def _option_key(option: Mapping[str, Any] | None) -> frozenset[tuple[str, Any]] | None:
    return None if option is None else frozenset(option.items())


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
