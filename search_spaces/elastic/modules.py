"""Modules that networks of both Once-for-all spaces have.

Tensors: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Activation = Literal["relu", "h_swish"]
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "h_swish": nn.Hardswish}


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, activation; padded by half a kernel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: Activation | None = "relu",
    ) -> None:
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))
        if activation is not None:
            self.add_module("act", ACTIVATIONS[activation]())


class Resize(nn.Module):
    """Brings images of the data set's size to a network's resolution."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the images at the size (rows, columns)."""
        return resized(x_BCHW, self.size)


def resized(x_BCHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return images at a size (rows, columns): bilinear, without a filter before shrinking."""
    return functional.interpolate(x_BCHW, size, mode="bilinear", align_corners=False)


def make_div8(width: float) -> int:
    """Return the multiple of 8 nearest to a width, at least 8 and at least 0.9 of it.

    As the code of Once-for-all, and of MobileNets before it, rounds channel counts.
    """
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded
