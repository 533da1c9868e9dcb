"""Layers as torch modules, made from their records."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from search_spaces.base import Layer

LEAK = 0.3  # slope of the vision network's activations below zero


def build_layer(records: Sequence[Layer], activation: str | None) -> nn.Sequential:
    """Return a layer as a module, freshly initialised; its parts are named as its records are."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for record in records:
        name = record.name.rpartition(".")[2]
        if record.kind == "conv":
            _add_conv(parts, name, record)
        else:
            parts[name] = _module(record, activation)
    return nn.Sequential(parts)


def _add_conv(parts: OrderedDict[str, nn.Module], name: str, record: Layer) -> None:
    """Pad by a module of its own where a convolution of torch cannot: more on one side."""
    (top, bottom), (left, right) = _paddings(record)
    even = top == bottom and left == right
    if not even:
        parts[f"{name}_pad"] = nn.ZeroPad2d((left, right, top, bottom))
    parts[name] = nn.Conv2d(
        record.in_shape[0],
        record.out_shape[0],
        record.kernel_size,
        record.stride,
        padding=(top, left) if even else 0,
        groups=record.groups,
        bias=record.bias,
    )


def _paddings(record: Layer) -> list[tuple[int, int]]:
    """Return zeros (before, after) rows and columns, as TensorFlow's "same" places them."""
    totals = (
        max((end - 1) * stride + kernel - start, 0)
        for start, end, kernel, stride in zip(
            record.in_shape[1:],
            record.out_shape[1:],
            record.kernel_size,
            record.stride,
            strict=True,
        )
    )
    return [(total // 2, total - total // 2) for total in totals]


def _module(record: Layer, activation: str | None) -> nn.Module:
    features = record.out_shape[0]
    if record.kind == "linear":
        return nn.Linear(record.in_shape[0], features, record.bias)
    if record.kind == "norm":
        flat = len(record.out_shape) == 1
        return nn.BatchNorm1d(features) if flat else nn.BatchNorm2d(features)
    if record.kind == "activation":
        return nn.ReLU() if activation == "relu" else nn.LeakyReLU(LEAK)
    if record.kind == "avg_pool":
        return nn.AvgPool2d(record.kernel_size, stride=1)
    return nn.Flatten()
