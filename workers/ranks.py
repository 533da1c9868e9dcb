"""Data-parallel training without wrappers: each rank has its part, and means are taken of all."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


def place() -> tuple[int, int]:
    """Return this process' rank and the number of ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def average_tensors(tensors: Iterable[torch.Tensor]) -> None:
    """Replace tensors by their means over all ranks, in one message; ranks have equal shapes."""
    tensors = list(tensors)
    _, ranks = place()
    if ranks == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= ranks
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all ranks; networks may change between steps."""
    average_tensors(param.grad for param in parameters if param.grad is not None)


def average_buffers(module: nn.Module) -> None:
    """Replace running statistics by their means over all ranks, so that ranks evaluate alike."""
    average_tensors(buffer for buffer in module.buffers() if buffer.is_floating_point())
