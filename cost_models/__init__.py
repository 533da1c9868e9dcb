"""What a network costs, from its Layer records. `COST_MODELS` maps a name to its cost model.

Latency is not among them: it needs a table that was measured on a device (`latency_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cost_models.macs import macs
from cost_models.params import num_params, num_params_without_norm, weight_bytes
from cost_models.peak_memory import peak_memory_bytes
from search_spaces.base import Layer


@dataclass(frozen=True, slots=True)
class CostModel:
    """A cost: its name and unit, and the function that computes it from layers in order.

    `additive`: the cost of a network is the sum of its layers' costs.
    """

    name: str
    unit: str
    additive: bool
    function: Callable[[Sequence[Layer]], float]


COST_MODELS: Mapping[str, CostModel] = {
    "macs": CostModel("macs", "MAC", True, macs),
    "num_params": CostModel("num_params", "parameters", True, num_params),
    "num_params_without_norm": CostModel(
        "num_params_without_norm", "parameters", True, num_params_without_norm
    ),
    "weight_bytes": CostModel("weight_bytes", "bytes", True, weight_bytes),
    "peak_memory_bytes": CostModel("peak_memory_bytes", "bytes", False, peak_memory_bytes),
}
