"""Trainable numbers of a network, with and without its batch norms, and their size.

A batch norm has two parameters for each channel (scale and shift); its running statistics are
buffers, not parameters, and vanish when it is folded into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.base import Layer

BYTES_PER_NUMBER = 4  # float32


def num_params(layers: Sequence[Layer]) -> int:
    """Return the number of parameters: weights, biases, scales and shifts of batch norms."""
    return sum(map(params_of, layers))


def num_params_without_norm(layers: Sequence[Layer]) -> int:
    """Return the number of parameters of convolutions and linear layers."""
    return sum(params_of(layer) for layer in layers if layer.kind != "norm")


def weight_bytes(layers: Sequence[Layer]) -> int:
    """Return the size of all parameters as float32 (bytes)."""
    return BYTES_PER_NUMBER * num_params(layers)


def params_of(layer: Layer) -> int:
    """Return a layer's own number of parameters."""
    outputs = layer.out_shape[0]
    if layer.kind == "norm":
        return 2 * outputs
    if layer.kind == "conv":
        height, width = layer.kernel_size
        fan_in = layer.in_shape[0] // layer.groups * height * width
    elif layer.kind == "linear":
        fan_in = layer.in_shape[0]
    else:
        return 0
    return outputs * (fan_in + layer.bias)
