import itertools

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from workers.methods.reds.elimination import best_at, turns
from workers.methods.reds.groups import GroupGraph, Live, assembled
from workers.methods.reds.knapsack import nested, solve


def made_up(rng: np.random.Generator, groups: int, units: int) -> GroupGraph:
    """Units of falling worth, and layers that lead from any group to any other, or to itself."""
    widths = [np.arange(1, int(rng.integers(2, units + 1)) + 1) for _ in range(groups)]
    scores = [
        ((g,), np.sort(rng.integers(0, 900, len(w)))[::-1].cumsum()) for g, w in enumerate(widths)
    ]
    costs = [
        ((), np.array(7)),
        *(((g,), int(rng.integers(1, 40)) * w) for g, w in enumerate(widths)),
    ]
    for one, two in itertools.product(range(groups), repeat=2):
        if rng.random() < 0.5:
            shape = len(widths[one]), len(widths[two])
            scores.append(((one, two), rng.integers(0, 60, shape).cumsum(0).cumsum(1)))
            costs.append(((one, two), int(rng.integers(1, 9)) * np.outer(widths[one], widths[two])))
    lives = [
        Live(int(rng.integers(20)), tuple((g, int(rng.integers(1, 9))) for g in sorted(scope)))
        for scope in itertools.combinations(range(groups), min(3, groups))
    ]
    return assembled(widths, scores, costs, tuple(lives))


def memory(graph: GroupGraph, places) -> int:
    widths = [width_V[[place]] for width_V, place in zip(graph.widths, places, strict=True)]
    return max(live.table(widths).item() for live in graph.lives)


def all_places(graph: GroupGraph):
    return itertools.product(*(range(len(width)) for width in graph.widths))


@pytest.mark.parametrize("seed", range(200))
def test_the_best_score_lies_between_the_solution_and_its_bound(seed):
    rng = np.random.default_rng(seed)
    graph = made_up(rng, groups=int(rng.integers(1, 5)), units=6)
    capacity = int(rng.integers(graph.least_cost, graph.full_cost + 1))
    most = memory(graph, [-1] * len(graph.widths))
    most_bytes = int(rng.integers(graph.least_memory_bytes, most + 1)) if seed % 2 else None
    solution = solve(graph, capacity, most_bytes=most_bytes)
    allowed = [
        places
        for places in all_places(graph)
        if graph.cost(places) <= capacity and memory(graph, places) <= (most_bytes or most)
    ]
    best = max(map(graph.score, allowed))
    assert solution.score <= best <= solution.bound
    assert solution.cost <= capacity
    assert (solution.gap == 0) == (solution.score == solution.bound)
    only = graph.between(solution.widths, solution.widths)
    assert (only.full_cost, only.score([0] * len(graph.widths))) == (solution.cost, solution.score)


def test_most_solutions_are_the_best_ones():
    found = []
    for seed in range(100):
        graph = made_up(np.random.default_rng(seed), groups=4, units=6)
        capacity = graph.full_cost // 2
        best = max(graph.score(p) for p in all_places(graph) if graph.cost(p) <= capacity)
        found.append(solve(graph, capacity).score / best)
    assert np.mean([score == 1 for score in found]) >= 0.8
    assert min(found) > 0.95


@pytest.mark.parametrize("seed", range(20))
def test_elimination_finds_the_best_of_all_at_a_price(seed):
    rng = np.random.default_rng(seed)
    graph, price = made_up(rng, groups=4, units=6), float(rng.uniform(0, 20))
    path = best_at(graph, turns(graph), price)
    best = max(graph.score(places) - price * graph.cost(places) for places in all_places(graph))
    assert path.score - price * path.cost == pytest.approx(best)
    assert (path.score, path.cost) == (graph.score(path.places), graph.cost(path.places))


@pytest.mark.parametrize("solver", ["bu", "td"])
@pytest.mark.parametrize("subnets", [4, 10])
def test_solutions_are_nested_and_within_their_capacities(solver, subnets):
    graph = made_up(np.random.default_rng(1), groups=6, units=20)
    capacities = [graph.full_cost * index // subnets for index in range(1, subnets)]
    solutions = nested(graph, capacities, solver)
    for capacity, solution in zip(capacities, solutions, strict=True):
        assert solution.cost <= capacity
        assert solution.gap < 0.05
    for small, large in itertools.pairwise(solutions):
        assert all(one <= two for one, two in zip(small.widths, large.widths, strict=True))
        assert small.score < large.score


@pytest.mark.parametrize("seed", range(3))
def test_an_integer_program_finds_nothing_above_the_bound(seed):
    graph = made_up(np.random.default_rng(seed), groups=6, units=10)
    capacity = graph.full_cost // 3
    solution, best = solve(graph, capacity), integer_program(graph, capacity)
    assert solution.score <= best <= solution.bound
    assert solution.score >= 0.99 * best


def integer_program(graph: GroupGraph, capacity: int) -> int:
    """The best score, by HiGHS: one variable for each entry of each part."""
    starts = np.cumsum([0, *(part.scores.size for part in graph.parts)])
    rows, right = [], []
    alone = {part.scope: start for part, start in zip(graph.parts, starts, strict=False)}
    for part, start in zip(graph.parts, starts, strict=False):
        cells = np.arange(start, start + part.scores.size).reshape(part.scores.shape)
        rows.append(np.isin(np.arange(starts[-1]), cells))
        right.append(1)
        for axis, group in enumerate(part.scope if cells.ndim == 2 else ()):
            for place in range(len(graph.widths[group])):
                row = np.zeros(starts[-1])
                row[cells.take(place, axis)] = 1
                row[alone[group,] + place] = -1
                rows.append(row)
                right.append(0)
    scores, costs = (
        np.concatenate([getattr(part, name).ravel() for part in graph.parts])
        for name in ("scores", "costs")
    )
    found = milp(
        -scores,
        integrality=np.ones(starts[-1]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.array(rows, dtype=float), right, right),
            LinearConstraint(costs[None].astype(float), -np.inf, capacity),
        ],
        options={"mip_rel_gap": 0.0},
    )
    assert found.status == 0
    return round(-found.fun)


def test_an_infeasible_capacity_names_the_smallest_feasible_one():
    graph = made_up(np.random.default_rng(0), groups=3, units=6)
    with pytest.raises(ValueError, match=rf"capacity: 1 .* feasible one is {graph.least_cost}$"):
        solve(graph, 1)
    assert solve(graph, graph.least_cost).cost == graph.least_cost


def test_an_infeasible_memory_names_the_smallest_feasible_one():
    graph = made_up(np.random.default_rng(0), groups=3, units=6)
    least = graph.least_memory_bytes
    with pytest.raises(ValueError, match=rf"peak_memory_bytes: 1 .* feasible one is {least}$"):
        solve(graph, graph.full_cost, most_bytes=1)
    narrowest = solve(graph, graph.full_cost, most_bytes=least)
    assert memory(graph, [width - 1 for width in narrowest.widths]) == least


def test_all_units_fit_into_a_large_capacity():
    graph = made_up(np.random.default_rng(0), groups=4, units=6)
    solution = solve(graph, graph.full_cost)
    assert solution.widths == tuple(int(width[-1]) for width in graph.widths)
    assert solution.gap == 0
