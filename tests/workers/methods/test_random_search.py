import pytest

from search_spaces.base import digest
from tests.workers.methods.tiny import tiny_problem
from workers.methods.random_search import Config, search, select


def drawn(seed: int = 0, **settings):
    problem = tiny_problem(seed)
    (progress,) = search(problem, Config(**settings), None)
    return problem, [candidate.architecture for candidate in progress.candidates]


def test_candidates_follow_from_the_seed():
    problem, first = drawn(num_candidates=5)
    assert len({digest(problem.space, architecture) for architecture in first}) == 5
    assert drawn(num_candidates=5)[1] == first
    assert drawn(seed=1, num_candidates=5)[1] != first


def test_costs_spread_over_the_range():
    problem, architectures = drawn(num_candidates=6, even_over_cost=True)
    low, high = (problem.cost(problem.space.presets[name]) for name in ("min", "max"))
    shares = [(problem.cost(found) - low) / (high - low) for found in architectures]
    assert shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1], abs=0.05)
    assert drawn(num_candidates=6, even_over_cost=True)[1] == architectures


def test_all_candidates_are_worth_finishing():
    assert select([{"seed": 0}, {"seed": 0}]) == [0, 1]


def test_no_candidates_is_refused():
    with pytest.raises(ValueError, match="num_candidates: 0; allowed: 1 or above"):
        Config(num_candidates=0)
