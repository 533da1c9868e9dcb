"""What ranks do together: each has its part of a batch, and means are taken of all.

Gradients are averaged after the last backward pass of a step, not meanwhile as torch's
DistributedDataParallel does: a step of most methods has several passes, through different parts of
a supernet, and only the method knows the last one. What a step left unused it left unused on every
rank, so there is nothing to scan for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import nn

BUCKET_BYTES = 25 * 2**20  # of one message, as DistributedDataParallel's


def place() -> tuple[int, int]:
    """Return this process' rank and the number of ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def average_tensors(tensors: Iterable[torch.Tensor]) -> None:
    """Replace tensors by their means over all ranks, in few messages; ranks have equal shapes."""
    _, ranks = place()
    if ranks == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        flat /= ranks
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all ranks; networks may change between steps.

    Those of parameters that ranks hold parts of are means already (`workers.sharding`).
    """
    gradients = [param.grad for param in parameters if param.grad is not None]
    average_tensors(gradient for gradient in gradients if not is_part(gradient))


def average_buffers(module: nn.Module) -> None:
    """Replace running statistics by their means over all ranks, so that ranks evaluate alike."""
    average_tensors(buffer for buffer in module.buffers() if buffer.is_floating_point())


def agreed(value: bool) -> bool:
    """Return the first rank's value; ranks whose clocks differ decide alike by it."""
    _, ranks = place()
    if ranks == 1:
        return value
    found = [value]
    dist.broadcast_object_list(found)
    return found[0]


def on_any_rank(mask: torch.Tensor) -> torch.Tensor:
    """Return where a mask of booleans holds on at least one rank."""
    if place()[1] == 1:
        return mask
    counts = mask.int()
    dist.all_reduce(counts)
    return counts > 0


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether no number is infinite or none on any rank."""
    broken = torch.stack([~held(tensor).isfinite().all() for tensor in tensors])
    return not on_any_rank(broken).any()


def is_part(tensor: torch.Tensor) -> bool:
    """Tell whether ranks hold parts of a tensor: whether it is a DTensor.

    By its method: importing the class takes half a second, which most processes never need.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in full, on every rank, if ranks hold parts of it; else the tensor."""
    full: torch.Tensor = tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]
    return full


def held(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor: its part, or all of it."""
    local: torch.Tensor = tensor.to_local() if is_part(tensor) else tensor  # type: ignore[attr-defined]
    return local


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield tensors of one type and device together, up to the size of a message."""
    filling: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        bucket = filling.setdefault((tensor.dtype, tensor.device), [])
        if bucket and sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET_BYTES:
            yield list(bucket)
            bucket.clear()
        bucket.append(tensor)
    yield from filling.values()
