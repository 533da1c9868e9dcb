"""Prunode: one block that stands for two widths of its hidden dimension (paper, section 3.2.1).

Both widths are prefixes of the same channels, so the small one is contained in the large one:
expansion and depthwise convolution are computed once, at the large width, and only squeeze-and-
excitation and the projection are told apart. Channels beyond a mask are not computed at all.

Legend: B batch, C channels, H hidden channels (large mask), S hidden channels (small mask).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from search_spaces.gpunet import ConvBlock, InvertedResidual, LayerSpec, SqueezeExcite

CAP = 0.8  # c of Algorithm 1
MAX_DISTANCE = 0.6
MOMENTUM = 0.4


@dataclass(frozen=True, slots=True)
class Masks:
    """State of Algorithm 1: both masks in channels, the small one's fraction s, the momentum."""

    small: int
    large: int
    s: float = 0.5
    update: float = 0.0


def first_masks(max_channels: int, granularity: int) -> Masks:
    """Return the start: the small mask has half of the channels, the large one all of them.

    A block of a single width has equal masks.
    """
    if max_channels == granularity:
        return Masks(max_channels, max_channels)
    small = _clip(
        _rounded(0.5 * max_channels, granularity), granularity, max_channels - granularity
    )
    return Masks(small, max_channels)


def updated(
    masks: Masks, weight: float, *, progress: float, max_channels: int, granularity: int
) -> tuple[Masks, float]:
    """Return masks and architecture weight after one call of Algorithm 1's `update_masks`.

    Masks one step apart stay for good, and so does their weight. The paper compares fractions
    with the granularity; masks are compared in channels here, as the granularity is.

    Args:
        masks: the masks so far.
        weight: architecture weight of the large width against the small one.
        progress: of the search after warm-up, in [0, 1].
        max_channels: widest hidden dimension, a multiple of `granularity`.
        granularity: a step between widths, in channels.
    """
    if masks.large - masks.small <= granularity:
        return masks, weight
    update = masks.update * MOMENTUM + weight
    distance = MAX_DISTANCE * (1 - progress) ** 2
    s = masks.s + update
    if s > 0:
        weight = 0.0
        s = min(s, 1 - CAP * distance)
    else:
        s = 0.0  # the weight stays, and keeps pushing away from the corner
    small = _rounded(s * max_channels, granularity)
    small = _clip(small, granularity, max_channels - granularity)
    large = _rounded((s + distance) * max_channels, granularity)
    large = _clip(large, small + granularity, max_channels)
    return Masks(small, large, s, update), weight


class Prunode(nn.Module):
    """A kind of block (kernel size, squeeze-and-excitation) at two widths that move.

    `block` has the weights of the widest member; `theta` weighs the block against the layer's
    others, `weight` the large width against the small one.
    """

    def __init__(self, spec: LayerSpec, kernel_size: int, se: bool, masks: Masks) -> None:
        super().__init__()
        self.spec = spec
        self.kind = {"kernel_size": kernel_size, "se": se}
        self.block = InvertedResidual(spec, kernel_size, se, spec.max_hidden)
        self.theta = nn.Parameter(torch.zeros(()))
        self.weight = nn.Parameter(torch.zeros(()))
        self.masks = masks

    def options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the small and the large option, as architectures name them."""
        small, large = ({**self.kind, "hidden": n} for n in (self.masks.small, self.masks.large))
        return small, large

    def chosen(self) -> dict[str, Any]:
        """Return the likelier of the two options; a tie goes to the small one."""
        return self.options()[self.weight.item() > 0]

    def update_masks(self, weight: float, progress: float) -> None:
        """Move the masks; `weight` is this block's own, read for all blocks at once."""
        self.masks, kept = updated(
            self.masks,
            weight,
            progress=progress,
            max_channels=self.spec.max_hidden,
            granularity=self.spec.granularity,
        )
        if kept != weight:
            with torch.no_grad():
                self.weight.fill_(kept)

    def forward(self, x_BCHW: torch.Tensor, large_probability: torch.Tensor) -> torch.Tensor:
        """Return the mix of both widths, shape (batch, *out_shape).

        Batch statistics enter the running ones once: those of the hidden channels at the large
        width, those of the projection as the average of both widths' statistics.
        """
        if self.masks.small == self.masks.large:
            mixed: torch.Tensor = self.block(x_BCHW)
            return mixed
        h_BHXY = _hidden(self.block, x_BCHW, self.masks.large)
        small_BCXY, large_BCXY = _projections(self.block, h_BHXY, self.masks.small)
        return _mixed(self.block, x_BCHW, small_BCXY, large_BCXY, large_probability)


def two_passes(
    node: Prunode, x_BCHW: torch.Tensor, large_probability: torch.Tensor
) -> torch.Tensor:
    """Return what `Prunode.forward` returns, each width computed by itself, as the paper says.

    The reference for tests and benchmarks. Statistics of the hidden channels are the large pass's.
    """
    block, masks = node.block, node.masks
    hidden_large = _hidden(block, x_BCHW, masks.large)
    hidden_small = _hidden(block, x_BCHW, masks.small, keep_statistics=True)
    small_BCXY = _projection(block, hidden_small)
    large_BCXY = _projection(block, hidden_large)
    return _mixed(block, x_BCHW, small_BCXY, large_BCXY, large_probability)


