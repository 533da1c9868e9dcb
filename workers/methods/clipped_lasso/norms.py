"""Batch norms of narrow layers at a fair speed on a CPU.

There torch's batch norm of channels-last maps takes whole vectors of 8 channels. Widths that are no
multiples of 8 are several times as slow, slower than all else that a narrow network computes. The
kernel for contiguous maps does not care, but costs copies, which wide layers do not win back
(benchmarks/clipped_lasso.py compares).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

VECTOR, WIDEST = 8, 24


def quick_norms(network: nn.Module) -> nn.Module:
    """Return the network; on a CPU, its narrow batch norms of odd width read contiguous maps."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and _is_slow(module.num_features):
            module.register_forward_pre_hook(_contiguous)
    return network


def _is_slow(width: int) -> bool:
    return width < WIDEST and width % VECTOR > 0


def _contiguous(_: nn.Module, inputs: tuple[Any, ...]) -> torch.Tensor:
    (x_BCHW,) = inputs
    assert isinstance(x_BCHW, torch.Tensor)
    return x_BCHW.contiguous() if x_BCHW.device.type == "cpu" else x_BCHW
