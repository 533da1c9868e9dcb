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
    return sum(map(_operations_of, layers))


def _operations_of(layer: Layer) -> int:
    macs = macs_of(layer)
    return 2 * macs + math.prod(layer.out_shape) if layer.bias else 2 * macs
