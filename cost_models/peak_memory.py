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

from search_spaces.base import Layer

BYTES_PER_NUMBER = 4  # float32
IN_PLACE = frozenset({"norm", "activation", "flatten"})
NETWORK_INPUT = ""
FROM_OUTSIDE = (NETWORK_INPUT,)


def peak_memory_bytes(layers: Sequence[Layer]) -> int:
    """Return the largest set of live activations, as float32 (bytes)."""
    return max(live_bytes(layers), default=0)


def live_bytes(layers: Sequence[Layer]) -> list[int]:
    """Return the live activations as the input arrives, then while each layer runs (bytes)."""
    last_reader = {name: layer.name for layer in layers for name in layer.inputs or FROM_OUTSIDE}
    sizes = {NETWORK_INPUT: math.prod(layers[0].in_shape)} if layers else {}
    live = sum(sizes.values())
    moments = [live]
    for layer in layers:
        size, freed = math.prod(layer.out_shape), 0
        for name in layer.inputs or FROM_OUTSIDE:
            if last_reader[name] == layer.name:
                freed += sizes.pop(name, 0)  # it may be read twice
        sizes[layer.name] = size
        in_place = layer.kind in IN_PLACE and freed >= size
        moments.append(live if in_place else live + size)
        live += size - freed
    return [BYTES_PER_NUMBER * moment for moment in moments]
