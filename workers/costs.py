"""A study's cost as a function of architectures: counted, looked up, measured, or drawn.

A method is given one of them and need not know which. What is counted or looked up is remembered:
an architecture that comes again costs a look into a dictionary. Random costs draw from torch's
global generator, which a method seeds so that its run repeats.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import nn

from cost_models import COST_MODELS, CostModel
from cost_models.distributed import schedule
from cost_models.latency_table import LatencyTable
from cost_models.network_latency import (
    MACS_PER_MS,
    Delay,
    NetworkLatency,
    compute_ms_by_macs,
    network_latency,
)
from search_spaces.base import Architecture, SearchSpace
from workers.protocol import Cost

TABLE_COST = "latency_ms"
MEASURED_COST = "measured_latency_ms"
NETWORK_COST = "network_latency_ms"
RANDOM_COSTS = (MEASURED_COST, NETWORK_COST)

DRAWS = 31  # whose mean is the expected cost
CALLS = 3  # whose median is measured: something else may run amid one of them
MOST_REMEMBERED = 2**18  # costs; a long search draws millions of networks
MOST_READY = 64  # networks that are kept to be measured again
MOST_ALLOCATED = 1024  # networks whose allocation to machines is kept


@dataclass(frozen=True)
class Machines:
    """The machines, and the links between them, of `network_latency_ms`.

    Args:
        machines: that compute side by side, one module at a time each.
        delay: of every message from one machine to another.
        macs_per_ms: a machine's speed.
    """

    machines: int = 4
    delay: Delay = Delay(jitter_ms=0.1)
    macs_per_ms: float = MACS_PER_MS

    def __post_init__(self) -> None:
        """Refuse what no machine can do.

        Raises:
            ValueError: names the key, its value and what is allowed.
        """
        if self.machines < 1:
            raise ValueError(f"machines: {self.machines}; allowed: 1 or more")
        if not 0 < self.macs_per_ms < math.inf:
            raise ValueError(f"macs_per_ms: {self.macs_per_ms}; allowed: > 0")


def cost_function(
    name: str, space: SearchSpace, table: LatencyTable | None, network: Machines
) -> Cost:
    """Return what an architecture costs, in the unit of the cost.

    Args:
        name: one of `COSTS`.
        space: of the architectures.
        table: for `latency_ms`.
        network: for `network_latency_ms`.

    Raises:
        ValueError: latency is asked for and there is no table.
    """
    return COSTS[name](space, table, network)


def expected(cost: Cost, architecture: Architecture) -> float:
    """Return the mean of many draws of a random cost, the same ones whenever it is asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return statistics.fmean(cost(architecture) for _ in range(DRAWS))


def _counted(model: CostModel, space: SearchSpace, *_: object) -> Cost:
    return _remembered(lambda architecture: float(model.function(space.layers(architecture))))


def _looked_up(space: SearchSpace, table: LatencyTable | None) -> Cost:
    if table is None:
        raise ValueError("cost: latency_ms needs a latency table; the measure stage makes one")
    return _remembered(lambda architecture: table.network_ms(space.blocks(architecture)))


def _remembered(count: Callable[[Architecture], float]) -> Cost:
    known: dict[bytes, float] = {}

    def cost(architecture: Architecture, input_CHW: torch.Tensor | None = None) -> float:
        del input_CHW
        text = json.dumps(architecture).encode()
        key = hashlib.blake2b(text, digest_size=16).digest()  # the text may be long
        if key not in known:
            if len(known) >= MOST_REMEMBERED:
                known.clear()
            known[key] = count(architecture)
        return known[key]

    return cost


def _measured(space: SearchSpace) -> Cost:
    """Return how long one sample takes in torch on this process' CPU threads (ms)."""

    @lru_cache(MOST_READY)
    def ready(text: str) -> nn.Module:
        network = space.build(json.loads(text)).eval()
        with torch.inference_mode():
            network(torch.zeros(1, *space.in_shape))
        return network

    @torch.inference_mode()
    def cost(architecture: Architecture, input_CHW: torch.Tensor | None = None) -> float:
        input_CHW = torch.zeros(space.in_shape) if input_CHW is None else input_CHW
        with torch.random.fork_rng(devices=[]):  # new networks draw weights
            network = ready(json.dumps(architecture))
        x_1CHW = input_CHW[None].cpu()
        times_s = []
        for _ in range(CALLS):
            start = time.perf_counter()
            network(x_1CHW)
            times_s.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times_s)

    return cost


def _on_machines(space: SearchSpace, network: Machines) -> Cost:
    """Return one draw of a network's latency, allocated as the distributed cost allocates it."""

    @lru_cache(MOST_ALLOCATED)
    def allocated(text: str) -> NetworkLatency:
        layers = space.layers(json.loads(text))
        return network_latency(
            layers,
            schedule(layers, network.machines),
            delay=network.delay,
            compute_ms=compute_ms_by_macs(layers, network.macs_per_ms),
        )

    def cost(architecture: Architecture, input_CHW: torch.Tensor | None = None) -> float:
        del input_CHW
        seed = int(torch.randint(2**63 - 1, ()))
        return allocated(json.dumps(architecture)).sample(np.random.default_rng(seed))

    return cost


COSTS: Mapping[str, Callable[[SearchSpace, LatencyTable | None, Machines], Cost]] = {
    TABLE_COST: lambda space, table, _: _looked_up(space, table),
    **{name: partial(_counted, model) for name, model in COST_MODELS.items()},
    MEASURED_COST: lambda space, *_: _measured(space),
    NETWORK_COST: lambda space, _, network: _on_machines(space, network),
}
"""All that a study's `cost` may be: name -> what makes `cost_function`'s function."""
