"""The batches of an epoch, in an order that a seed and the epoch determine.

Shapes: N samples of a split, B of this rank's part of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from workers.datasets import Split, TensorSplit
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


def batches(
    split: Split, batch_size: int, *, seed: int, epoch: int
) -> Iterator[tuple[Samples, Labels]]:
    """Yield this rank's part of every batch of an epoch: samples as held, and int64 labels.

    The order depends on (seed, epoch) alone. Each batch is cut into equal, contiguous parts, one
    a rank; a remainder is dropped, and so is the ragged last batch (a split smaller than one
    batch gives one). Splits that decode their images do so a batch ahead, in a thread.

    Raises:
        ValueError: there are fewer images in a batch than ranks.
    """
    rank, ranks = place()
    order_N = torch.randperm(len(split), generator=generator(seed, "order", epoch))
    part = min(batch_size, len(split)) // ranks
    if part < 1:
        raise ValueError(
            f"batch_size: {batch_size} of {len(split)} images is too small for {ranks} workers"
        )
    starts = range(0, num_batches(split, batch_size) * batch_size, batch_size)
    indices = [order_N[start + rank * part : start + (rank + 1) * part] for start in starts]
    if isinstance(split, TensorSplit):
        yield from map(split.batch, indices)
        return
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(split.batch, indices[0])
        for index_B in indices[1:]:
            ready, ahead = ahead, thread.submit(split.batch, index_B)
            yield ready.result()
        yield ahead.result()
