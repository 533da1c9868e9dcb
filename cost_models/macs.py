"""Multiply-accumulates of convolutions and linear layers; everything else counts nothing.

One MAC is two FLOPs. Not counted: biases, batch norms, activations, poolings, element-wise sums
and scales, as in the tables of the papers and in torch's own FLOP counter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search_spaces.base import Layer


def macs(layers: Sequence[Layer]) -> int:
    """Return the multiply-accumulates of one sample (MAC)."""
    return sum(map(macs_of, layers))


def macs_of(layer: Layer) -> int:
    """Return a layer's own: outputs x inputs that each of them reads."""
    if layer.kind == "conv":
        height, width = layer.kernel_size
        fan_in = layer.in_shape[0] // layer.groups * height * width
        return math.prod(layer.out_shape) * fan_in
    if layer.kind == "linear":
        return layer.in_shape[0] * layer.out_shape[0]
    return 0
