"""What a network costs, from its Layer records. `COST_MODELS` maps a name to its cost model.

Latency is not among them: it needs a table that was measured on a device (`latency_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cost_models.distributed import distributed, graph_cycles
from cost_models.hello_edge import hello_edge_ops
from cost_models.macs import macs
from cost_models.module_graph import ModuleGraph
from cost_models.params import num_params, num_params_without_norm, weight_bytes
from cost_models.peak_memory import peak_memory_bytes
from cost_models.slimmable_flops import slimmable_flops
from search_spaces.base import Layer


@dataclass(frozen=True, slots=True)
class CostModel:
    """A cost: its name and unit, and the function that computes it from layers in order.

    `additive`: the cost of a network is the sum of its layers' costs. `of_graph` is given for a
    cost that depends on nothing but which modules read which.
    """

    name: str
    unit: str
    additive: bool
    function: Callable[[Sequence[Layer]], float]
    of_graph: Callable[[ModuleGraph], float] | None = None


def distributed_model(machines: int) -> CostModel:
    """Return the distributed computation cost on so many machines, named after their number."""
    name, of_graph = f"distributed_{machines}", partial(graph_cycles, machines=machines)
    return CostModel(name, "cycles", False, partial(distributed, machines=machines), of_graph)


COST_MODELS: Mapping[str, CostModel] = {
    "macs": CostModel("macs", "MAC", True, macs),
    "num_params": CostModel("num_params", "parameters", True, num_params),
    "num_params_without_norm": CostModel(
        "num_params_without_norm", "parameters", True, num_params_without_norm
    ),
    "weight_bytes": CostModel("weight_bytes", "bytes", True, weight_bytes),
    "peak_memory_bytes": CostModel("peak_memory_bytes", "bytes", False, peak_memory_bytes),
    "distributed_1": distributed_model(1),
    "distributed_2": distributed_model(2),
    "distributed_4": distributed_model(4),
    "hello_edge_ops": CostModel("hello_edge_ops", "operations", True, hello_edge_ops),
    "slimmable_flops": CostModel(
        "slimmable_flops", "MAC and numbers pooled", True, slimmable_flops
    ),
}
