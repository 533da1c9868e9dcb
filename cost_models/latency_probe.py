"""Measures how long blocks and networks take on the device that this process runs on.

A block alone also pays for being cut out of its network: a call of the runtime, and tensors whose
layout changes on entry and exit. Two convolutions f tell that price, 2 t(f) - t(f, f), which is
subtracted from every block: then a network takes one such price plus the sum of its blocks.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from cost_models.backends import ONNXRUNTIME, TORCH_CPU, TORCH_CUDA, Backend, Work
from cost_models.latency_table import LatencyTable, Timing
from cost_models.trtexec import TRTEXEC
from search_spaces.base import Block, Shape

BACKENDS: Mapping[str, Backend] = {
    "onnxruntime": ONNXRUNTIME,
    "torch_cpu": TORCH_CPU,
    "torch_cuda": TORCH_CUDA,
    "trtexec": TRTEXEC,
}
GROUP = 16  # blocks timed together, about as many as a network has
CUT_SHAPE = (16, 4, 4)  # of two small convolutions, which show what a cut costs at least
RESOLUTION_US = 0.01  # the least that a block is said to take


def measure(
    blocks: Iterable[Block],
    *,
    backend: str = "onnxruntime",
    threads: int = 1,
    repeats: int = 10,
    batch_size: int = 1,
) -> LatencyTable:
    """Return the latencies of blocks on this device; blocks of equal keys are measured once.

    Args:
        blocks: at least one.
        backend: a name of `BACKENDS`.
        threads: that compute one call; a GPU has its own.
        repeats: the least number of timed calls of each block; small blocks get more.
        batch_size: samples in one call.

    Raises:
        BackendError: the back-end cannot run here.
        ValueError: the back-end is unknown, or there is no block.
    """
    chosen = _backend(backend)
    distinct = list({block.key: block for block in blocks}.values())
    if not distinct:
        raise ValueError("blocks: none given; a latency table has at least one")
    # Any order serves, but one that mixes small and large is most like networks.
    random.Random(0).shuffle(distinct)
    timings: dict[str, Timing] = {}
    prices_us: list[float] = []
    with _fixed_surroundings(threads):
        cut = [_work(_convolutions(count), CUT_SHAPE, batch_size) for count in (1, 2)]
        for group in _groups(distinct):
            works = [_work(block.build(), block.in_shape, batch_size) for block in group]
            *timed, one, two = chosen.time([*works, *cut], threads, repeats)
            prices_us.append(max(2 * one.median_us - two.median_us, 0.0))
            timings |= {block.key: timing for block, timing in zip(group, timed, strict=True)}
    overhead_us = statistics.median(prices_us)
    return LatencyTable(
        device=chosen.device(),
        backend=backend,
        version=chosen.version(),
        threads=threads,
        batch_size=batch_size,
        dtype=chosen.dtype,
        overhead_us=overhead_us,
        entries={key: _without(overhead_us, timing) for key, timing in timings.items()},
    )


def measure_module(
    module: nn.Module,
    in_shape: Shape,
    *,
    backend: str = "onnxruntime",
    threads: int = 1,
    repeats: int = 10,
    batch_size: int = 1,
) -> Timing:
    """Return the latency of a whole network, overhead included; arguments as in `measure`.

    Raises:
        BackendError: the back-end cannot run here.
        ValueError: the back-end is unknown.
    """
    chosen = _backend(backend)
    with _fixed_surroundings(threads):
        return chosen.time([_work(module, in_shape, batch_size)], threads, repeats)[0]


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f"backend: {name!r} is unknown; allowed: {sorted(BACKENDS)}")
    return BACKENDS[name]


def _work(module: nn.Module, in_shape: Shape, batch_size: int) -> Work:
    return Work(module, (batch_size, *in_shape))


def _groups(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """Yield groups of about equal size, since a smaller one would find more in the cache."""
    count = math.ceil(len(blocks) / GROUP)
    return (blocks[index::count] for index in range(count))


def _convolutions(count: int) -> nn.Sequential:
    channels = CUT_SHAPE[0]
    return nn.Sequential(*(nn.Conv2d(channels, channels, 1) for _ in range(count)))


def _without(overhead_us: float, timing: Timing) -> Timing:
    """Subtract what a block pays for being alone; its share in the spread is small."""
    return Timing(max(timing.median_us - overhead_us, RESOLUTION_US), timing.iqr_us)


@contextmanager
def _fixed_surroundings(threads: int) -> Iterator[None]:
    """Give torch this many threads, and its fastest algorithms, for a while.

    Its random generator ends where it was.
    """
    before, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode(mode)
