"""Batch norms of odd widths at a fair speed on a CPU.

There torch's batch norm of channels-last maps takes whole vectors of 8 channels. Widths that are no
multiples of 8 are several times as slow, slower than all else that a narrow network computes. But
the channels of 8 neighbouring positions together are always whole vectors, and `BatchNorm` computes
with those (benchmarks/clipped_lasso.py compares).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

VECTOR = 8


class QuickBatchNorm2d(nn.BatchNorm2d):
    """torch's batch norm, computed another way when it trains on a CPU on channels-last maps."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the normalised maps, in the memory format of the given ones."""
        if not (self.training and _fits(x_BCHW)):
            return super().forward(x_BCHW)
        found: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
        found = BatchNorm.apply(  # type: ignore[no-untyped-call]
            x_BCHW, self.weight, self.bias, self.eps
        )
        y_BCHW, mean_C, var_C = found
        self._follow(mean_C, var_C, samples=x_BCHW.numel() // self.num_features)
        return y_BCHW

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
    """Batch norm in training, of channels-last maps whose positions are a multiple of 8.

    Ioffe & Szegedy, "Batch Normalization", Algorithm 1, and the gradients of its section 3. Returns
    the normalised maps, and the mean and the (biased) variance of each channel, which carry no
    gradient. "R" are rows of 8 positions, "V" their channels.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: torch.Tensor, weight_C: torch.Tensor, bias_C: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return maps, mean and variance."""
        x_RV = _rows(x_BCHW)
        mean_C = _sum(x_RV) / (x_RV.shape[0] * VECTOR)
        centred_RV = x_RV - mean_C.repeat(VECTOR)
        var_C = _sum(centred_RV.square()) / (x_RV.shape[0] * VECTOR)
        scale_C = (var_C + eps).rsqrt()
        y_RV = torch.addcmul(bias_C.repeat(VECTOR), centred_RV, (weight_C * scale_C).repeat(VECTOR))
        ctx.save_for_backward(centred_RV, scale_C, weight_C)
        ctx.mark_non_differentiable(mean_C, var_C)
        return _maps(y_RV, x_BCHW), mean_C, var_C

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_BCHW: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Return the gradients of maps, weight and bias."""
        centred_RV, scale_C, weight_C = ctx.saved_tensors
        grad_RV = _rows(grad_BCHW)
        samples = grad_RV.shape[0] * VECTOR
        bias_grad_C = _sum(grad_RV)
        weight_grad_C = _sum(grad_RV * centred_RV) * scale_C
        gain_C = weight_C * scale_C
        offset_C = -gain_C * bias_grad_C / samples
        slope_C = -gain_C * scale_C * weight_grad_C / samples
        x_grad_RV = torch.addcmul(offset_C.repeat(VECTOR), grad_RV, gain_C.repeat(VECTOR))
        x_grad_RV.addcmul_(centred_RV, slope_C.repeat(VECTOR))
        return _maps(x_grad_RV, grad_BCHW), weight_grad_C, bias_grad_C, None


def quick_norms(network: nn.Module) -> nn.Module:
    """Return the network, whose batch norms of odd width are quick ones from now on."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d and module.num_features % VECTOR > 0:
            module.__class__ = QuickBatchNorm2d
    return network


def _fits(x_BCHW: torch.Tensor) -> bool:
    """Tell whether maps can be read as rows of vectors."""
    batch, _, height, width = x_BCHW.shape
    return (
        x_BCHW.device.type == "cpu"
        and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        and (batch * height * width) % VECTOR == 0
    )


def _rows(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the channels of 8 positions a row; a view of channels-last maps."""
    return x_BCHW.permute(0, 2, 3, 1).reshape(-1, VECTOR * x_BCHW.shape[1])


def _maps(x_RV: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
    """Return rows as channels-last maps of a shape."""
    batch, channels, height, width = like_BCHW.shape
    return x_RV.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _sum(x_RV: torch.Tensor) -> torch.Tensor:
    """Return the sum over positions of each channel."""
    return x_RV.sum(0).view(VECTOR, -1).sum(0)
