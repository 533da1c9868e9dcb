"""Predicted against measured latency of random `gpunet` architectures on this machine.

    python benchmarks/latency.py [PRESET] [--count 30] [--seed 0] [--backend onnxruntime]

Blocks are measured once, networks whole; "plain sum" adds what blocks take alone, "table" is the
product's prediction (`LatencyTable.network_ms`), which takes the price of a call off every block.
"again" measures the networks a second time: no prediction can be nearer than that.
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np
from scipy.stats import spearmanr

from cost_models.latency_probe import BACKENDS, measure, measure_module
from search_spaces.base import Architecture, sample
from search_spaces.gpunet import PRESETS, Config, GPUNet


def main() -> None:
    """Print how near predictions come, before and after the correction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default="gpunet_28", choices=sorted(PRESETS))
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="onnxruntime", choices=sorted(BACKENDS))
    arguments = parser.parse_args()
    space, rng = GPUNet(Config(preset=arguments.preset)), random.Random(arguments.seed)
    drawn = [sample(space, rng) for _ in range(arguments.count)]
    networks = [space.blocks(architecture) for architecture in drawn]

    start = time.perf_counter()
    table = measure((b for blocks in networks for b in blocks), backend=arguments.backend)
    each_ms = (time.perf_counter() - start) / len(table.entries) * 1e3
    print(f"{table.device}, {table.backend} {table.version}, {table.threads} thread")
    print(f"{len(table.entries)} blocks, {each_ms:.0f} ms each; call {table.overhead_us:.2f} us")

    measured_us, again_us = (
        np.array([network_us(space, a, arguments.backend) for a in drawn]) for _ in range(2)
    )
    print(f"{len(drawn)} networks, {measured_us.min():.0f} to {measured_us.max():.0f} us")
    predicted_us = np.array([table.network_ms(blocks) for blocks in networks]) * 1e3
    cuts = np.array([len(blocks) - 1 for blocks in networks])
    show("plain sum", predicted_us + cuts * table.overhead_us, measured_us)
    show("table", predicted_us, measured_us)
    show("again", again_us, measured_us)


def network_us(space: GPUNet, architecture: Architecture, backend: str) -> float:
    """Return a network's measured latency (microseconds)."""
    return measure_module(space.build(architecture), space.in_shape, backend=backend).median_us


def show(name: str, predicted_us: np.ndarray, measured_us: np.ndarray) -> None:
    """Print rank correlation, mean absolute and mean relative error, and the share within 10 %."""
    error = predicted_us / measured_us - 1
    print(
        f"{name:10} Spearman {spearmanr(predicted_us, measured_us).statistic:.4f}"
        f"   MAPE {np.abs(error).mean():6.1%}   bias {error.mean():+6.1%}"
        f"   within 10 % {(np.abs(error) <= 0.1).mean():4.0%}"
    )


if __name__ == "__main__":
    main()
