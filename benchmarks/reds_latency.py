"""Is a slice as fast as it is small? REDS's subnets of DS-CNN L beside the full network.

    python benchmarks/reds_latency.py [--rounds 5]

onnxruntime, one thread, batches of one sample. The knapsacks are solved with the importances of
first weights on noise, at least 16 units of a layer, once with all widths and once with multiples
of 4 alone: on depthwise convolutions of other widths onnxruntime spends several times as long.
Such convolutions by themselves (3 x 3, on the maps of DS-CNN L) are printed first. Networks are
measured in turn, round after round, and the fastest of a network's medians counts: other work on
the machine can only add to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import nn

from cost_models.latency_probe import measure_module
from cost_models.macs import macs
from reds_solve import ds_cnn
from search_spaces.base import Shape
from search_spaces.keyword_nets import Config, KeywordNets
from workers.methods.reds.knapsack import nested

FRACTIONS = (0.25, 0.5, 0.75)
MIN_UNITS = 16  # as in the ready studies
CHANNELS = (136, 138, 140, 276)  # multiples of 4, but for 138
MAP = (13, 5)  # positions, in DS-CNN L


def main() -> None:
    """Print every subnet's multiply-accumulates and latency, and its shares of the full one's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    show_depthwise(rounds)
    for multiple in (1, 4):
        show(multiple, rounds)


def show_depthwise(rounds: int) -> None:
    """Print what depthwise convolutions of some widths take."""
    convolutions = [nn.Conv2d(c, c, 3, padding=1, groups=c) for c in CHANNELS]
    shapes = [(c, *MAP) for c in CHANNELS]
    for channels, time_us in zip(CHANNELS, fastest_us(convolutions, shapes, rounds), strict=True):
        print(f"depthwise, {channels} channels: {time_us:4.0f} microseconds")


def show(channel_multiple: int, rounds: int) -> None:
    """Print the figures of the subnets whose widths are multiples of a number."""
    space = KeywordNets(Config("ds_cnn", "l", channel_multiple=channel_multiple))
    chain = ds_cnn("l", channel_multiple, min_units=MIN_UNITS)
    names = [choice.name for choice in space.choices]
    solutions = nested(chain, [int(share * chain.full_cost) for share in FRACTIONS], "bu")
    subnets = [dict(zip(names, solution.widths, strict=True)) for solution in solutions]
    networks = [*subnets, space.presets["full"]]
    counts = [macs(space.layers(architecture)) for architecture in networks]
    built = [space.build(architecture).eval() for architecture in networks]
    times_us = fastest_us(built, [space.in_shape] * len(built), rounds)
    print(f"widths: multiples of {channel_multiple}; of a quarter: {solutions[0].widths}")
    for share, count, time_us in zip((*FRACTIONS, 1.0), counts, times_us, strict=True):
        print(
            f"{share:4.0%}: {count:>10,} MAC ({count / counts[-1]:.3f}),"
            f" {time_us:6.0f} microseconds ({time_us / times_us[-1]:.3f})"
        )


def fastest_us(
    modules: Sequence[nn.Module], in_shapes: Sequence[Shape], rounds: int
) -> list[float]:
    """Return the modules' latencies: the fastest median of all rounds (microseconds)."""
    timed = list(zip(modules, in_shapes, strict=True))
    medians_us = [
        [measure_module(module, shape, repeats=100).median_us for module, shape in timed]
        for _ in range(rounds)
    ]
    return [min(times_us) for times_us in zip(*medians_us, strict=True)]


if __name__ == "__main__":
    main()
