"""The searchable layer and its options as torch modules.

Tensors: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.ops import StochasticDepth

from search_spaces.base import Shape
from search_spaces.gpunet.presets import StageKind

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"swish": nn.SiLU, "relu": nn.ReLU}
NORM_EPS = 1e-3  # GPUNet's batch norms


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
