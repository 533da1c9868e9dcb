"""What networks of a trained supernet predict, without being trained: the resident evaluator.

A network is slices of the supernet, made once for all batches; its batch norms take their
statistics from some training images (Once-for-all's authors: about 2,000), and keep nothing of the
network before. Supernet and images stay in memory, ready to be computed with.

Shapes: B images of a batch, C channels, H x W pixels, N validation samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from search_spaces.base import Architecture
from search_spaces.elastic.layers import ElasticNorm
from workers.calibration import calibration_part
from workers.datasets import Data, Split
from workers.inputs import network_input
from workers.methods.reg_nas.supernet_training import fresh_supernet
from workers.protocol import Predict, Problem, State, copied

BATCH_SIZE = 125  # a CPU's caches hold the maps of small images
MOST_BYTES = 2**30  # of images that stay normalised; more stay as the data set holds them


class Settings(Protocol):
    """The method's settings, as far as evaluation reads them."""

    @property
    def calibration_images(self) -> int:
        """How many training images give the statistics of batch norms."""
        ...


def predictor(problem: Problem, config: Settings) -> Predict:
    """Return what predicts classes of `problem.data.val` by networks of the supernet.

    Raises:
        ValueError: the space is not elastic, or `problem.start` is absent.
    """
    subnet = Subnet(problem, config)
    val = Images(problem.data.val, problem.data, problem.device)

    @torch.inference_mode()
    def predict(architectures: Sequence[Architecture]) -> list[torch.Tensor]:
        predictions = []
        for architecture in architectures:
            subnet.become(architecture)
            classes = [subnet.supernet(x_BCHW).argmax(1) for x_BCHW in val]
            predictions.append(torch.cat(classes).to(torch.int16).cpu())
        return predictions

    return predict


def inherited(problem: Problem, config: Settings, architecture: Architecture) -> State:
    """Return the weights that a network has from the supernet, with statistics of its own.

    Returns:
        The state dict of `problem.space.build(architecture)`, on the CPU.

    Raises:
        ValueError: as `predictor`.
    """
    subnet = Subnet(problem, config)
    subnet.become(architecture)
    weights: State = copied(subnet.supernet.extract(architecture))
    return weights


class Subnet:
    """A supernet that is one network at a time.

    Args:
        problem: space, data and device; its `start` is what the supernet's training left.
        config: the settings.

    Raises:
        ValueError: as `predictor`.
    """

    def __init__(self, problem: Problem, config: Settings) -> None:
        if problem.start is None:
            raise ValueError("start: evaluation needs the supernet that pretraining leaves")
        self.supernet = fresh_supernet(problem)
        self.supernet.load_state_dict(problem.start["supernet"])
        self.supernet.requires_grad_(False)
        self._norms = [m for m in self.supernet.modules() if isinstance(m, ElasticNorm)]
        for norm in self._norms:
            norm.momentum = None  # the plain average over all batches
        part = calibration_part(problem.data.train, config.calibration_images)
        self._images = Images(part, problem.data, problem.device)

    @torch.inference_mode()
    def become(self, architecture: Architecture) -> None:
        """Compute what an architecture computes, ready to evaluate, with its own statistics.

        Raises:
            ValueError: the architecture is not one of the space.
        """
        self.supernet.set_active(architecture, pin=True)
        for norm in self._norms:
            norm.reset_running_stats()
        self.supernet.train()
        for x_BCHW in self._images:
            self.supernet(x_BCHW)
        self.supernet.eval()


class Images:
    """The images of a split, resident in batches of nearly one size.

    Args:
        split: where they are from.
        data: the data set of the split.
        device: where they stay.
    """

    def __init__(self, split: Split, data: Data, device: torch.device) -> None:
        self._data = data
        parts = torch.tensor_split(torch.arange(len(split)), math.ceil(len(split) / BATCH_SIZE))
        self._batches = [split.batch(index_B)[0].to(device) for index_B in parts]
        pixels = sum(samples_B.numel() for samples_B in self._batches)
        if pixels * torch.float32.itemsize <= MOST_BYTES:
            self._batches = [self._ready(samples_B) for samples_B in self._batches]

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield batches as networks see them (B, C, H, W)."""
        for batch in self._batches:
            yield batch if batch.is_floating_point() else self._ready(batch)

    def _ready(self, samples_B: torch.Tensor) -> torch.Tensor:
        x_BCHW = network_input(samples_B, self._data)
        return x_BCHW.contiguous(memory_format=torch.channels_last)
