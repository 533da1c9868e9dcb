"""Measures how long blocks and networks take on the device that this process runs on.

Calls are timed in turn: one call of every block of a group, then the next round. A block that is
called again and again finds its weights and activations in the cache, which it does not inside a
network; in turn, it finds there what the others left. And a disturbance of the machine meets all
blocks alike.

A block alone also pays for being cut out of its network: a call of the runtime, and tensors whose
layout changes on entry and exit. Two convolutions f tell that price, 2 t(f) - t(f, f), which is
subtracted from every block: then a network takes one such price plus the sum of its blocks.
"""

from __future__ import annotations

import copy
import math
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from cost_models.latency_table import LatencyTable, Timing
from cost_models.onnx_export import INPUT, OUTPUT, open_session, to_onnx
from search_spaces.base import Block, Shape

Call = Callable[[], float]
"""Runs a prepared module once and returns how long it took, in microseconds."""

GROUP = 16  # blocks called in turn, about as many as a network has
COPIES = 4  # of a network, called in turn
WARM_UP = 3  # rounds that are not timed
SECONDS = 0.35  # of timed calls, at least, for a group
CUT_SHAPE = (16, 4, 4)  # of two small convolutions, which show what a cut costs at least
RESOLUTION_US = 0.01  # the least that a block is said to take


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to run modules: `prepare(module, batch shape, threads)` returns a timed call."""

    prepare: Callable[[nn.Module, Shape, int], Call]
    version: Callable[[], str]
    device: Callable[[], str]


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
        threads: that compute one call.
        repeats: the least number of timed calls of each block; small blocks get more.
        batch_size: samples in one call.

    Raises:
        ValueError: the back-end is unknown or cannot run here, or there is no block.
    """
    chosen = _backend(backend)
    distinct = list({block.key: block for block in blocks}.values())
    if not distinct:
        raise ValueError("blocks: none given; a latency table has at least one")
    # Any order serves, but one that mixes small and large is most like networks.
    random.Random(0).shuffle(distinct)

    def prepare(module: nn.Module, in_shape: Shape) -> Call:
        return chosen.prepare(module, (batch_size, *in_shape), threads)

    timings: dict[str, Timing] = {}
    prices_us: list[float] = []
    with _fixed_surroundings(threads):
        cut = [prepare(_convolutions(count), CUT_SHAPE) for count in (1, 2)]
        for group in _groups(distinct):
            calls = [prepare(block.build(), block.in_shape) for block in group]
            *timed, one, two = _in_turn([*calls, *cut], repeats)
            prices_us.append(max(2 * one.median_us - two.median_us, 0.0))
            timings |= {block.key: timing for block, timing in zip(group, timed, strict=True)}
    overhead_us = statistics.median(prices_us)
    return LatencyTable(
        device=chosen.device(),
        backend=backend,
        version=chosen.version(),
        threads=threads,
        batch_size=batch_size,
        dtype="float32",
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
        ValueError: the back-end is unknown or cannot run here.
    """
    chosen = _backend(backend)
    shape = (batch_size, *in_shape)
    with _fixed_surroundings(threads):
        calls = [chosen.prepare(module, shape, threads) for _ in range(COPIES)]
        return _in_turn(calls, repeats)[0]


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f"backend: {name!r} is unknown; allowed: {sorted(BACKENDS)}")
    return BACKENDS[name]


def _groups(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Yield groups of about equal size, since a smaller one would find more in the cache.

    A group of fewer than `COPIES` blocks repeats them; each repetition is prepared anew.
    """
    count = math.ceil(len(blocks) / GROUP)
    for index in range(count):
        group = list(blocks[index::count])
        yield group * math.ceil(COPIES / len(group))


def _convolutions(count: int) -> nn.Sequential:
    channels = CUT_SHAPE[0]
    return nn.Sequential(*(nn.Conv2d(channels, channels, 1) for _ in range(count)))


def _in_turn(calls: Sequence[Call], repeats: int) -> list[Timing]:
    """Return each call's timing; rounds go on for `repeats` and for `SECONDS`.

    The quieter half of the rounds counts: it is chosen by the sum over all calls, so that the
    choice favours none of them.
    """
    for _ in range(WARM_UP):
        for call in calls:
            call()
    rounds_us: list[list[float]] = []
    end = time.perf_counter() + SECONDS
    while len(rounds_us) < 2 * repeats or time.perf_counter() < end:
        rounds_us.append([call() for call in calls])
    rounds_us.sort(key=sum)
    quiet_us = rounds_us[: len(rounds_us) // 2]
    return [_timing(own_us) for own_us in zip(*quiet_us, strict=True)]


def _timing(times_us: Sequence[float]) -> Timing:
    low, median, high = statistics.quantiles(times_us, n=4, method="inclusive")
    return Timing(median, high - low)


def _without(overhead_us: float, timing: Timing) -> Timing:
    """Subtract what a block pays for being alone; its share in the spread is small."""
    return Timing(max(timing.median_us - overhead_us, RESOLUTION_US), timing.iqr_us)


@contextmanager
def _fixed_surroundings(threads: int) -> Iterator[None]:
    """Give torch this many threads for a while; its random generator ends where it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


def _noise(shape: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _onnxruntime(module: nn.Module, shape: Shape, threads: int) -> Call:
    """Bind input and output once: copies to and from Python are no part of a network."""
    session = open_session(to_onnx(module, shape[1:], shape[0]), threads)
    binding = session.io_binding()
    out_shape = session.get_outputs()[0].shape
    values = {
        "input": onnxruntime.OrtValue.ortvalue_from_numpy(_noise(shape)),
        "output": onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(out_shape, np.float32)),
    }
    binding.bind_ortvalue_input(INPUT, values["input"])
    binding.bind_ortvalue_output(OUTPUT, values["output"])
    return _wall_clock(lambda: session.run_with_iobinding(binding))


def _torch_cpu(module: nn.Module, shape: Shape, threads: int) -> Call:
    """Run the module as it is, one operator after the other."""
    del threads  # set for the whole process while it measures
    module = copy.deepcopy(module).cpu().eval()
    input_BCHW = torch.from_numpy(_noise(shape))

    @torch.inference_mode()
    def run() -> None:
        module(input_BCHW)

    return _wall_clock(run)


def _torch_cuda(module: nn.Module, shape: Shape, threads: int) -> Call:
    """Replay a CUDA graph, timed on the GPU by events."""
    del threads  # the GPU's own
    if not torch.cuda.is_available():
        raise ValueError("backend: 'torch_cuda' needs a CUDA GPU; torch sees none here")
    module = copy.deepcopy(module).cuda().eval()
    input_BCHW = torch.from_numpy(_noise(shape)).cuda()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries set themselves up outside the capture
            for _ in range(WARM_UP):
                module(input_BCHW)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            module(input_BCHW)
    return partial(_replay_us, graph, input_BCHW)


def _replay_us(graph: torch.cuda.CUDAGraph, input_BCHW: torch.Tensor) -> float:
    """Time one replay; the graph reads the input, which therefore must live as long."""
    del input_BCHW
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    elapsed_ms: float = start.elapsed_time(end)
    return elapsed_ms * 1e3


def _wall_clock(run: Callable[[], object]) -> Call:
    def call() -> float:
        start = time.perf_counter_ns()
        run()
        return (time.perf_counter_ns() - start) / 1e3

    return call


def _cpu_name() -> str:
    """Return the processor's name, as the kernel tells it where there is /proc."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


BACKENDS: Mapping[str, Backend] = {
    "onnxruntime": Backend(_onnxruntime, lambda: onnxruntime.__version__, _cpu_name),
    "torch_cpu": Backend(_torch_cpu, lambda: torch.__version__, _cpu_name),
    "torch_cuda": Backend(
        _torch_cuda, lambda: torch.__version__, lambda: torch.cuda.get_device_name()
    ),
}
