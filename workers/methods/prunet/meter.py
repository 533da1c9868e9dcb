"""What training steps cost: their time, and the memory that they hold."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn

from workers.ranks import held

STATM = Path("/proc/self/statm")


class StepMeter:
    """Measures an epoch's steps. Memory is CUDA's peak, or on a CPU what a step must hold.

    That is parameters, gradients, buffers, optimiser states and all that autograd keeps for the
    backward pass, counted in the epoch's first step. `rss_mb` is the process's resident memory:
    it includes the data and what the allocator has not returned.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._saved_bytes = 0
        self._steps = 0
        self._started = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def step(self) -> AbstractContextManager[None]:
        """Return the context in which one step runs."""
        self._steps += 1
        first_on_cpu = self._steps == 1 and self._device.type != "cuda"
        return self._counting() if first_on_cpu else nullcontext()

    def figures(self, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, float]:
        """Return `step_ms` (mean), `memory_mb` and, where there is /proc, `rss_mb` (10^6 bytes)."""
        if self._device.type == "cuda":
            held = torch.cuda.max_memory_allocated(self._device)
        else:
            held = self._saved_bytes + held_bytes(self._model, optimizers)
        step_ms = 1000 * (time.perf_counter() - self._started) / self._steps
        figures = {"step_ms": step_ms, "memory_mb": held / 1e6}
        if STATM.exists():
            pages = int(STATM.read_text().split()[1])
            figures["rss_mb"] = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return figures

    @contextmanager
    def _counting(self) -> Iterator[None]:
        with saved_for_backward(self._model.parameters()) as saved:
            yield
        self._saved_bytes = sum(saved.values())


@contextmanager
def saved_for_backward(excluded: Iterable[torch.Tensor]) -> Iterator[dict[int, int]]:
    """Collect the storages that autograd keeps for the backward pass: address -> bytes.

    Each storage counts once and whole, however many views of it are kept; those of `excluded`
    tensors (parameters, say) do not count.
    """
    saved: dict[int, int] = {}
    known = {held(tensor).untyped_storage().data_ptr() for tensor in excluded}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield saved


def held_bytes(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> int:
    """Return the bytes of parameters, their gradients, buffers and optimiser states."""
    parameters = list(model.parameters())
    states = [
        value
        for optimizer in optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]
    # A gradient is as large as its parameter; between steps there are none to count.
    return sum(held(t).nbytes for t in (*parameters, *parameters, *model.buffers(), *states))
