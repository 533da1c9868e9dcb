"""What a device takes away: one file of weights, and beside it what each subnet is.

`weights.safetensors` holds the largest finished subnet with its units in order, the full network
wherever that was finished; `subnets.json` says how much of it each subnet uses, what that costs and
how well it does; `load_subnet.py` reads both and needs torch and safetensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import safetensors.torch
import torch

from search_spaces.base import SearchSpace
from workers.methods.reds.units import Axes, axes_of, sliced
from workers.metrics import negative_flip_matrix
from workers.protocol import Finished

COPIED = (
    "macs",
    "num_params",
    "weight_bytes",
    "peak_memory_bytes",
    "val_accuracy",
    "test_accuracy",
    "latency_device",
    "latency_backend",
)
ONNX = "../../models/{}/model.onnx"  # of a candidate, from `products/<trial>/`


def deliver(space: SearchSpace, finished: Sequence[Finished]) -> Mapping[str, bytes]:
    """Return the files by name, from the finished networks of one trial.

    Args:
        space: the one that was searched.
        finished: the trial's subnets, at least one, in any order. The largest is the full network
            only if that was finished; `finish: best` may leave it out.

    Returns:
        `weights.safetensors`: the largest subnet's tensors, which hold all others'.
        `subnets.json`: under `subnets` an entry for each, smallest first, equal ones in the order
            of their candidates; under `axes`, for each dimension of a tensor, the layer whose
            units it holds and how many entries each has, or null.
        `load_subnet.py`: what reads both.
        Nothing, if the networks share no weights, as when each was trained from scratch.
    """
    subnets = sorted(finished, key=_size)
    largest, axes = subnets[-1], axes_of(space)
    for subnet in subnets:
        inside = sliced(largest.weights, axes, subnet.record["architecture"])
        if not all(torch.equal(inside[name], subnet.weights[name]) for name in inside):
            return {}
    about = {"subnets": _described(subnets), "axes": listed(axes)}
    loader = resources.files("workers.methods.reds") / "load_subnet.py"
    return {
        "weights.safetensors": safetensors.torch.save(dict(largest.weights)),
        "subnets.json": (json.dumps(about, indent=2) + "\n").encode(),
        "load_subnet.py": loader.read_bytes(),
    }


def listed(axes: Axes) -> dict[str, list[Any]]:
    """Return axes as `subnets.json` has them and `load_subnet` reads them."""
    return {
        name: [None if axis is None else [axis.layer, axis.run] for axis in found]
        for name, found in axes.items()
    }


def _size(subnet: Finished) -> tuple[int, int, str]:
    """Return what subnets are sorted by: `t000.2` comes before `t000.10`."""
    name = subnet.record["candidate"]
    return int(subnet.record["macs"]), len(name), name


def _described(subnets: Sequence[Finished]) -> list[dict[str, Any]]:
    """Return the subnets' entries.

    `val_accuracy` and `nfr` are of the validation split. `nfr` has a rate for each sibling, in
    their order: the share of samples that the sibling gets right and this subnet wrong. `onnx` is
    where a study keeps the subnet by itself, from the folder of the product. `latency_ms` is
    measured, one sample at a time, on `latency_device` by `latency_backend`.
    """
    predictions_MN = torch.stack([subnet.predictions_N for subnet in subnets])
    flips_MM = negative_flip_matrix(predictions_MN, subnets[0].labels_N)
    return [
        {
            "candidate": subnet.record["candidate"],
            "onnx": ONNX.format(subnet.record["candidate"]),
            "widths": subnet.record["architecture"],
            **{name: subnet.record[name] for name in COPIED},
            "latency_ms": subnet.record["latency_measured_ms"],
            "nfr": flips_M.tolist(),
        }
        for subnet, flips_M in zip(subnets, flips_MM.T, strict=True)
    ]