def _hidden(
    block: InvertedResidual, x: torch.Tensor, width: int, keep_statistics: bool = False
) -> torch.Tensor:
    x = _conv_block(block.expand, x, width, keep_statistics)
    if isinstance(block.depthwise, ConvBlock):
        x = _conv_block(block.depthwise, x, width, keep_statistics)
    return x


def _conv_block(block: Any, x: torch.Tensor, width: int, keep_statistics: bool) -> torch.Tensor:
    conv, norm = block.conv, block.norm
    if conv.kernel_size == (1, 1):
        x = _pointwise(x, _first(conv.weight, width))
    else:
        groups = 1 if conv.groups == 1 else width
        stride, padding = conv.stride, conv.padding
        x = functional.conv2d(x, _first(conv.weight, width), None, stride, padding, groups=groups)
    x = _batch_norm(x, norm, 0.0 if keep_statistics else norm.momentum)
    activated: torch.Tensor = block.act(x)
    return activated


def _projections(
    block: InvertedResidual, h_BHXY: torch.Tensor, small: int
) -> tuple[torch.Tensor, torch.Tensor]:
    weight = _projector(block, h_BHXY.shape[1])
    if isinstance(block.se, SqueezeExcite):
        mean_BH11 = h_BHXY.mean((2, 3), keepdim=True)
        gates_S, gates_H = _gate(block.se, mean_BH11[:, :small]), _gate(block.se, mean_BH11)
        head = _pointwise(h_BHXY[:, :small] * gates_S, weight[:, :small])
        return head, _pointwise(h_BHXY * gates_H, weight)
    # Without gates the small width's projection is a partial sum of the large one's.
    sizes = [small, h_BHXY.shape[1] - small]
    heads = zip(torch.split(h_BHXY, sizes, 1), torch.split(weight, sizes, 1), strict=True)
    head, tail = (_pointwise(h, part) for h, part in heads)
    return head, head + tail


def _projection(block: InvertedResidual, h_BHXY: torch.Tensor) -> torch.Tensor:
    if isinstance(block.se, SqueezeExcite):
        h_BHXY = h_BHXY * _gate(block.se, h_BHXY.mean((2, 3), keepdim=True))
    return _pointwise(h_BHXY, _projector(block, h_BHXY.shape[1]))


def _projector(block: InvertedResidual, width: int) -> torch.Tensor:
    conv: Any = block.project.conv
    return _first(conv.weight, width, 1)


def _gate(se: Any, mean_BH11: torch.Tensor) -> torch.Tensor:
    width, reduce, expand = mean_BH11.shape[1], se.reduce, se.expand
    squeezed = se.act(_pointwise(mean_BH11, _first(reduce.weight, width, 1), reduce.bias))
    gate = _pointwise(squeezed, _first(expand.weight, width), _first(expand.bias, width))
    return torch.sigmoid(gate)


def _pointwise(
    x_BCHW: torch.Tensor, weight_OC11: torch.Tensor, bias_O: torch.Tensor | None = None
) -> torch.Tensor:
    """Convolve 1x1 by a matrix product: of prefixes of channels, convolutions make copies."""
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    return functional.linear(x_BHWC, weight_OC11.flatten(1), bias_O).permute(0, 3, 1, 2)


def _mixed(
    block: InvertedResidual,
    x_BCHW: torch.Tensor,
    small_BCXY: torch.Tensor,
    large_BCXY: torch.Tensor,
    large_probability: torch.Tensor,
) -> torch.Tensor:
    norm: Any = block.project.norm
    # Two updates r <- (1-a)r + a*small, r <- (1-b)r + b*large make (1-m)r + m*(small+large)/2.
    half = norm.momentum / 2
    small_BCXY = _batch_norm(small_BCXY, norm, half / (1 - half))
    large_BCXY = _batch_norm(large_BCXY, norm, half)
    mixed = torch.lerp(small_BCXY, large_BCXY, large_probability.to(large_BCXY.dtype))
    return x_BCHW + mixed if block.residual else mixed


def _batch_norm(x: torch.Tensor, norm: Any, momentum: float) -> torch.Tensor:
    mean, var, weight, bias = (
        _first(tensor, x.shape[1])
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return functional.batch_norm(x, mean, var, weight, bias, norm.training, momentum, norm.eps)


def _first(tensor: torch.Tensor, size: int, dim: int = 0) -> torch.Tensor:
    """Return the first entries; a whole tensor as it is, for a slice's gradient is a copy."""
    return tensor if tensor.shape[dim] == size else tensor.narrow(dim, 0, size)


def _rounded(channels: float, granularity: int) -> int:
    return math.floor(channels / granularity + 0.5) * granularity


def _clip(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
