"""What a device takes away: one file of weights, and beside it what each subnet is.

`weights.safetensors` holds the full network with its units in order; `subnets.json` says how much
of it each subnet uses, what that costs and how well it does; `load_subnet.py` reads both and needs
torch and safetensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import safetensors.torch
import torch

from search_spaces.base import SearchSpace
from workers.methods.reds.units import axes_of, sliced
from workers.metrics import negative_flip_matrix
from workers.protocol import Finished

COPIED = (
    "macs",
    "num_params",
    "weight_bytes",
    "peak_memory_bytes",
    "val_accuracy",
    "test_accuracy",
)


def deliver(space: SearchSpace, finished: Sequence[Finished]) -> Mapping[str, bytes]:
    """Return the files by name, from the finished networks of one trial.

    Nothing, if the networks share no weights, as when each was trained from scratch.
    """
    subnets = sorted(finished, key=lambda subnet: int(subnet.record["macs"]))
    full, axes = subnets[-1], axes_of(space)
    for subnet in subnets:
        inside = sliced(full.weights, axes, subnet.record["architecture"])
        if not all(torch.equal(inside[name], subnet.weights[name]) for name in inside):
            return {}
    about = {
        "subnets": _described(subnets),
        "axes": {
            name: [None if axis is None else [axis.layer, axis.run] for axis in found]
            for name, found in axes.items()
        },
    }
    loader = resources.files("workers.methods.reds") / "load_subnet.py"
    return {
        "weights.safetensors": safetensors.torch.save(dict(full.weights)),
        "subnets.json": (json.dumps(about, indent=2) + "\n").encode(),
        "load_subnet.py": loader.read_bytes(),
    }


def _described(subnets: Sequence[Finished]) -> list[dict[str, Any]]:
    """Return the subnets' entries; `nfr` has a rate for each sibling, in their order.

    It is the share of validation samples that the sibling gets right and this subnet wrong.
    """
    predictions_MN = torch.stack([subnet.predictions_N for subnet in subnets])
    flips_MM = negative_flip_matrix(predictions_MN, subnets[0].labels_N)
    return [
        {
            "widths": subnet.record["architecture"],
            **{name: subnet.record[name] for name in COPIED},
            "latency_ms": subnet.record["latency_measured_ms"],
            "nfr": flips_M.tolist(),
        }
        for subnet, flips_M in zip(subnets, flips_MM.T, strict=True)
    ]
