"""The stages of Budgeted Super Networks: warm-up of the whole fabric, the search, its candidate."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import torch
from torch.nn import functional

from search_spaces.base import Architecture
from workers.calibration import recalibrate
from workers.costs import expected
from workers.evaluation import evaluate
from workers.methods.budgeted.config import Config
from workers.methods.budgeted.fabric_training import FabricTraining
from workers.protocol import Candidate, Problem, Progress, State, copied, seeded
from workers.ranks import agreed, whole

DRAWS = 30_000  # of random edges, of which many leave the same network


def pretrain(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Train the fabric's weights with every edge on, for `config.warmup_epochs` epochs.

    Raises:
        ValueError: the space is not a fabric.
        FloatingPointError: the loss is not finite any more.
    """
    run = FabricTraining(problem, config, state)
    if run.epoch == config.warmup_epochs:  # it was stopped before its last progress was kept
        yield Progress(run.epoch, config.warmup_epochs, run.metrics, run.state)
    while run.epoch < config.warmup_epochs:
        run.train_epoch()
        yield Progress(run.epoch, config.warmup_epochs, run.metrics, run.state)


def search(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Search from what `pretrain` left; the last progress carries the one candidate.

    Raises:
        ValueError: as `pretrain`; `problem.start` is absent; or no random network is within the
            budget.
        FloatingPointError: the loss is not finite any more.
    """
    fixed = None
    if state is None and config.policy == "random":
        fixed = within_budget(problem, config)
    run = FabricTraining(problem, config, state or _start(problem, config), fixed)
    if run.search_epoch == config.epochs:  # it was stopped before its last progress was kept
        yield Progress(config.epochs, config.epochs, run.metrics, run.state, (_candidate(run),))
    while run.search_epoch < config.epochs:
        run.train_epoch()
        found = (_candidate(run),) if run.search_epoch == config.epochs else ()
        yield Progress(run.search_epoch, config.epochs, run.metrics, run.state, found)


def _start(problem: Problem, config: Config) -> State:
    if problem.start is None:
        raise ValueError("start: the search needs the state that warm-up leaves")
    if problem.start["epoch"] != config.warmup_epochs:
        raise ValueError(
            f"warmup_epochs: {config.warmup_epochs}; but {problem.start['epoch']} were trained"
        )
    return problem.start


def within_budget(problem: Problem, config: Config) -> Architecture:
    """Return a random network within the budget, each of those drawn being equally likely.

    Edges that lie on no path leave simple networks more often than others; here each counts once.
    Points that differ in lambda, which counts for nothing here, draw different networks.

    Args:
        problem: its space, cost and seed count.
        config: its budget, None for any cost, and the share of it that a network costs at least.

    Raises:
        ValueError: none is within the budget.
    """
    rng = seeded(problem.seed, "random network", f"{config.budget} {config.lambda_}")
    most = math.inf if config.budget is None else config.budget
    least = 0.0 if config.budget is None else config.random_share * config.budget
    drawn = [_drawn(problem, rng) for _ in range(DRAWS)]
    distinct = list({tuple(architecture): architecture for architecture in drawn}.values())
    rng.shuffle(distinct)
    for architecture in distinct:
        # Ranks that measure a latency find different ones, and must take the same network.
        if architecture and agreed(least <= expected(problem.cost, architecture) <= most):
            return architecture
    share = f"{least:.15g} to " if least else "up to "
    raise ValueError(f"budget: none of {DRAWS} random networks costs {share}{most:.15g}")


def _drawn(problem: Problem, rng: random.Random) -> Architecture:
    """Return what random edges leave; all are on with one probability, itself uniformly drawn.

    With one half, few networks would be small.
    """
    density = rng.random()
    edges = {choice.name: True for choice in problem.space.choices if rng.random() < density}
    return problem.space.canonical(edges)


def _excess(problem: Problem, config: Config, architecture: Architecture) -> float:
    """Return what a network is expected to cost above the budget."""
    if config.budget is None:
        return 0.0
    return max(0.0, expected(problem.cost, architecture) - config.budget)


def _candidate(run: FabricTraining) -> Candidate:
    """Return the network of the edges that are likely, with the super network's weights."""
    problem, data, config = run.problem, run.problem.data, run.config
    architecture, is_fallback = _likely(run)
    network = problem.space.build(architecture)
    kept = network.state_dict().keys()
    weights = run.supernet.network.state_dict()
    network.load_state_dict({name: whole(weights[name]) for name in kept})
    network = network.to(problem.device)
    recalibrate(network, run.train_split, data, config.batch_size)
    val = evaluate(network, data.val.to(problem.device), data)
    metrics = {
        "search_loss": val.loss + config.lambda_ * _excess(problem, config, architecture),
        **val.metrics("val"),
        "settled": 1.0 if run.fixed_E is not None else run.settled(),
        "most_probable_path": float(is_fallback),
    }
    found = copied(network.state_dict())
    return Candidate(architecture, metrics, {"val": val.predictions_N}, found)


def _likely(run: FabricTraining) -> tuple[Architecture, bool]:
    """Return the edges that are more likely on than off, pruned; else the most probable path."""
    on_E = run.likely_E() if run.fixed_E is None else run.fixed_E
    architecture = run.problem.space.canonical(run.wiring.architecture(on_E))
    if architecture:
        return architecture, False
    logits_E: torch.Tensor = run.supernet.logits_E.detach().cpu()
    return run.wiring.best_path((-functional.logsigmoid(logits_E)).tolist()), True
