"""REG-NAS's search on made-up predictions: rewards, budgets, families, resuming, optimisers."""

import dataclasses
import importlib
import io
import itertools
import statistics

import pytest
import torch

from search_spaces.base import digest
from tests.workers.methods.made_up_predict import MadeUpPredict, made_up_problem
from tests.workers.methods.tiny_elastic import MOBILENET, RESNET, elastic_problem
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.containment import contains
from workers.methods.reg_nas.evolution import Evolution, genes
from workers.methods.reg_nas.limits import Limits
from workers.methods.reg_nas.reward import reward
from workers.methods.reg_nas.search import OPTIMIZERS, search
from workers.metrics import negative_flip_rate
from workers.protocol import seeded

COST = elastic_problem().cost
LEAST, MOST = (COST(MOBILENET.presets[name]) for name in ("min", "max"))
SMALL, LARGE = (LEAST + share * (MOST - LEAST) for share in (0.25, 0.6))
QUICK = Config(budgets=(SMALL, LARGE), population=16, generations=6)


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    module = importlib.import_module("workers.methods.reg_nas.search")  # past the function
    monkeypatch.setattr(module, "inherited", lambda problem, config, architecture: {})


def candidates(problem, config, state=None):
    *_, last = search(problem, config, state)
    return last.candidates


def test_rewards_are_the_papers_in_percent():
    given = {"accuracy": 0.77, "nfr": 0.02}
    assert reward(Config(reward="r0"), **given) == pytest.approx(77)
    assert reward(Config(reward="r1"), **given) == pytest.approx(-2)
    assert reward(Config(reward="r2"), **given) == pytest.approx(75)
    assert reward(Config(reward="r2", lambda_ratio=20), **given) == pytest.approx(37)


def test_each_network_is_within_its_budget_and_knows_its_flips():
    problem = made_up_problem()
    reference, target = candidates(problem, QUICK)
    labels_N = problem.data.val.labels_N
    for candidate, budget in ((reference, SMALL), (target, LARGE)):
        assert COST(candidate.architecture) <= budget == candidate.metrics["budget"]
        right_N = candidate.predictions["val"] == labels_N
        assert candidate.metrics["val_accuracy"] == pytest.approx(right_N.double().mean())
    assert "search_nfr" not in reference.metrics
    before, after = (candidate.predictions["val"] for candidate in (reference, target))
    assert target.metrics["search_nfr"] == negative_flip_rate(before, after, labels_N)
    gained = target.metrics["search_positive_flip_rate"] - target.metrics["search_nfr"]
    rise = target.metrics["val_accuracy"] - reference.metrics["val_accuracy"]
    assert gained == pytest.approx(rise, abs=1e-12)
    assert contains(MOBILENET, target.architecture, reference.architecture)


def test_the_reference_is_the_same_whatever_is_searched_against_it():
    points = [{}, {"reward": "r0"}, {"lambda_ratio": 5.0}, {"cas": False}, {"optimizer": "random"}]
    found = [
        candidates(made_up_problem(), dataclasses.replace(QUICK, **point))[0] for point in points
    ]
    assert len({digest(MOBILENET, reference.architecture) for reference in found}) == 1
    other = candidates(made_up_problem(seed=1), QUICK)[0]
    assert other.architecture != found[0].architecture


def mean_nfr(seeds=range(3), **settings):
    config = dataclasses.replace(QUICK, cas=False, **settings)
    found = [candidates(made_up_problem(seed), config)[1].metrics for seed in seeds]
    return statistics.mean(metrics["search_nfr"] for metrics in found)


def test_the_more_flips_weigh_the_fewer_there_are():
    by_reward = [mean_nfr(reward=kind) for kind in ("r1", "r2", "r0")]
    assert by_reward == sorted(by_reward)
    assert by_reward[0] < by_reward[2]
    assert mean_nfr(lambda_ratio=20.0) < mean_nfr(lambda_ratio=0.05)


def test_a_family_is_a_chain_each_searched_against_the_one_before():
    budgets = tuple(LEAST + share * (MOST - LEAST) for share in (0.2, 0.4, 0.6, 0.8))
    config = dataclasses.replace(QUICK, budgets=budgets, population=8, generations=3)
    problem = made_up_problem()
    found = candidates(problem, config)
    labels_N = problem.data.val.labels_N
    assert [candidate.metrics["budget"] for candidate in found] == list(budgets)
    for small, large in itertools.pairwise(found):
        assert contains(MOBILENET, large.architecture, small.architecture)
        flips = negative_flip_rate(small.predictions["val"], large.predictions["val"], labels_N)
        assert large.metrics["search_nfr"] == flips


def test_a_given_reference_is_not_searched():
    given = MOBILENET.presets["min"]
    problem = made_up_problem()
    config = dataclasses.replace(QUICK, reference=given, budgets=(LARGE,), cas=False)
    steps = list(search(problem, config, None))
    assert len(steps) == config.generations
    reference, target = steps[-1].candidates
    assert reference.architecture == given
    assert "budget" not in reference.metrics
    assert target.metrics["budget"] == LARGE


