"""Blocks and head as torch modules.

Tensors: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from search_spaces.elastic.modules import Activation, ConvNorm, make_div8
from search_spaces.elastic.sorting import Hidden


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their global means; its sigmoid is a hard one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = squeezed_channels(channels)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the input, channels scaled by gates in [0, 1]."""
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        gate_BC11: torch.Tensor = self.gate(self.expand(self.act(self.reduce(mean_BC11))))
        return x_BCHW * gate_BC11


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, [SE], 1x1 projection; residual where shapes allow.

    Nothing expands where the hidden channels are as many as the block's input has.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        kernel_size: int,
        stride: int,
        activation: Activation,
        *,
        se: bool,
    ) -> None:
        super().__init__()
        expands = hidden != in_channels
        self.expand = (
            ConvNorm(in_channels, hidden, activation=activation) if expands else nn.Identity()
        )
        self.depthwise = ConvNorm(
            hidden, hidden, kernel_size, stride, groups=hidden, activation=activation
        )
        self.se = SqueezeExcite(hidden) if se else nn.Identity()
        self.project = ConvNorm(hidden, out_channels, activation=None)
        self.residual = stride == 1 and in_channels == out_channels
        self.sortable = _sortable(se=se) if expands else ()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y_BCHW: torch.Tensor = self.project(self.se(self.depthwise(self.expand(x_BCHW))))
        return x_BCHW + y_BCHW if self.residual else y_BCHW


class Head(nn.Sequential):
    """1x1 convolution, global average pool, 1x1 convolution without batch norm, classifier."""

    def __init__(self, in_channels: int, channels: int, mixed: int, num_classes: int) -> None:
        super().__init__(
            OrderedDict(
                conv=ConvNorm(in_channels, channels, activation="h_swish"),
                pool=nn.AdaptiveAvgPool2d(1),
                mix=nn.Conv2d(channels, mixed, 1, bias=False),
                act=nn.Hardswish(),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(0.0),
                linear=nn.Linear(mixed, num_classes),
            )
        )


def squeezed_channels(channels: int) -> int:
    """Return the width inside squeeze-and-excitation: about a quarter."""
    return make_div8(channels // 4)


def _sortable(*, se: bool) -> tuple[Hidden, ...]:
    """Return the channels between expansion and projection, and those inside SE."""
    owners = ("expand.conv", "expand.norm", "depthwise.conv", "depthwise.norm")
    if not se:
        return (Hidden("project.conv", owners),)
    return (
        Hidden("project.conv", (*owners, "se.expand"), ("se.reduce",)),
        Hidden("se.expand", ("se.reduce",)),
    )
