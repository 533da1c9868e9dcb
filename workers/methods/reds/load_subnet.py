"""Load any subnet from the one file that holds them all.

    weights = load_subnet("products/t000", 0)  # the state dict of the smallest

The folder holds `weights.safetensors`, the largest subnet, and `subnets.json`: under `subnets`,
smallest first, each with its `widths`, how many of a layer's units it uses, the first ones; under
`axes`, for each dimension of a tensor, whose units it holds and how many entries each has.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

Tensors = dict[str, torch.Tensor]


def load_subnet(folder: str | Path, index: int) -> Tensors:
    """Return a subnet's tensors: slices of the largest one's, nothing is copied."""
    return subnet(*load(folder), index)


def load(folder: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the largest subnet's tensors, and what `subnets.json` says."""
    about = json.loads((Path(folder) / "subnets.json").read_text())
    return load_file(Path(folder) / "weights.safetensors"), about


def subnet(tensors: Tensors, about: dict[str, Any], index: int) -> Tensors:
    """Return a subnet's tensors from what `load` returned, to switch without loading again."""
    widths = about["subnets"][index]["widths"]

    def size(axis: list[Any] | None) -> int | None:
        return None if axis is None else axis[1] * widths[axis[0]]

    return {
        name: tensors[name][tuple(slice(size(axis)) for axis in axes)]
        for name, axes in about["axes"].items()
    }
