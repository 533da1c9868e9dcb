"""Warm-up, search and candidate: resumed, on several ranks, under costs of every kind."""

import dataclasses
import importlib
import io
import itertools
import math
from collections import Counter

import pytest
import torch

from cost_models.macs import macs
from search_spaces.conv_fabric import ConvFabric
from tests.workers.methods.tiny_fabric import SPACE, fabric_problem
from workers.augment import Augmentation
from workers.costs import Machines, cost_function
from workers.datasets import IGNORED
from workers.draws import cut
from workers.evaluation import evaluate
from workers.methods.budgeted import Config
from workers.methods.budgeted.fabric_training import FabricTraining
from workers.methods.budgeted.search import pretrain, search, within_budget

module = importlib.import_module("workers.methods.budgeted.search")  # `search` is its function, too
CONFIG = Config(
    budget=30_000.0,
    lambda_=1e-4,
    warmup_epochs=2,
    epochs=4,
    batch_size=32,
    lr=0.05,
    logit_optimizer="adam",
    logit_lr=0.1,
    augment=Augmentation(pad=1),
)


@pytest.fixture(scope="module")
def start():
    return stored(list(pretrain(fabric_problem(), CONFIG, None))[-1].state())


def stored(state):
    """What comes back from a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def equal(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def found(problem, config=CONFIG):
    *_, last = search(problem, config, None)
    return last.candidates[0]


def test_warm_up_trains_the_weights_and_no_logit(start):
    fresh = FabricTraining(fabric_problem(), CONFIG, None).state()
    assert equal(start["logits_E"], fresh["logits_E"])
    assert start["logits_E"].tolist() == [3.0] * 10
    for name in ("stem.conv.weight", "block1_0_from_stem.conv1.weight", "head.linear.weight"):
        assert not torch.equal(start["network"][name], fresh["network"][name])
    assert start["metrics"].keys() == {"train_loss"}


def test_warm_up_resumes_to_the_bit(start):
    first = next(pretrain(fabric_problem(), CONFIG, None))
    (second,) = pretrain(fabric_problem(), CONFIG, stored(first.state()))
    assert (second.step, second.steps) == (2, 2)
    assert equal(second.state(), start)
    (again,) = pretrain(fabric_problem(), CONFIG, start)  # its last progress was lost
    assert (again.step, again.metrics) == (2, start["metrics"])


@pytest.mark.parametrize("policy", ["reinforce", "random"])
@pytest.mark.parametrize("cost", ["macs", "network_latency_ms"])
def test_a_search_resumes_to_the_bit_from_any_epoch(start, policy, cost):
    config = dataclasses.replace(CONFIG, policy=policy, budget={"macs": 30_000.0}.get(cost, 0.2))
    problem = fabric_problem(seed=5, start=start, cost=cost)
    states = []
    for last in search(problem, config, None):
        states.append(stored(last.state()))
    for done in (2, 4):
        *_, resumed = search(problem, config, states[done - 1])
        assert equal(resumed.state(), states[-1])
        one, two = resumed.candidates[0], last.candidates[0]
        assert one.architecture == two.architecture
        assert one.metrics == two.metrics
        assert equal(dict(one.weights), dict(two.weights))


def test_searches_share_a_start_and_leave_it_as_it_is(start):
    before = stored(start)
    one, two = (found(fabric_problem(start=start)) for _ in range(2))
    assert equal(start, before)
    assert one.metrics == two.metrics
    assert equal(dict(one.weights), dict(two.weights))


def test_edges_start_as_the_point_says_and_not_as_warm_up_was_told(start):
    settings = {"logit_start": -1.0, "logit_optimizer": "sgd", "logit_lr": 7.0}
    run = FabricTraining(fabric_problem(), dataclasses.replace(CONFIG, **settings), start)
    assert run.supernet.logits_E.tolist() == [-1.0] * 10
    assert run.logit_optimizer.param_groups[0]["lr"] == 7.0


def test_the_penalty_grows_over_the_ramp(start):
    settings = {"lambda_ramp": 0.5, "logit_start": 30.0}  # edges stay on
    config = dataclasses.replace(CONFIG, **settings)
    problem = fabric_problem(start=start)
    excess = problem.cost(problem.space.fabric.full) - config.budget
    grown = [
        (progress.metrics["search_loss"] - progress.metrics["train_loss"]) / excess
        for progress in search(problem, config, None)
    ]
    assert grown == pytest.approx([1e-6, 1e-5, 1e-4, 1e-4], rel=1e-3)


def test_the_candidate_is_a_network_that_works(start):
    problem = fabric_problem(start=start)
    candidate = found(problem)
    network = problem.space.build(candidate.architecture)
    network.load_state_dict(dict(candidate.weights))
    evaluation = evaluate(network, problem.data.val, problem.data)
    assert evaluation.accuracy == candidate.metrics["val_accuracy"] > 0.5  # chance: 0.25
    assert torch.equal(evaluation.predictions_N, candidate.predictions["val"])
    assert candidate.metrics["most_probable_path"] == 0.0
    excess = max(0.0, problem.cost(candidate.architecture) - CONFIG.budget)
    expected = evaluation.loss + CONFIG.lambda_ * excess
    assert candidate.metrics["search_loss"] == pytest.approx(expected)


def test_edges_that_cost_too_much_are_left_out(start):
    free = found(fabric_problem(start=start), dataclasses.replace(CONFIG, lambda_=0.0))
    strict = dataclasses.replace(CONFIG, budget=10_000.0, lambda_=1e-3, logit_lr=0.5)
    problem = fabric_problem(start=start)
    assert problem.cost(found(problem, strict).architecture) <= strict.budget
    assert problem.cost(free.architecture) > 4 * strict.budget


def test_where_no_edge_is_likely_the_most_probable_path_is_taken(start):
    run = FabricTraining(fabric_problem(), CONFIG, start)
    run.epoch = CONFIG.warmup_epochs + CONFIG.epochs
    run.supernet.logits_E.data.fill_(-6.0)
    path = ["block0_0", "skip1_0", "block2_0"]
    for name in path:
        run.supernet.logits_E.data[run.wiring.names.index(name)] = -1.0
    (last,) = search(fabric_problem(start=start), CONFIG, stored(run.state()))
    (candidate,) = last.candidates
    assert list(candidate.architecture) == path
    assert candidate.metrics["most_probable_path"] == 1.0


def test_a_cost_may_depend_on_the_sample(start):
    seen = []

    def cost(architecture, input_CHW=None):
        if input_CHW is None:
            return 1.0
        seen.append(input_CHW)
        return len(architecture) * float(input_CHW.mean() > 0)

    config = dataclasses.replace(CONFIG, budget=0.5, lambda_=1.0, epochs=1)
    run = FabricTraining(fabric_problem(cost=cost), config, start)
    run.train_epoch()
    assert len(seen) == 160
    assert {x.shape for x in seen} == {(1, 8, 8)}
    shares = [float(x.mean() > 0) for x in seen]
    assert 0 < sum(shares) < 160
    assert 0 < run.metrics["mean_cost"] <= 10 * sum(shares) / 160


def test_the_loss_of_a_map_is_the_mean_over_its_labelled_pixels():
    config = {"columns": 2, "scales": 2, "filters": 2, "in_shape": (1, 8, 8), "num_classes": 3}
    space = ConvFabric(ConvFabric.Config(head="segmentation", **config))
    run = FabricTraining(fabric_problem(space=space), CONFIG, None)
    run.supernet.eval()
    draws = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(3, 1, 8, 8, generator=draws)
    labels_BHW = torch.randint(3, (3, 8, 8), generator=draws)
    labels_BHW[1, :5] = IGNORED
    labels_BHW[2] = IGNORED
    loss_B = run._cross_entropy(x_BCHW, labels_BHW, None)
    log_p_BKHW = run.supernet(x_BCHW).log_softmax(1)
    for image in (0, 1):
        pixels = [
            -log_p_BKHW[image, label, row, column].item()
            for row, line in enumerate(labels_BHW[image].tolist())
            for column, label in enumerate(line)
            if label != IGNORED
        ]
        assert len(pixels) == (64, 24)[image]
        assert loss_B[image].item() == pytest.approx(sum(pixels) / len(pixels), rel=1e-5)
    assert loss_B[2].item() == 0.0
    loss_B.mean().backward()
    assert all(weight.grad.isfinite().all() for weight in run.supernet.network.parameters())


def test_edges_are_settled_once_they_are_decided_and_moved(start):
    run = FabricTraining(fabric_problem(), CONFIG, start)

    def settled(**logits):
        values = [logits.get(name, 4.0) for name in run.wiring.names]
        run.supernet.logits_E.data = torch.tensor(values)
        return run.settled()

    assert settled() == 1.0
    assert settled(block1_0=3.2) == 0.9  # likely enough, but where it started
    assert settled(block1_0=2.5, skip0_0=-2.5, skip2_0=0.0) == 0.7
    assert settled(block1_0=2.5, skip0_0=-3.5, skip2_0=0.0) == 0.8  # off for good: not in between
    closed = {"block0_0": -5.0, "skip0_0": -5.0}  # so nothing reaches what lies behind them
    assert settled(**closed, block1_0=0.0, skip1_0=0.0) == 1.0
    assert settled(**closed, skip1_0_from_stem=0.0) == pytest.approx(5 / 6)


def test_points_of_other_seeds_share_one_warm_up(start):
    run = FabricTraining(fabric_problem(seed=5), CONFIG, start)
    assert equal(run.state()["network"], start["network"])


def test_random_costs_are_new_draws_that_repeat_with_the_run(start):
    runs = []
    for _ in range(2):
        run = FabricTraining(fabric_problem(cost="network_latency_ms"), CONFIG, start)
        kept_EB = torch.ones(10, 6, dtype=torch.bool)
        x_BCHW = torch.zeros(6, 1, 8, 8)
        runs.append([run._costs(kept_EB, x_BCHW, cut(len(x_BCHW), 0, 1), step) for step in (0, 1)])
        torch.rand(1)  # the process's own generator does not matter
    assert equal(*runs)
    assert len(torch.cat(runs[0]).unique()) == 12


def test_gradients_of_unused_edges_are_zero_and_not_missing(start, monkeypatch):
    run = FabricTraining(fabric_problem(), CONFIG, start)
    unused = run.wiring.names.index("block1_0")
    run.supernet.logits_E.data[unused] = -100.0
    seen = {}

    def spy(parameters):
        parameters = list(parameters)
        seen.update({id(parameter): parameter.grad.clone() for parameter in parameters})

    monkeypatch.setattr("workers.methods.budgeted.fabric_training.average_gradients", spy)
    images, labels = torch.randn(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)
    run._search_step(images, labels, cut(8, 0, 1), 0)
    assert len(seen) == len(list(run.supernet.parameters()))
    edge = [seen[id(weight)] for weight in run.supernet.network.block1_0.parameters()]
    assert edge
    assert not any(gradient.any() for gradient in edge)
    assert seen[id(run.supernet.network.stem.conv.weight)].any()
    assert seen[id(run.supernet.logits_E)].any()


@pytest.mark.parametrize("budget", [15_000.0, 40_000.0])
def test_the_random_policy_keeps_the_budget(start, budget):
    networks = []
    for seed in range(3):
        config = dataclasses.replace(CONFIG, policy="random", budget=budget, epochs=1)
        problem = fabric_problem(seed, start)
        candidate = found(problem, config)
        assert problem.cost(candidate.architecture) <= budget
        networks.append(tuple(candidate.architecture))
    other = found(problem, dataclasses.replace(config, lambda_=0.5))
    assert len({*networks, tuple(other.architecture)}) > 2


def test_all_networks_within_the_budget_are_equally_likely(monkeypatch):
    """Those of few edges come up most often when edges are drawn, since edges on no path count."""
    monkeypatch.setattr(module, "DRAWS", 2000)
    every = itertools.product([False, True], repeat=len(SPACE.choices))
    names = [choice.name for choice in SPACE.choices]
    networks = {tuple(SPACE.canonical(dict(zip(names, on, strict=True)))) for on in every}
    costs = {network: macs(SPACE.layers(dict.fromkeys(network, True))) for network in networks}
    config = dataclasses.replace(CONFIG, budget=sorted(costs.values())[6])
    allowed = {network for network in networks if network and costs[network] <= config.budget}
    problems = map(fabric_problem, range(20 * len(allowed)))
    draws = Counter(tuple(within_budget(problem, config)) for problem in problems)
    assert draws.keys() == allowed
    assert min(draws.values()) > 20 / 2
    assert max(draws.values()) < 20 * 2


def test_the_random_policy_spends_the_share_of_the_budget_that_it_must(start):
    config = dataclasses.replace(CONFIG, policy="random", random_share=0.95, epochs=1)
    for seed in range(3):
        problem = fabric_problem(seed, start)
        candidate = found(problem, config)
        assert 0.95 * config.budget <= problem.cost(candidate.architecture) <= config.budget


@pytest.mark.parametrize(("share", "asked"), [(0.0, "up to 1"), (0.5, "0.5 to 1")])
def test_the_random_policy_says_when_nothing_is_within_the_budget(start, monkeypatch, share, asked):
    monkeypatch.setattr(module, "DRAWS", 20)
    config = dataclasses.replace(CONFIG, policy="random", budget=1.0, random_share=share)
    with pytest.raises(ValueError, match=f"budget: none of 20 random networks costs {asked}$"):
        next(search(fabric_problem(start=start), config, None))


def test_a_search_refuses_what_it_cannot_start_from(start):
    with pytest.raises(ValueError, match="start: the search needs the state that warm-up leaves"):
        next(search(fabric_problem(), CONFIG, None))
    longer = dataclasses.replace(CONFIG, warmup_epochs=3)
    with pytest.raises(ValueError, match="warmup_epochs: 3; but 2 were trained"):
        next(search(fabric_problem(start=start), longer, None))


def test_a_loss_that_is_no_number_stops_the_search_with_its_epoch(start):
    count = cost_function("macs", SPACE, None, Machines())
    calls = []

    def cost(architecture, input_CHW=None):
        calls.append(architecture)
        return math.nan if len(calls) > 160 else count(architecture)

    problem = fabric_problem(start=start, cost=cost)
    steps = search(problem, CONFIG, None)
    assert next(steps).step == 1
    with pytest.raises(FloatingPointError, match="epoch 2: search_loss is nan; a lower lr may"):
        next(steps)
