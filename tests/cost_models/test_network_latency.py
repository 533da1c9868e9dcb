"""Network latency: cycles where nothing is delayed, values by hand, and known distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.distributed import ORDERS, Placement, Schedule, schedule
from cost_models.macs import macs
from cost_models.network_latency import (
    Delay,
    NetworkLatency,
    compute_ms_by_macs,
    network_latency,
)
from search_spaces.base import Layer
from tests.cost_models.networks import chain, network, random_reads

FORK = {"a": [], "b": ["a"], "c": ["a"]}
APART = Schedule(3, (Placement("a", 0, 0), Placement("b", 1, 1), Placement("c", 2, 1)))
JITTER = Delay(jitter_ms=2.0)
AT_ONCE = dict.fromkeys(FORK, 0.0)

machine_counts = st.integers(1, 4)


def on_machines(
    reads: Mapping[str, Sequence[str]], n: int, delay: Delay, order="depth_first"
) -> NetworkLatency:
    layers = network(reads)
    unit = dict.fromkeys(reads, 1.0)
    return network_latency(layers, schedule(layers, n, order), delay=delay, compute_ms=unit)


@given(random_reads(), machine_counts, st.sampled_from(ORDERS))
def test_without_delays_every_cycle_takes_its_time(reads, n, order) -> None:
    cycles = schedule(network(reads), n, order).cycles
    assert on_machines(reads, n, Delay(), order).sample(np.random.default_rng(0)) == cycles


@given(random_reads(), machine_counts)
def test_delays_come_on_top(reads, n) -> None:
    cycles = schedule(network(reads), n).cycles
    latencies_N = on_machines(reads, n, JITTER).samples(np.random.default_rng(0), 20)
    edges = sum(map(len, reads.values()))
    constant = on_machines(reads, n, Delay(fixed_ms=5.0)).sample(np.random.default_rng(0))
    assert (latencies_N >= cycles).all()
    assert cycles <= constant <= cycles + 5.0 * edges


@given(random_reads(), machine_counts)
def test_one_draw_is_the_first_of_one(reads, n) -> None:
    latency = on_machines(reads, n, JITTER)
    one, many = np.random.default_rng(1), np.random.default_rng(1)
    assert latency.sample(one) == latency.samples(many, 1)[0]


def test_equal_generators_give_equal_draws() -> None:
    latency = on_machines(FORK, 3, JITTER)
    first, second, other = (latency.samples(np.random.default_rng(s), 5) for s in (3, 3, 4))
    assert (first == second).all()
    assert (first != other).all()
    assert len(set(first)) == 5


def test_a_machine_runs_one_module_at_a_time_and_its_own_results_are_there_at_once() -> None:
    alone = Schedule(1, (Placement("a", 0, 0), Placement("c", 0, 1), Placement("b", 0, 2)))
    times = {"a": 1.0, "b": 2.0, "c": 4.0}
    late = Delay(fixed_ms=100.0)
    latency = network_latency(network(FORK), alone, delay=late, compute_ms=times)
    assert latency.sample(np.random.default_rng(0)) == 7


def test_every_direction_of_a_link_has_its_delay() -> None:
    reads = chain(3)
    back_and_forth = Schedule(2, tuple(Placement(f"chain{i}", i % 2, i) for i in range(3)))
    latency = network_latency(
        network(reads),
        back_and_forth,
        delay=Delay(fixed_ms=10.0),
        links={(1, 0): Delay(fixed_ms=0.5)},
        compute_ms=dict.fromkeys(reads, 1.0),
    )
    assert latency.sample(np.random.default_rng(0)) == 3 + 10 + 0.5


def test_an_exponential_delay_has_the_quantiles_of_its_formula() -> None:
    reads = {"a": [], "b": ["a"]}
    delay = Delay(fixed_ms=1.0, jitter_ms=2.0)
    times = {"a": 0.25, "b": 0.5}
    latency = network_latency(network(reads), APART, delay=delay, compute_ms=times)
    rng = np.random.default_rng(0)
    assert latency.mean(rng, 100_000) == pytest.approx(1.75 + 2.0, rel=0.01)
    for q in (0.1, 0.5, 0.9):
        expected = 1.75 - 2.0 * math.log(1 - q)
        assert latency.quantile(q, rng, 100_000) == pytest.approx(expected, rel=0.02)


def test_every_edge_draws_its_own_delay() -> None:
    """The later of two independent exponential delays takes 3 / 2 of one's mean."""
    latency = network_latency(network(FORK), APART, delay=JITTER, compute_ms=AT_ONCE)
    assert latency.mean(np.random.default_rng(0), 100_000) == pytest.approx(3.0, rel=0.01)