def test_a_generation_is_one_call_for_predictions():
    problem = made_up_problem()
    list(search(problem, QUICK, None))
    searched = [count for count in problem.predict.calls if count == QUICK.population]
    assert len(searched) == 2 * QUICK.generations
    assert sum(problem.predict.calls) - sum(searched) == 3  # a reference, two candidates


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_search_resumed_at_any_generation_finds_the_same(optimizer):
    config = dataclasses.replace(QUICK, optimizer=optimizer, population=8, generations=3)
    steps, states = [], []
    for progress in search(made_up_problem(), config, None):
        buffer = io.BytesIO()
        torch.save(progress.state(), buffer)
        steps.append(progress)
        states.append(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    for done, state in enumerate(states, 1):
        resumed = list(search(made_up_problem(), config, state))
        rest = steps[done:] or steps[-1:]
        assert [progress.metrics for progress in resumed] == [p.metrics for p in rest]
        for one, two in zip(resumed[-1].candidates, steps[-1].candidates, strict=True):
            assert one.architecture == two.architecture


def best_rewards(optimizer, seeds):
    given = {"reference": MOBILENET.presets["min"], "budgets": (LARGE,)}
    config = dataclasses.replace(QUICK, **given, optimizer=optimizer, generations=10)
    return [candidates(made_up_problem(seed), config)[1].metrics["reward"] for seed in seeds]


def test_evolution_beats_random_search_at_as_many_evaluations():
    evolved, drawn = (best_rewards(name, range(5)) for name in ("evolution", "random"))
    assert all(one > two for one, two in zip(evolved, drawn, strict=True))


def test_nsga2_trades_off_better_than_random_search():
    evolved, drawn = (best_rewards(name, range(3)) for name in ("nsga2", "random"))
    assert statistics.mean(evolved) > statistics.mean(drawn)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_networks_stay_within_the_window(optimizer):
    problem = made_up_problem()
    limits = Limits(MOBILENET, COST, LARGE, window=0.2)
    config = dataclasses.replace(QUICK, optimizer=optimizer)
    proposals = OPTIMIZERS[optimizer](limits, config, seeded(0))
    for architecture in proposals.ask():
        assert 0.8 * LARGE < COST(architecture) <= LARGE
    assert problem.predict.calls == []


def test_narrow_limits_at_the_ends_of_the_space_are_met():
    few = dataclasses.replace(QUICK, population=3)
    for budget, window in ((1.001 * LEAST, None), (MOST, 0.02)):
        limits = Limits(MOBILENET, COST, budget, window=window)
        proposals = Evolution(limits, few, seeded(0))
        assert all(limits.hold(architecture) for architecture in proposals.ask())


def test_budgets_that_cannot_be_met_are_refused():
    with pytest.raises(ValueError, match=rf"is below what the smallest .*; allowed: {LEAST:.15g}"):
        Limits(MOBILENET, COST, LEAST - 1)
    reference = MOBILENET.presets["max"]
    with pytest.raises(ValueError, match=rf"what the reference costs; allowed: {MOST:.15g} or"):
        Limits(MOBILENET, COST, MOST - 1, reference=reference)
    limits = Limits(MOBILENET, COST, 2 * MOST, window=0.1)
    with pytest.raises(ValueError, match=r"no network was found that costs above .* up to"):
        Evolution(limits, QUICK, seeded(0)).ask()


def test_a_blocks_kernel_and_expand_ratio_mutate_together():
    mobile = [{choice.name for choice in gene} for gene in genes(MOBILENET)]
    assert {"ks.3", "e.3"} in mobile
    assert {"d.1"} in mobile
    resnet = [{choice.name for choice in gene} for gene in genes(RESNET)]
    assert all(len(gene) == 1 for gene in resnet)


def test_both_spaces_are_searched():
    problem = made_up_problem(space=RESNET)
    least, most = (problem.cost(RESNET.presets[name]) for name in ("min", "max"))
    budgets = (least + 0.3 * (most - least), least + 0.7 * (most - least))
    config = dataclasses.replace(QUICK, budgets=budgets)
    assert isinstance(problem.predict, MadeUpPredict)
    reference, target = candidates(problem, config)
    assert contains(RESNET, target.architecture, reference.architecture)


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"budgets": (3.0, 2.0)}, r"budgets: \(3.0, 2.0\) is not allowed; allowed: rising"),
        ({"budgets": (3.0,)}, "allowed: 2 or more, the first without a reference"),
        ({"budgets": (), "reference": {}}, "allowed: 1 or more"),
        ({"lambda_ratio": -1.0}, "lambda_ratio: -1.0 is not allowed; allowed: 0 or above"),
        ({"window": 0.0}, "window: 0.0 is not allowed; allowed: above 0, up to 1"),
        ({"population": 1}, "population: 1 is not allowed; allowed: 2 or above"),
        ({"generations": 0}, "generations: 0 is not allowed"),
        ({"parent_share": 0.0}, "parent_share: 0.0 is not allowed"),
        ({"mutation_rate": 1.1}, "mutation_rate: 1.1 is not allowed; allowed: 0 to 1"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(settings, refusal):
    with pytest.raises(ValueError, match=refusal):
        Config(**settings)


def test_a_search_without_an_evaluator_is_refused():
    with pytest.raises(ValueError, match="predict: reg_nas needs an evaluator"):
        next(search(elastic_problem(), QUICK, None))
