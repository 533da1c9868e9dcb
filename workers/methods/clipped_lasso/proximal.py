"""Proximal steps, which set filters to exactly zero where SGD on the penalty only comes near.

Group soft-thresholding, W <- W max(0, 1 - t / |W|), is the proximal operator of t |W| (Yuan and
Lin, "Model Selection and Estimation in Regression with Grouped Variables", 2006). With t = lr
lambda / (1 - momentum) a filter loses as much of its norm in a step as the penalty's gradient
takes from it in the long run under SGD with momentum.

A filter that is zero stays zero. The batch norm behind it divides by the root of its epsilon,
since a constant has no variance, and one step of that gradient would make the filter larger than
ever. Scale and shift of that norm become zero, too, and so does the channel of the shortcut that is
added: nothing is left of the channel that other layers could come to rely on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from workers.methods.clipped_lasso.config import Config
from workers.methods.clipped_lasso.penalty import clipping_threshold, filter_norms


class Shrinking:
    """Proximal steps on convolutions in training; zero filters are found in the weights.

    Args:
        groups: of each layer its filters (O, I, H, W), then all that vanishes with them, (O, ...).
        config: the settings.
    """

    def __init__(self, groups: Iterable[Sequence[torch.Tensor]], config: Config) -> None:
        self.config = config
        self.groups = tuple(groups)
        self.alive = [filter_norms(filters.detach()) > 0 for filters, *_ in self.groups]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Shrink what the penalty reaches, after a step of SGD with this learning rate."""
        config = self.config
        amount = lr * config.lambda_ / (1 - config.momentum)
        a = config.a if config.penalty == "clipped" else None
        for index, (filters, *others) in enumerate(self.groups):
            alive_O = shrink(filters, self.alive[index], amount, a, config.zero_below)
            self.alive[index] = alive_O
            for other in others:
                other *= alive_O.view(-1, *[1] * (other.dim() - 1))


@torch.no_grad()
def shrink(
    weight_OIHW: torch.Tensor,
    alive_O: torch.Tensor,
    amount: float,
    a: float | None,
    zero_below: float,
) -> torch.Tensor:
    """Shrink filters in place by up to `amount` of their norm; return which are not zero, (O,).

    Filters that were not alive become zero again. Those at or above the clipping threshold of `a`
    are left alone; None means Group Lasso, which spares none. A layer that would lose its last
    filter is not shrunk.
    """
    norms_O = filter_norms(weight_OIHW) * alive_O
    reached_O = torch.ones_like(alive_O) if a is None else norms_O < clipping_threshold(norms_O, a)
    factors_O = (1 - amount / norms_O.clamp(min=torch.finfo(norms_O.dtype).tiny)).clamp(min=0)
    factors_O = torch.where(reached_O, factors_O, 1.0) * alive_O
    factors_O = factors_O * (norms_O * factors_O > zero_below * norms_O.mean())
    factors_O = torch.where((factors_O > 0).any(), factors_O, alive_O.to(factors_O.dtype))
    weight_OIHW *= factors_O.view(-1, 1, 1, 1)
    return factors_O > 0