def test_a_larger_shape_is_less_spread() -> None:
    delays_N = Delay(jitter_ms=2.0, shape=16.0).draws(np.random.default_rng(0), (100_000,))
    assert delays_N.mean() == pytest.approx(2.0, rel=0.01)
    assert delays_N.std() == pytest.approx(2.0 / 4, rel=0.02)


def test_one_schedule_serves_the_networks_of_a_space() -> None:
    part = {"a": [], "c": ["a"]}
    late = Delay(fixed_ms=3.0)
    latency = network_latency(network(part), APART, delay=late, compute_ms=AT_ONCE)
    assert latency.sample(np.random.default_rng(0)) == 3


def test_modules_compute_as_long_as_their_macs_say() -> None:
    shape = (4, 3, 3)
    conv = Layer("conv", "conv", shape, shape, kernel_size=(3, 3), module="block")
    norm = Layer("norm", "norm", shape, shape, inputs=("conv",), module="block")
    add = Layer("add", "add", shape, shape, inputs=("norm",), module="add")
    layers = [conv, norm, add]
    assert compute_ms_by_macs(layers, 100.0) == {"block": macs(layers) / 100, "add": 0}
    latency = network_latency(layers, schedule(layers, 1), delay=Delay())
    assert latency.sample(np.random.default_rng(0)) == macs(layers) / 1e7


def test_no_network_takes_no_time() -> None:
    latency = network_latency([], Schedule(2, ()), delay=JITTER)
    assert latency.sample(np.random.default_rng(0)) == 0
    assert latency.mean(np.random.default_rng(0), 3) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": Schedule(1, ())}, "schedule: module 'a' is missing"),
        (
            {"schedule": schedule(network({"b": [], "a": ["b"], "c": []}), 1)},
            r"schedule: module 'b' is in cycle 0; allowed: after cycle \d, of 'a', which it reads",
        ),
        ({"compute_ms": {"a": 1.0, "c": 1.0}}, "compute_ms: module 'b' is missing"),
        (
            {"compute_ms": {"a": 1.0, "b": math.nan, "c": 1.0}},
            "compute_ms: module 'b' takes nan; allowed: >= 0",
        ),
        ({"links": {(0, 3): JITTER}}, r"links: \(0, 3\); allowed: two different machines of 3"),
        ({"links": {(1, 1): JITTER}}, r"links: \(1, 1\); allowed: two different machines of 3"),
    ],
)
def test_what_cannot_run_is_refused(wrong, message) -> None:
    given = {"schedule": APART, "delay": JITTER, "compute_ms": AT_ONCE}
    with pytest.raises(ValueError, match=message):
        network_latency(network(FORK), **given | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fixed_ms": -1.0}, "delay: fixed_ms is -1.0; allowed: >= 0"),
        ({"jitter_ms": math.nan}, "delay: jitter_ms is nan; allowed: >= 0"),
        ({"shape": 0.0}, "delay: shape is 0.0; allowed: > 0"),
    ],
)
def test_impossible_delays_are_refused(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        Delay(**wrong)


def test_impossible_figures_are_refused() -> None:
    latency, rng = on_machines(FORK, 2, JITTER), np.random.default_rng(0)
    with pytest.raises(ValueError, match="samples: 0; allowed: 1 or more"):
        latency.mean(rng, 0)
    with pytest.raises(ValueError, match=r"quantile: 1\.5; allowed: 0 to 1"):
        latency.quantile(1.5, rng)
    with pytest.raises(ValueError, match="macs_per_ms: 0; allowed: > 0"):
        compute_ms_by_macs([], 0)
