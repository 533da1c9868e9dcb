"""Strided 1x1 convolutions of few channels, around a fault of oneDNN's.

On a CPU with AVX2 but not AVX-512, the weights' gradient of one of fewer than 8 input channels, on
channels-last maps, writes beyond its workspace (uxlfoundation/oneDNN issue 6035): the process
aborts, or computes with what it damaged. The positions that it reads, picked first, leave an
ordinary 1x1 convolution.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

VECTOR = 8


class NarrowConv2d(nn.Conv2d):
    """A strided 1x1 convolution that is trained without the fault; its result is the same."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return what `torch.nn.Conv2d` does."""
        is_safe = self.in_channels >= VECTOR or x_BCHW.device.type != "cpu"
        if is_safe or not torch.is_grad_enabled():
            return super().forward(x_BCHW)
        rows, columns = self.stride
        return functional.conv2d(x_BCHW[:, :, ::rows, ::columns], self.weight, self.bias)


def narrow_convs(network: nn.Module) -> nn.Module:
    """Return the network, whose strided 1x1 convolutions can be trained at any width."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_strided_pointwise(module):
            module.__class__ = NarrowConv2d
    return network


def _is_strided_pointwise(conv: nn.Conv2d) -> bool:
    is_pointwise = conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    return is_pointwise and conv.stride != (1, 1)
