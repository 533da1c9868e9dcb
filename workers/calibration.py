"""Statistics of batch norms for a network whose weights come from a supernet.

A supernet's running statistics are of mixes of networks; a network alone needs its own.
"""

from __future__ import annotations

import torch
from torch import nn

from workers.datasets import Data, Split
from workers.inputs import network_input
from workers.protocol import seeded

BATCHES = 16  # that give the statistics


def calibration_part(split: Split, count: int) -> Split:
    """Return up to `count` samples of a split, always the same ones, drawn from all of it.

    Published data sets are sorted: their first samples are of one class, as statistics of them are.
    """
    draws = torch.Generator().manual_seed(seeded("calibration").getrandbits(63))
    order_N = torch.randperm(len(split), generator=draws)
    return split.subset(order_N[:count])


@torch.no_grad()
def recalibrate(network: nn.Module, split: Split, data: Data, batch_size: int) -> None:
    """Replace running statistics by plain averages over a few batches of a split.

    Every rank sees the same images, and none is augmented, as in evaluation. Modules' modes are
    training afterwards; momenta are what they were.
    """
    split = calibration_part(split, BATCHES * batch_size)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over all batches
    network.train()
    for index_B in torch.split(torch.arange(len(split)), batch_size):
        if len(index_B) > 1 or len(split) == 1:
            images, _ = split.batch(index_B)
            network(network_input(images, data))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
