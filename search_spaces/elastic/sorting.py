"""The order of channels inside blocks, which narrower networks lose from behind.

Before widths shrink, the channels that matter most go to the front. Cai et al., "Once for All",
2020, section 3.3: importance is the L1 norm of the weights that read the channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

TENSORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Hidden:
    """Channels inside a block: no order of them changes what the block computes.

    All fields name modules of the block. `reader` is the convolution whose weights rank the
    channels; `owners` have a channel in each row of all their tensors; `other_readers` read the
    channels as `reader` does.
    """

    reader: str
    owners: tuple[str, ...]
    other_readers: tuple[str, ...] = ()


@torch.no_grad()
def sort_hidden(block: nn.Module, hidden: Hidden, ends: Iterable[int]) -> None:
    """Sort channels by importance, the largest first, each within its run.

    Args:
        block: a module of a network or a supernet.
        hidden: the channels to sort.
        ends: where runs end, beside the last: widths whose leading channels must stay leading.
    """
    weight_OIKK = block.get_parameter(f"{hidden.reader}.weight")
    order_C = _order(weight_OIKK.abs().sum((0, 2, 3)), ends)
    for name in hidden.owners:
        owner = block.get_submodule(name)
        for tensor in (getattr(owner, key, None) for key in TENSORS):
            if tensor is not None:
                tensor.copy_(tensor[order_C])
    for name in (hidden.reader, *hidden.other_readers):
        weight = block.get_parameter(f"{name}.weight")
        weight.copy_(weight[:, order_C])


def _order(norm_C: torch.Tensor, ends: Iterable[int]) -> torch.Tensor:
    """Return the channels' numbers, sorted by falling norm inside every run."""
    bounds = sorted({0, *ends, len(norm_C)})
    runs = (
        start + torch.argsort(norm_C[start:end], descending=True, stable=True)
        for start, end in pairwise(bounds)
    )
    return torch.cat(list(runs))
