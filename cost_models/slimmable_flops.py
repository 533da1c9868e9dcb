"""FLOPs as the profiler of slimmable networks counts them (Yu et al., 2019).

They are the MACs of convolutions and linear layers, and every number that an average pool reads.
Not counted: max pools, biases, batch norms, activations and element-wise sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cost_models.macs import macs_of
from search_spaces.base import Layer


def slimmable_flops(layers: Sequence[Layer]) -> int:
    """Return the FLOPs of one sample."""
    return sum(map(_flops_of, layers))


def _flops_of(layer: Layer) -> int:
    return math.prod(layer.in_shape) if layer.kind == "avg_pool" else macs_of(layer)
