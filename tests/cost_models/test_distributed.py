"""Distributed computation cost: bounds, schedules that machines can run, and a proven optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import distributed_model
from cost_models.distributed import ORDERS, Placement, Schedule, distributed, schedule
from cost_models.fewest_cycles import MOST_MODULES
from tests.cost_models.networks import chain, network, random_reads

Reads = Mapping[str, Sequence[str]]

machine_counts = st.integers(1, 4)
orders = st.sampled_from(ORDERS)


def longest_path(reads: Reads) -> int:
    lengths: dict[str, int] = {}
    for module, sources in reads.items():
        lengths[module] = 1 + max((lengths[source] for source in sources), default=0)
    return max(lengths.values())


@given(random_reads(), machine_counts, orders)
def test_the_cost_lies_between_what_must_be_and_one_module_at_a_time(reads, n, order) -> None:
    cost = distributed(network(reads), n, order)
    assert max(longest_path(reads), -(-len(reads) // n)) <= cost <= len(reads)


@given(random_reads(), orders)
def test_one_machine_takes_a_cycle_a_module(reads, order) -> None:
    assert distributed(network(reads), 1, order) == len(reads)


@given(random_reads(), orders)
def test_as_many_machines_as_modules_take_the_longest_path(reads, order) -> None:
    assert distributed(network(reads), len(reads), order) == longest_path(reads)


@given(random_reads(), machine_counts, st.integers(1, 3))
def test_layers_of_a_module_count_once(reads, n, layers_each) -> None:
    assert distributed(network(reads, layers_each), n) == distributed(network(reads), n)


@given(random_reads(), machine_counts, orders)
def test_machines_can_run_the_schedule(reads, n, order) -> None:
    layers = network(reads)
    made = schedule(layers, n, order)
    cycle = {placement.module: placement.cycle for placement in made.placements}
    places = {(placement.machine, placement.cycle) for placement in made.placements}
    assert sorted(cycle) == sorted(reads)
    assert len(places) == len(made.placements)
    assert {machine for machine, _ in places} <= set(range(n))
    assert made.cycles == distributed(layers, n, order)
    for module, sources in reads.items():
        assert all(cycle[source] < cycle[module] for source in sources)


@given(random_reads(), machine_counts)
def test_no_order_beats_the_optimum(reads, n) -> None:
    layers = network(reads)
    optimum = distributed(layers, n, "optimal")
    assert optimum <= min(distributed(layers, n, order) for order in ORDERS)


@given(random_reads(most=8), st.integers(2, 3))
def test_the_optimum_is_the_best_of_all_schedules(reads, n) -> None:
    @cache
    def best(done: frozenset[str]) -> int:
        ready = [
            module for module in reads if module not in done and done.issuperset(reads[module])
        ]
        groups = (group for size in range(1, n + 1) for group in combinations(ready, size))
        return min((1 + best(done.union(group)) for group in groups), default=0)

    assert distributed(network(reads), n, "optimal") == best(frozenset())


def test_both_orders_can_miss_the_optimum() -> None:
    """Only `c` first leaves something to do beside `b`."""
    reads = {"a": [], "b": [], "c": [], "x": ["c"], "y": ["c"], "z": ["a", "b", "c"]}
    costs = {order: distributed(network(reads), 2, order) for order in ORDERS}
    assert costs == {"depth_first": 4, "critical_path": 4, "optimal": 3}


def test_parallel_chains_stay_on_their_machines() -> None:
    reads = {"in": [], "a0": ["in"], "b0": ["in"]}
    for index in range(1, 5):
        reads |= {f"a{index}": [f"a{index - 1}"], f"b{index}": [f"b{index - 1}"]}
    made = schedule(network(reads), 2)
    machines = {name: {p.machine for p in made.placements if p.module[0] == name} for name in "ab"}
    assert machines["a"] | machines["b"] == {0, 1}
    assert len(machines["a"]) == len(machines["b"]) == 1


def test_a_module_runs_where_most_of_what_it_reads_is() -> None:
    reads = {"a": [], "b": [], "c": ["a"], "d": ["b"], "e": ["a", "b", "d"]}
    machine = {p.module: p.machine for p in schedule(network(reads), 2).placements}
    assert machine["e"] == machine["b"] == machine["d"] != machine["a"]


def test_layers_of_a_module_need_not_stand_together() -> None:
    reader, source = network({"b": [], "a": []})
    late = replace(reader, name="b.1", inputs=(source.name,))
    made = schedule([reader, source, late], 2)
    assert [placement.module for placement in made.placements] == ["a", "b"]


def test_modules_that_read_each_other_are_refused() -> None:
    first, second = network(chain(2))
    late = replace(first, name="late", inputs=(second.name,))
    with pytest.raises(ValueError, match="layers: module 'chain0' reads what reads it"):
        distributed([first, second, late], 1)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"machines: 0; allowed: 1 or more"):
        distributed(network(chain(2)), 0)
    with pytest.raises(ValueError, match=r"order: 'random'; allowed: depth_first, critical_path,"):
        distributed(network(chain(2)), 1, "random")
    large = network(chain(MOST_MODULES + 1))
    with pytest.raises(ValueError, match=r"'optimal' for 31 modules; allowed: up to 30"):
        distributed(large, 1, "optimal")


@pytest.mark.parametrize(
    "wrong",
    [("b", 0, 0), ("a", 1, 0), ("b", 2, 0), ("b", -1, 0), ("b", 0, -1)],
    ids=["place taken", "module twice", "no such machine", "machine below 0", "cycle below 0"],
)
def test_schedules_that_machines_cannot_run_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"schedule: .*; allowed: machines 0 to 1"):
        Schedule(2, (Placement("a", 0, 0), Placement(*wrong)))


def test_a_cost_model_is_named_after_its_machines() -> None:
    model = distributed_model(3)
    assert (model.name, model.unit) == ("distributed_3", "cycles")
    assert model.function(network({"in": [], "a": ["in"], "b": ["in"], "c": ["in"]})) == 2
