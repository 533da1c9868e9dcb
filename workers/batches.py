"""The batches of an epoch, in an order that a seed and the epoch determine.

Shapes: N samples of a split, B of this rank's part of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from workers.datasets import Split, TensorSplit
from workers.draws import Draws, Part, cut
from workers.protocol import seeded
from workers.ranks import place

Samples = torch.Tensor
Labels = torch.Tensor


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator that depends on the parts alone, such as (seed, "order", epoch)."""
    return torch.Generator().manual_seed(seeded(*parts).getrandbits(63))


def num_batches(split: Split, batch_size: int) -> int:
    """Return how many batches `batches` yields."""
    return max(1, len(split) // batch_size)


def part_of(split: Split, batch_size: int) -> Part:
    """Return this rank's part of every batch that `batches` yields.

    Raises:
        ValueError: there are fewer images in a batch than ranks.
    """
    rank, ranks = place()
    size = min(batch_size, len(split))
    if size < ranks:
        raise ValueError(
            f"batch_size: {batch_size} of {len(split)} images is too small for {ranks} workers"
        )
    return cut(size, rank, ranks)


def draws_for(part: Part, *parts: int | str) -> Draws:
    """Return a step's source of random numbers, which depends on the parts alone, not on ranks."""
    # 0 stood for the rank: what one worker drew in earlier versions, it draws again.
    return Draws(generator(*parts, 0), part)


def batches(
    split: Split, batch_size: int, *, seed: int, epoch: int
) -> Iterator[tuple[Samples, Labels]]:
    """Yield this rank's part of every batch of an epoch: samples as held, and int64 labels.

    The order depends on (seed, epoch) alone. Each batch is cut into contiguous parts, one a rank;
    a ragged last batch is dropped (a split smaller than one batch gives one). Splits that decode
    their images do so a batch ahead, in a thread.

    Raises:
        ValueError: there are fewer images in a batch than ranks.
    """
    order_N = torch.randperm(len(split), generator=generator(seed, "order", epoch))
    part = part_of(split, batch_size)
    starts = range(0, num_batches(split, batch_size) * batch_size, batch_size)
    indices = [order_N[start : start + batch_size][part.own] for start in starts]
    if isinstance(split, TensorSplit):
        yield from map(split.batch, indices)
        return
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(split.batch, indices[0])
        for index_B in indices[1:]:
            ready, ahead = ahead, thread.submit(split.batch, index_B)
            yield ready.result()
        yield ahead.result()
