"""A rank's part of a batch, and random numbers that no number of ranks changes.

Numbers are drawn for the batch of all ranks, on every rank the same; each takes its own samples'.
They are small and drawn on the CPU. Shapes: B samples of this rank's part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Part:
    """The samples `start` up to `stop` of a batch of `batch` samples, one of `ranks` parts."""

    start: int
    stop: int
    batch: int
    ranks: int = 1

    @property
    def own(self) -> slice:
        """The part as an index into the batch."""
        return slice(self.start, self.stop)

    @property
    def weight(self) -> float:
        """What this part's mean counts in a mean over ranks, so that it is that of the batch.

        It is 1 where all parts are of one size.
        """
        return (self.stop - self.start) * self.ranks / self.batch

    def mean(self, values_B: torch.Tensor) -> torch.Tensor:
        """Return a term whose mean over ranks is the mean over the batch of all ranks."""
        return values_B.mean() * self.weight


def cut(batch: int, rank: int, ranks: int) -> Part:
    """Return a rank's part of a batch: contiguous, and as large as the others or by 1 larger."""
    return Part(batch * rank // ranks, batch * (rank + 1) // ranks, batch, ranks)


@dataclass(frozen=True)
class Draws:
    """A source of random numbers for the samples of a part, which are in the last dimension."""

    generator: torch.Generator
    part: Part

    def uniform(self, *shape: int) -> torch.Tensor:
        """Return numbers in [0, 1), shape (*shape, B)."""
        every = torch.rand(*shape, self.part.batch, generator=self.generator)
        return every[..., self.part.own]

    def normal(self) -> torch.Tensor:
        """Return normal numbers of mean 0 and variance 1, shape (B,)."""
        return torch.randn(self.part.batch, generator=self.generator)[self.part.own]

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Return integers from `low` up to, not including, `high`, shape (*shape, B)."""
        size = (*shape, self.part.batch)
        return torch.randint(low, high, size, generator=self.generator)[..., self.part.own]

    def normal_maps(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return normal numbers in a tensor's shape, drawn on its device."""
        seed = int(torch.randint(2**62, (), generator=self.generator))
        source = torch.Generator(x_BCHW.device).manual_seed(seed)
        noise = x_BCHW.new_empty(self.part.batch, *x_BCHW.shape[1:])
        return noise.normal_(generator=source)[self.part.own]
