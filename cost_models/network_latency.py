"""Network latency: how long a network takes on several machines whose links delay at random.

A module starts when its machine has ended the module before it and everything that it reads has
arrived. What another machine sends is delayed, every edge by a draw of its own from the
distribution of its link; what the same machine made is there at once. The network's latency is the
end of its last module. Not counted: the amount of data, messages in one another's way, and the
transport of the network's input and output.

Veniat and Denoyer name such a latency as a cost that is stochastic ("Budgeted Super Networks",
supplementary material, "Considering non-differentiable costs"); how it comes about here is ours.

Times are in milliseconds. E: edges between machines, N: draws. Equal generators, equal draws.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cost_models.distributed import Placement, Schedule
from cost_models.macs import macs_of
from cost_models.module_graph import ModuleGraph, module_graph
from search_spaces.base import Layer

Reals: TypeAlias = npt.NDArray[np.float64]
Link: TypeAlias = tuple[int, int]  # the machine that sends, the machine that receives

MACS_PER_MS = 1e7


@dataclass(frozen=True, slots=True)
class Delay:
    """A random delay: a fixed part and a gamma-distributed part.

    Args:
        fixed_ms: what every message takes; at least 0.
        jitter_ms: the mean of the random part; at least 0, where 0 is a constant delay.
        shape: of the gamma distribution; above 0, where 1 is an exponential distribution and
            more is less spread.

    Raises:
        ValueError: a number is not in its range.
    """

    fixed_ms: float = 0.0
    jitter_ms: float = 0.0
    shape: float = 1.0

    def __post_init__(self) -> None:
        """Refuse impossible numbers; comparisons are such that NaN is refused too."""
        for name in ("fixed_ms", "jitter_ms"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"delay: {name} is {getattr(self, name)}; allowed: >= 0")
        if not 0 < self.shape < math.inf:
            raise ValueError(f"delay: shape is {self.shape}; allowed: > 0")

    def draws(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Reals:
        """Return independent delays (ms), an array of the given shape."""
        return self.fixed_ms + rng.gamma(self.shape, self.jitter_ms / self.shape, shape)


@dataclass(frozen=True, slots=True)
class Step:
    """A module that a machine runs, and its arrivals: (sending module, number of the edge)."""

    module: int
    machine: int
    compute_ms: float
    arrivals: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class NetworkLatency:
    """The latency of a network: a random number, of which there are draws, a mean and quantiles.

    `steps` are in an order in which machines can run them; `delays` tell how many edges, of all
    edges in order, each distribution delays.
    """

    machines: int
    steps: list[Step]
    delays: list[tuple[Delay, int]]

    def sample(self, rng: np.random.Generator) -> float:
        """Return one draw (ms)."""
        delays_E = self._drawn_delays(rng, 1)[:, 0]
        return float(self._last_end(delays_E.tolist(), max))

    def samples(self, rng: np.random.Generator, count: int) -> Reals:
        """Return independent draws (ms), (N,).

        Raises:
            ValueError: fewer than one are asked for.
        """
        if count < 1:
            raise ValueError(f"samples: {count}; allowed: 1 or more")
        delays_EN = self._drawn_delays(rng, count)
        latencies_N: Reals = np.zeros(count) + self._last_end(list(delays_EN), np.maximum)
        return latencies_N

    def mean(self, rng: np.random.Generator, samples: int = 1000) -> float:
        """Return the mean of so many draws (ms).

        Raises:
            ValueError: of fewer than one.
        """
        return float(self.samples(rng, samples).mean())

    def quantile(self, q: float, rng: np.random.Generator, samples: int = 1000) -> float:
        """Return what a share `q` of so many draws does not exceed (ms), interpolated.

        Raises:
            ValueError: `q` is not in [0, 1], or fewer than one draw is asked for.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile: {q}; allowed: 0 to 1")
        return float(np.quantile(self.samples(rng, samples), q))

    def _drawn_delays(self, rng: np.random.Generator, count: int) -> Reals:
        """Return a delay for every edge and draw (ms), (E, N)."""
        drawn = [delay.draws(rng, (edges, count)) for delay, edges in self.delays]
        return np.concatenate([np.empty((0, count)), *drawn])

    def _last_end(self, delays: Sequence[Any], later: Callable[[Any, Any], Any]) -> Any:
        """Return when the last module ends; times are numbers, or arrays of as many draws."""
        ends: list[Any] = [0.0] * len(self.steps)
        free: list[Any] = [0.0] * self.machines
        for step in self.steps:
            start = free[step.machine]
            for source, edge in step.arrivals:
                start = later(start, ends[source] + delays[edge])
            ends[step.module] = free[step.machine] = start + step.compute_ms
        return reduce(later, free, 0.0)


