"""Proximal steps, which set filters to exactly zero where SGD on the penalty only comes near.

Group soft-thresholding, W <- W max(0, 1 - t / |W|), is the proximal operator of t |W| (Yuan and
Lin, "Model Selection and Estimation in Regression with Grouped Variables", 2006). With t = lr
lambda / (1 - momentum) a filter loses as much of its norm in a step as the penalty's gradient
takes from it in the long run under SGD with momentum.

A filter that is zero stays zero. The batch norm behind it divides by the root of its epsilon, since
a constant has no variance, and one step of that gradient would make the filter larger than ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from workers.methods.clipped_lasso.config import Config
from workers.methods.clipped_lasso.penalty import clipping_threshold, filter_norms

Convs = Mapping[str, nn.Conv2d]


class Shrinking:
    """Proximal steps on convolutions in training; zero filters are found in the weights.

    Args:
        convs: those whose filters may vanish, by the choice that counts them.
        followers: those whose filters vanish with them, by the same choice.
        config: the settings.
    """

    def __init__(self, convs: Convs, followers: Convs, config: Config) -> None:
        self.config = config
        self.convs, self.followers = convs, followers
        self.alive = {name: filter_norms(conv.weight.detach()) > 0 for name, conv in convs.items()}

    def step(self, lr: float) -> None:
        """Shrink what the penalty reaches, after a step of SGD with this learning rate."""
        config = self.config
        amount = lr * config.lambda_ / (1 - config.momentum)
        a = config.a if config.penalty == "clipped" else None
        for name, conv in self.convs.items():
            weight, alive_O = conv.weight, self.alive[name]
            self.alive[name] = shrink(weight, alive_O, amount, a, config.zero_below)
            if name in self.followers:
                keep(self.followers[name].weight, self.alive[name])


@torch.no_grad()
def keep(weight_OIHW: torch.Tensor, alive_O: torch.Tensor) -> None:
    """Set all other filters to zero, in place."""
    weight_OIHW *= alive_O.view(-1, 1, 1, 1)


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
