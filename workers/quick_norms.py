"""Batch norms of two dimensions at a fair speed on a CPU.

There torch's batch norm of channels-last maps takes whole vectors of 8 channels. Widths that are no
multiples of 8 are several times as slow, slower than all else that a narrow network computes. Here
rows of the channels of up to 8 neighbouring positions are computed with, which are whole vectors,
or nearly. On stored statistics a batch norm is one multiplication and one addition, and is computed
as such at any width: torch spends as much on its gradient as on a convolution's.
benchmarks/clipped_lasso.py compares.

Shapes: R rows of V values, the channels of V / C positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

VECTOR = 8


class QuickBatchNorm2d(nn.BatchNorm2d):
    """torch's batch norm, computed another way on channels-last maps on a CPU."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the normalised maps, in the memory format of the given ones."""
        if not _is_channels_last_on_cpu(x_BCHW):
            return super().forward(x_BCHW)
        if not self.training:
            return self._on_stored_statistics(x_BCHW)
        samples = x_BCHW.numel() // self.num_features
        if self.num_features % VECTOR == 0 or samples < 2:  # of one sample, torch raises
            return super().forward(x_BCHW)
        found: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
        found = BatchNorm.apply(  # type: ignore[no-untyped-call]
            x_BCHW, self.weight, self.bias, self.eps
        )
        y_BCHW, mean_C, var_C = found
        self._follow(mean_C, var_C, samples)
        return y_BCHW

    def _on_stored_statistics(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        gain_C = self.weight * (self.running_var + self.eps).rsqrt()
        offset_C = self.bias - self.running_mean * gain_C
        x_RV = _rows(x_BCHW)
        y_RV = torch.addcmul(_along(offset_C, x_RV), x_RV, _along(gain_C, x_RV))
        return _maps(y_RV, x_BCHW)

    @torch.no_grad()
    def _follow(self, mean_C: torch.Tensor, var_C: torch.Tensor, samples: int) -> None:
        """Bring the running statistics up to date, as torch does."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(var_C * samples / (samples - 1), share)


class BatchNorm(torch.autograd.Function):
    """Batch norm in training, of channels-last maps.

    Ioffe & Szegedy, "Batch Normalization", Algorithm 1, and the gradients of its section 3. Returns
    the normalised maps, and the mean and the (biased) variance of each channel, which carry no
    gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: torch.Tensor, weight_C: torch.Tensor, bias_C: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return maps, mean and variance."""
        x_RV, channels = _rows(x_BCHW), len(weight_C)
        samples = x_RV.numel() // channels
        mean_C = _sum(x_RV, channels) / samples
        centred_RV = x_RV - _along(mean_C, x_RV)
        var_C = _sum(centred_RV.square(), channels) / samples
        scale_C = (var_C + eps).rsqrt()
        gain_C = weight_C * scale_C
        y_RV = torch.addcmul(_along(bias_C, x_RV), centred_RV, _along(gain_C, x_RV))
        ctx.save_for_backward(centred_RV, scale_C, gain_C)
        ctx.mark_non_differentiable(mean_C, var_C)
        return _maps(y_RV, x_BCHW), mean_C, var_C

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_BCHW: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Return the gradients of maps, weight and bias."""
        centred_RV, scale_C, gain_C = ctx.saved_tensors
        grad_RV, channels = _rows(grad_BCHW), len(gain_C)
        samples = grad_RV.numel() // channels
        bias_grad_C = _sum(grad_RV, channels)
        weight_grad_C = _sum(grad_RV * centred_RV, channels) * scale_C
        offset_C = -gain_C * bias_grad_C / samples
        slope_C = -gain_C * scale_C * weight_grad_C / samples
        x_grad_RV = torch.addcmul(_along(offset_C, grad_RV), grad_RV, _along(gain_C, grad_RV))
        x_grad_RV.addcmul_(centred_RV, _along(slope_C, grad_RV))
        return _maps(x_grad_RV, grad_BCHW), weight_grad_C, bias_grad_C, None


def quick_norms(network: nn.Module) -> nn.Module:
    """Return the network, whose two-dimensional batch norms are quick ones from now on."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats:
            module.__class__ = QuickBatchNorm2d
    return network


def _is_channels_last_on_cpu(x_BCHW: torch.Tensor) -> bool:
    return x_BCHW.device.type == "cpu" and x_BCHW.is_contiguous(memory_format=torch.channels_last)


def _rows(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the channels of up to 8 positions a row; a view, of channels-last maps."""
    batch, channels, height, width = x_BCHW.shape
    positions = math.gcd(batch * height * width, VECTOR)
    return x_BCHW.permute(0, 2, 3, 1).reshape(-1, positions * channels)


def _maps(x_RV: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
    """Return rows as channels-last maps of a shape."""
    batch, channels, height, width = like_BCHW.shape
    return x_RV.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _along(value_C: torch.Tensor, x_RV: torch.Tensor) -> torch.Tensor:
    """Return a value of every channel as a row."""
    return value_C.repeat(x_RV.shape[1] // len(value_C))


def _sum(x_RV: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the sum over positions of each channel."""
    return x_RV.sum(0).view(-1, channels).sum(0)
