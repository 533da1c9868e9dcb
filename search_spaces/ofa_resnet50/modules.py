"""Stem, bottleneck and head as torch modules.

Tensors: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from search_spaces.elastic.modules import ConvNorm
from search_spaces.elastic.sorting import Hidden


class ResidualConv(ConvNorm):
    """A 3x3 convolution with batch norm and ReLU, whose input is added to its output."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return a map of the input's shape."""
        y_BCHW = x_BCHW
        for layer in self:
            y_BCHW = layer(y_BCHW)
        return x_BCHW + y_BCHW


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the shortcut is the identity, or it projects.

    A projection is a 1x1 convolution with batch norm; where the block has a stride of 2, a 2x2
    average pool comes before it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int, stride: int, *, projects: bool
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, stride)
        self.conv3 = ConvNorm(hidden, out_channels, activation=None)
        self.shortcut = (
            _projection(in_channels, out_channels, stride) if projects else nn.Identity()
        )
        self.sortable = (
            Hidden("conv3.conv", ("conv2.conv", "conv2.norm")),
            Hidden("conv2.conv", ("conv1.conv", "conv1.norm")),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        shortcut_BCHW = self.shortcut(x_BCHW)
        y_BCHW: torch.Tensor = self.conv3(self.conv2(self.conv1(x_BCHW)))
        return functional.relu(y_BCHW + shortcut_BCHW)


class Head(nn.Sequential):
    """Global average pool and classifier."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(0.0),
                linear=nn.Linear(in_channels, num_classes),
            )
        )


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the shortcut that projects; at odd borders fewer positions are averaged."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1:
        parts["pool"] = nn.AvgPool2d(stride, ceil_mode=True)
    parts.update(conv=conv, norm=nn.BatchNorm2d(out_channels))
    return nn.Sequential(parts)
