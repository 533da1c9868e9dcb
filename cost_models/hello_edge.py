"""Operations as "Hello Edge" counts them (Zhang et al., 2017): a MAC is two, adding a bias is one.

Not counted: batch norms (they are folded into biases), activations and poolings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cost_models.macs import macs_of
from search_spaces.base import Layer


def hello_edge_ops(layers: Sequence[Layer]) -> int:
    """Return the operations of one sample."""
    return sum(2 * macs_of(layer) + layer.bias * math.prod(layer.out_shape) for layer in layers)
