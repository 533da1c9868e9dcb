"""Convolutions, shortcuts and the network as torch modules.

Tensors: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from search_spaces.slimmable_resnet.networks import Layout, ResidualSpec


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, ReLU unless told otherwise; padded by half a kernel."""

    conv: nn.Conv2d

    def __init__(
        self, in_width: int, width: int, kernel_size: int, stride: int = 1, act: bool = True
    ) -> None:
        conv = nn.Conv2d(in_width, width, kernel_size, stride, padding=kernel_size // 2, bias=False)
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(width)))
        if act:
            self.add_module("act", nn.ReLU())


class StoredShortcut(nn.Module):
    """The end of a residual block by itself: a stored map stands for what the shortcut brings."""

    shortcut_CHW: torch.Tensor

    def __init__(self, second: nn.Module, out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.second = second
        self.register_buffer("shortcut_CHW", torch.rand(out_shape))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output from that of its first convolution."""
        y_BCHW: torch.Tensor = self.second(x_BCHW)
        return functional.relu(y_BCHW + self.shortcut_CHW)


class SlimmableNetwork(nn.Module):
    """A stand-alone network: `conv1`, the convolutions and shortcuts of every block, `head`."""

    def __init__(self, specs: Sequence[ResidualSpec], parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.specs = tuple(specs)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes)."""
        part = dict(self.named_children())
        x_BCHW = part["conv1"](x_BCHW)
        for spec in self.specs:
            y_BCHW = part[spec.second](part[spec.first](x_BCHW))
            x_BCHW = functional.relu(y_BCHW + part[spec.shortcut](x_BCHW))
        logits_BK: torch.Tensor = part["head"](x_BCHW)
        return logits_BK


def build_stem(layout: Layout, in_channels: int, width: int) -> nn.Sequential:
    """Return the first convolution; where the layout says so, a 3x3 max pool halves its map."""
    stem = ConvNorm(in_channels, width, layout.stem_kernel, layout.stem_stride)
    if layout.stem_pool:
        stem.add_module("pool", nn.MaxPool2d(3, 2, padding=1))
    return stem


def build_shortcut(spec: ResidualSpec, in_width: int, width: int) -> nn.Module:
    """Return a shortcut; one that pools takes means over 2x2 positions, fewer at odd borders."""
    if spec.kind == "identity":
        return nn.Identity()
    pool = nn.AvgPool2d(2, ceil_mode=True)
    if spec.kind == "pool_pad":
        # Zero channels are appended; a negative number drops channels.
        pad = nn.ConstantPad3d((0, 0, 0, 0, 0, width - in_width), 0.0)
        return nn.Sequential(OrderedDict(pool=pool, pad=pad))
    if spec.kind == "strided_conv":
        return ConvNorm(in_width, width, 1, spec.stride, act=False)
    shortcut = ConvNorm(in_width, width, 1, act=False)
    start_near_identity(shortcut.conv.weight)
    if spec.kind == "conv_pool":
        shortcut.add_module("pool", pool)
    return shortcut


@torch.no_grad()
def start_near_identity(weight_OIHW: torch.Tensor) -> None:
    """Make a drawn weight the identity plus a tenth of what was drawn, in place.

    So a block begins with the shortcut that its convolution stands in for. The tenth is for filters
    that have no channel of their own to pass on, in whole networks or in slices of them: all zero,
    they would make batch norm multiply their gradients by the root of 1 / epsilon.
    """
    weight_OIHW.mul_(0.1).add_(nn.init.dirac_(torch.empty_like(weight_OIHW)))


def build_head(width: int, num_classes: int) -> nn.Sequential:
    """Return the global average pool and the classifier."""
    pool, linear = nn.AdaptiveAvgPool2d(1), nn.Linear(width, num_classes)
    return nn.Sequential(OrderedDict(pool=pool, flatten=nn.Flatten(), linear=linear))
