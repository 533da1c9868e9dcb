"""What a network may do to its channels: operations that leave each of them in its place.

Whatever is not listed, such as a concatenation or a shuffle, is refused by its name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops.stochastic_depth import stochastic_depth

from search_spaces.base import LayerKind

Kind = LayerKind | None
"""None where evaluation changes nothing, as in dropout: such an operation is left out."""

MODULES: Mapping[type[nn.Module], Kind] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm1d: "norm",
    nn.BatchNorm2d: "norm",
    nn.AvgPool2d: "avg_pool",
    nn.AdaptiveAvgPool2d: "avg_pool",
    nn.MaxPool2d: "max_pool",
    nn.Flatten: "flatten",
    nn.Identity: None,
    nn.Dropout: None,
    nn.Dropout2d: None,
    **dict.fromkeys(
        (
            nn.ELU,
            nn.GELU,
            nn.Hardsigmoid,
            nn.Hardswish,
            nn.LeakyReLU,
            nn.Mish,
            nn.ReLU,
            nn.ReLU6,
            nn.SiLU,
            nn.Sigmoid,
            nn.Tanh,
        ),
        "activation",
    ),
}
FUNCTIONS: Mapping[Callable[..., Any], Kind] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    operator.mul: "scale",
    operator.imul: "scale",
    torch.mul: "scale",
    torch.flatten: "flatten",
    torch.relu: "activation",
    torch.sigmoid: "activation",
    functional.relu: "activation",
    functional.relu6: "activation",
    functional.silu: "activation",
    functional.hardswish: "activation",
    functional.hardsigmoid: "activation",
    functional.avg_pool2d: "avg_pool",
    functional.adaptive_avg_pool2d: "avg_pool",
    functional.max_pool2d: "max_pool",
    stochastic_depth: None,
}
METHODS: Mapping[str, Kind] = {
    "add": "add",
    "mul": "scale",
    "flatten": "flatten",
    "mean": "avg_pool",
    "relu": "activation",
    "sigmoid": "activation",
    "contiguous": None,
}
