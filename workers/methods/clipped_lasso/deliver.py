"""The product: one file of weights that runs at any trained width, and the table of its subnets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import safetensors.torch
import torch

from search_spaces.base import SearchSpace
from workers.methods.clipped_lasso.checks import resnet_of
from workers.methods.clipped_lasso.dynamic import SUBNETS, WEIGHTS, DynamicNetwork
from workers.protocol import Finished

SHOWN = ("candidate", "macs", "num_params", "val_accuracy")
WHERE_KNOWN = (
    *("ratio", "latency_measured_ms", "latency_batch128_ms"),
    *("latency_device", "latency_backend"),
)
ONNX = "../../models/{}/model.onnx"  # of a candidate, from `products/<trial>/`


def deliver(space: SearchSpace, finished: Sequence[Finished]) -> Mapping[str, bytes]:
    """Return the files of the networks that were trained together; none for others.

    `weights.safetensors` is the state dict of a `DynamicNetwork`. `subnets.json` has, for each
    subnet, its widths by layer, its ratio (None where widths are its own), its figures (latencies
    are None where none were measured) and where a study keeps its ONNX file.
    """
    together = [network for network in finished if "subnet" in network.record]
    if not together:
        return {}
    together.sort(key=lambda network: int(network.record["subnet"]))
    rows = [
        {
            **{key: network.record[key] for key in SHOWN},
            **{key: network.record.get(key) for key in WHERE_KNOWN},
            "onnx": ONNX.format(network.record["candidate"]),
            "widths": network.record["architecture"],
        }
        for network in together
    ]
    dynamic = DynamicNetwork(resnet_of(space), [row["widths"] for row in rows])
    dynamic.load_state_dict(_assembled(dynamic, [network.weights for network in together]))
    weights = {name: tensor.contiguous() for name, tensor in dynamic.state_dict().items()}
    text = json.dumps({"subnets": rows}, indent=2)
    return {WEIGHTS: safetensors.torch.save(weights), SUBNETS: text.encode()}


def _assembled(
    dynamic: DynamicNetwork, weights: Sequence[Mapping[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return the dynamic network's state dict: the widest network's weights, and all norms."""
    found = {}
    for name in dynamic.state_dict():
        part, _, rest = name.partition(".")
        number, _, own = rest.partition(".")
        found[name] = weights[-1][rest] if part == "shared" else weights[int(number)][own]
    return found