def network_latency(
    layers: Sequence[Layer],
    schedule: Schedule,
    *,
    delay: Delay,
    links: Mapping[Link, Delay] | None = None,
    compute_ms: Mapping[str, float] | None = None,
) -> NetworkLatency:
    """Return the latency of a network.

    Args:
        layers: of the network.
        schedule: every module's machine, and the order in which a machine runs its modules. It may
            hold modules that the network lacks: one schedule serves all networks of a space.
        delay: of links that `links` does not name.
        links: delays by sending and receiving machine.
        compute_ms: how long each module computes, of a latency table for instance; it may name
            modules that the network lacks. By default `compute_ms_by_macs`.

    Raises:
        ValueError: a module has no place or no time, or no later cycle than what it reads; or a
            link is not between two of the machines.
    """
    _check_links(links or {}, schedule.machines)
    graph = module_graph(layers)
    places = _places(graph, schedule)
    times = _times(graph, compute_ms_by_macs(layers) if compute_ms is None else compute_ms)
    edges = _delayed_edges(graph, places, delay, links or {})
    arrivals: list[list[tuple[int, int]]] = [[] for _ in places]
    for edge, (source, module) in enumerate(chain.from_iterable(edges.values())):
        arrivals[module].append((source, edge))
    steps = [
        Step(module, places[module].machine, times[module], arrivals[module])
        for module in sorted(range(len(places)), key=lambda module: places[module].cycle)
    ]
    return NetworkLatency(schedule.machines, steps, [(way, len(of)) for way, of in edges.items()])


def compute_ms_by_macs(
    layers: Sequence[Layer], macs_per_ms: float = MACS_PER_MS
) -> dict[str, float]:
    """Return how long each module computes (ms) at a speed (MAC/ms); what has no MAC takes 0.

    Raises:
        ValueError: the speed is not above 0.
    """
    if not macs_per_ms > 0:
        raise ValueError(f"macs_per_ms: {macs_per_ms}; allowed: > 0")
    times: dict[str, float] = defaultdict(float)
    for layer in layers:
        times[layer.module] += macs_of(layer) / macs_per_ms
    return dict(times)


def _places(graph: ModuleGraph, schedule: Schedule) -> list[Placement]:
    """Return every module's placement."""
    placed = {placement.module: placement for placement in schedule.placements}
    for name in graph.names:
        if name not in placed:
            raise ValueError(f"schedule: module {name!r} is missing")
    places = [placed[name] for name in graph.names]
    for module, sources in enumerate(graph.sources):
        for source in sources:
            if places[source].cycle >= places[module].cycle:
                raise ValueError(
                    f"schedule: module {graph.names[module]!r} is in cycle {places[module].cycle};"
                    f" allowed: after cycle {places[source].cycle}, of {graph.names[source]!r},"
                    " which it reads"
                )
    return places


def _delayed_edges(
    graph: ModuleGraph, places: Sequence[Placement], delay: Delay, links: Mapping[Link, Delay]
) -> dict[Delay, list[tuple[int, int]]]:
    """Return the edges between machines, (source, module), by their delay."""
    edges: dict[Delay, list[tuple[int, int]]] = defaultdict(list)
    for module, place in enumerate(places):
        for source in graph.sources[module]:
            link = (places[source].machine, place.machine)
            if link[0] != link[1]:
                edges[links.get(link, delay)].append((source, module))
    return edges


def _times(graph: ModuleGraph, compute_ms: Mapping[str, float]) -> list[float]:
    """Return every module's time."""
    for name in graph.names:
        if name not in compute_ms:
            raise ValueError(f"compute_ms: module {name!r} is missing")
        if not 0 <= compute_ms[name] < math.inf:
            raise ValueError(f"compute_ms: module {name!r} takes {compute_ms[name]}; allowed: >= 0")
    return [compute_ms[name] for name in graph.names]


def _check_links(links: Mapping[Link, Delay], machines: int) -> None:
    for link in links:
        if link[0] == link[1] or not all(0 <= machine < machines for machine in link):
            raise ValueError(f"links: {link}; allowed: two different machines of {machines}")
