"""The most memory that activations take at any moment of one sample's inference.

Layers run in the given order. A tensor lives from the layer that writes it until the last layer
that reads it (an edge that skips layers keeps it alive meanwhile); a network's outputs live to the
end. While a layer runs, its inputs and its output live together. Batch norms, activations and
flattening change their input where it stands, as inference runtimes do, unless another layer still
needs it. Weights and a runtime's scratch space are not counted.

For a chain without such layers this is max over layers of (input + output).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search_spaces.base import Layer, Shape

BYTES_PER_NUMBER = 4  # float32
IN_PLACE = frozenset({"norm", "activation", "flatten"})
NETWORK_INPUT = ""


def peak_memory_bytes(layers: Sequence[Layer]) -> int:
    """Return the largest set of live activations, as float32 (bytes)."""
    last_reader = {
        name: layer.name for layer in layers for name in layer.inputs or (NETWORK_INPUT,)
    }
    sizes = {NETWORK_INPUT: _size(layers[0].in_shape)} if layers else {}
    live = peak = sum(sizes.values())
    for layer in layers:
        sizes[layer.name] = size = _size(layer.out_shape)
        inputs = dict.fromkeys(layer.inputs or (NETWORK_INPUT,))
        freed = sum(sizes[name] for name in inputs if last_reader[name] == layer.name)
        in_place = layer.kind in IN_PLACE and freed >= size
        peak = max(peak, live if in_place else live + size)
        live += size - freed
    return BYTES_PER_NUMBER * peak


def _size(shape: Shape) -> int:
    return math.prod(shape)
