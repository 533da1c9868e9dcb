import itertools

import numpy as np
import pytest

from benchmarks.reds_solve import integer_program
from workers.methods.reds.chain import Chain
from workers.methods.reds.knapsack import nested, solve


def made_up(rng: np.random.Generator, layers: int, units: int, step: int = 1) -> Chain:
    """Units of falling worth, kernels between them, and what REDS's networks cost."""
    widths, scores, costs, memory = [], [], [], []
    before = np.zeros(1, dtype=np.int64)
    for _ in range(layers):
        width = np.arange(step, units + 1, step)
        unit = np.sort(rng.integers(0, 1000, units))[::-1].cumsum()[width - 1]
        pair = rng.integers(0, 60, (units + 1, units)).cumsum(0).cumsum(1)
        alone, crossed, in_bytes, out_bytes = rng.integers(1, 40, 4)
        widths.append(width)
        scores.append(unit + pair[before][:, width - 1] * (before > 0)[:, None])
        costs.append(alone * width + crossed * before[:, None] * width)
        memory.append(in_bytes * before[:, None] + out_bytes * width)
        before = width
    return Chain(tuple(widths), tuple(scores), tuple(costs), tuple(memory))


def enumerated(chain: Chain, capacity: int, most_bytes: int | None = None) -> int:
    """The best score, by trying everything."""
    best = -1
    for places in itertools.product(*(range(len(width)) for width in chain.widths)):
        pairs = list(zip((0, *places), places, strict=False))
        score, cost = (
            sum(int(table[pair]) for table, pair in zip(tables, pairs, strict=True))
            for tables in (chain.scores, chain.costs)
        )
        taken = max(t[pair] for t, pair in zip(chain.memory_bytes, pairs, strict=True))
        if cost <= capacity and (most_bytes is None or taken <= most_bytes):
            best = max(best, score)
    return best


@pytest.mark.parametrize("seed", range(200))
def test_the_score_is_that_of_trying_everything(seed):
    rng = np.random.default_rng(seed)
    chain = made_up(rng, layers=int(rng.integers(1, 5)), units=int(rng.integers(2, 7)))
    capacity = int(rng.integers(chain.least_cost, chain.full_cost + 1))
    memory = max(int(table.max()) for table in chain.memory_bytes)
    most_bytes = int(rng.integers(chain.least_memory_bytes, memory + 1)) if seed % 2 else None
    solution = solve(chain, capacity, most_bytes=most_bytes)
    assert solution.score == enumerated(chain, capacity, most_bytes)
    assert solution.gap == 0
    assert solution.cost <= capacity
    assert_consistent(chain, solution)


def assert_consistent(chain, solution):
    """Score and cost are those of the widths."""
    only = chain.between(solution.widths, solution.widths)
    assert (only.full_cost, only.least_cost) == (solution.cost, solution.cost)
    assert sum(int(score.item()) for score in only.scores) == solution.score


@pytest.mark.parametrize("solver", ["bu", "td"])
@pytest.mark.parametrize("subnets", [4, 10])
def test_solutions_are_nested_and_within_their_capacities(solver, subnets):
    chain = made_up(np.random.default_rng(1), layers=5, units=30)
    capacities = [chain.full_cost * index // subnets for index in range(1, subnets)]
    solutions = nested(chain, capacities, solver)
    for capacity, solution in zip(capacities, solutions, strict=True):
        assert solution.cost <= capacity
        assert solution.gap == 0
    for small, large in itertools.pairwise(solutions):
        assert all(one <= two for one, two in zip(small.widths, large.widths, strict=True))
        assert small.score < large.score


def test_bottom_up_does_not_look_at_later_capacities():
    chain = made_up(np.random.default_rng(2), layers=4, units=20)
    quarter = chain.full_cost // 4
    first, *_ = nested(chain, [quarter, 2 * quarter, 3 * quarter], "bu")
    alone = solve(chain, quarter)
    assert (first.widths, first.score) == (alone.widths, alone.score)
    *_, last = nested(chain, [quarter, 2 * quarter, 3 * quarter], "td")
    assert last.widths == solve(chain, 3 * quarter).widths


def test_a_solution_has_all_units_where_they_fit():
    chain = made_up(np.random.default_rng(3), layers=3, units=9, step=3)
    assert solve(chain, chain.full_cost).widths == (9, 9, 9)
    assert solve(chain, chain.least_cost).widths == (3, 3, 3)


def test_what_is_not_proven_is_bounded():
    chain = made_up(np.random.default_rng(4), layers=8, units=40)
    capacity = chain.full_cost // 2
    proven, hurried = solve(chain, capacity), solve(chain, capacity, max_kept=2)
    assert proven.gap == 0
    assert hurried.score <= proven.score <= hurried.bound
    assert 0 < hurried.gap < 0.05
    assert hurried.cost <= capacity


def test_an_infeasible_limit_names_the_smallest_feasible_one():
    chain = made_up(np.random.default_rng(5), layers=4, units=12)
    with pytest.raises(ValueError, match=r"capacity: 3 is infeasible; .* is (\d+)") as error:
        solve(chain, 3)
    smallest = int(str(error.value).split()[-1])
    assert solve(chain, smallest).cost == smallest
    with pytest.raises(ValueError, match="is infeasible"):
        solve(chain, smallest - 1)
    with pytest.raises(ValueError, match=r"peak_memory_bytes: 1 is .* is (\d+)") as error:
        solve(chain, chain.full_cost, most_bytes=1)
    smallest = int(str(error.value).split()[-1])
    assert solve(chain, chain.full_cost, most_bytes=smallest).score > 0
    with pytest.raises(ValueError, match="is infeasible"):
        solve(chain, chain.full_cost, most_bytes=smallest - 1)


def test_a_chain_of_50_layers_agrees_with_an_integer_program():
    chain = made_up(np.random.default_rng(6), layers=50, units=8)
    capacity = chain.full_cost // 3
    solution, peer = solve(chain, capacity), integer_program(chain, capacity, time_limit_s=120)
    assert peer.gap == 0
    assert solution.gap == 0
    assert solution.score == peer.score
