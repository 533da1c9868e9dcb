"""Ways to run modules on this device, each with a clock of its own.

Calls are timed in turn: one call of every module, then the next round. A module that is called
again and again finds its weights and activations in the cache, which it does not inside a network;
in turn, it finds there what the others left. And a disturbance of the machine meets all modules
alike.
"""

from __future__ import annotations

import copy
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from cost_models.latency_table import Timing
from cost_models.onnx_export import INPUT, OUTPUT, open_session, to_onnx
from search_spaces.base import Shape

Call = Callable[[], float]
"""Runs a prepared module once and returns how long it took, in microseconds."""

COPIES = 4  # of what is called in turn, at least
WARM_UP = 3  # rounds that are not timed
SECONDS = 0.35  # of timed rounds, at least


class BackendError(ValueError):
    """A back-end cannot run here: one line that names it and what it lacks."""


@dataclass(frozen=True, slots=True)
class Work:
    """A module and the shape of the batch that it computes."""

    module: nn.Module
    shape: Shape


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to run modules.

    Args:
        time: (modules, threads, repeats) -> how long a call of each takes; the modules are left as
            they are. Raises `BackendError`.
        version: the back-end's.
        device: the name of the processor. Raises `BackendError`.
        dtype: of weights and activations.
        uses_gpu: it runs on a CUDA GPU.
    """

    time: Callable[[Sequence[Work], int, int], list[Timing]]
    version: Callable[[], str]
    device: Callable[[], str]
    dtype: str = "float32"
    uses_gpu: bool = False


def in_turn(
    prepare: Callable[[Work, int], Call], works: Sequence[Work], threads: int, repeats: int
) -> list[Timing]:
    """Return the timing of each module, called in turn; a few of them beside their own copies.

    Each copy is prepared anew, so that it has weights of its own in the cache.
    """
    copies = math.ceil(COPIES / len(works))
    calls = [prepare(work, threads) for work in [*works] * copies]
    return timed(calls, repeats)[: len(works)]


def timed(calls: Sequence[Call], repeats: int) -> list[Timing]:
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


def _noise(shape: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _onnxruntime(work: Work, threads: int) -> Call:
    """Bind input and output once: copies to and from Python are no part of a network."""
    session = open_session(to_onnx(work.module, work.shape[1:], work.shape[0]), threads)
    binding = session.io_binding()
    out_shape = session.get_outputs()[0].shape
    values = {
        "input": onnxruntime.OrtValue.ortvalue_from_numpy(_noise(work.shape)),
        "output": onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(out_shape, np.float32)),
    }
    binding.bind_ortvalue_input(INPUT, values["input"])
    binding.bind_ortvalue_output(OUTPUT, values["output"])
    return _wall_clock(lambda: session.run_with_iobinding(binding))


def _torch_cpu(work: Work, threads: int) -> Call:
    """Run the module as it is, one operator after the other."""
    del threads  # set for the whole process while it measures
    module = copy.deepcopy(work.module).cpu().eval()
    input_BCHW = torch.from_numpy(_noise(work.shape))

    @torch.inference_mode()
    def run() -> None:
        module(input_BCHW)

    return _wall_clock(run)


def _torch_cuda(work: Work, threads: int) -> Call:
    """Replay a CUDA graph, timed on the GPU by events."""
    del threads  # the GPU's own
    _check_cuda()
    module = copy.deepcopy(work.module).cuda().eval()
    input_BCHW = torch.from_numpy(_noise(work.shape)).cuda()
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
    return partial(_replay_us, graph, (module, input_BCHW))


def _check_cuda() -> None:
    if not torch.cuda.is_available():
        raise BackendError("backend: 'torch_cuda' needs a CUDA GPU; torch sees none here")


def _gpu_name() -> str:
    _check_cuda()
    return torch.cuda.get_device_name()


def _replay_us(graph: torch.cuda.CUDAGraph, read: tuple[nn.Module, torch.Tensor]) -> float:
    """Time one replay; the graph reads weights and input, which therefore must live as long."""
    del read
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


ONNXRUNTIME = Backend(partial(in_turn, _onnxruntime), lambda: onnxruntime.__version__, _cpu_name)
TORCH_CPU = Backend(partial(in_turn, _torch_cpu), lambda: torch.__version__, _cpu_name)
TORCH_CUDA = Backend(
    partial(in_turn, _torch_cuda), lambda: torch.__version__, _gpu_name, uses_gpu=True
)
