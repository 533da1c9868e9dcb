"""REDS's stages: the full network's training, then what becomes of it for one set of subnets."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from workers.evaluation import evaluate
from workers.methods.reds import load_subnet
from workers.methods.reds.config import Config
from workers.methods.reds.deliver import listed
from workers.methods.reds.formulation import build_instance
from workers.methods.reds.importance import taylor_scores, unit_scores
from workers.methods.reds.joint_training import JointTraining
from workers.methods.reds.knapsack import nested
from workers.methods.reds.permutation import best_first, permuted
from workers.methods.reds.units import Axes, Tensors, axes_of
from workers.protocol import Candidate, Problem, Progress, State, copied, seeded
from workers.training import finish

SWITCHES = 31  # timed; the median counts


def pretrain(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Train the full network by `config.pretraining`; every search starts from it.

    Raises:
        FloatingPointError: the loss is not finite any more.
    """
    full = problem.space.presets["full"]
    for progress in finish(problem, full, config.pretraining, state):
        yield replace(progress, candidates=())


def search(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Find the subnets, train them together; the last progress carries them, smallest first.

    Raises:
        ValueError: a limit is infeasible, or `problem.start` is absent or from another
            pretraining.
        FloatingPointError: the loss is not finite any more.
    """
    run = JointTraining(problem, config, state or prepared(problem, config))
    epochs = config.epochs + config.norm_epochs
    if run.epoch == epochs:  # it was stopped before its last progress was kept
        yield Progress(epochs, epochs, run.metrics, run.state, _candidates(run))
    while run.epoch < epochs:
        run.train_epoch()
        found = _candidates(run) if run.epoch == epochs else ()
        yield Progress(run.epoch, epochs, run.metrics, run.state, found)


def prepared(problem: Problem, config: Config) -> State:
    """Return what joint training starts from: units by importance, and the subnets' widths.

    Raises:
        ValueError: as `search`.
    """
    axes = axes_of(problem.space)
    network = _started(problem, config)
    scores = taylor_scores(
        network,
        problem,
        config.pretraining.augment,
        num_batches=config.importance_batches,
        batch_size=config.batch_size,
    )
    orders = best_first(unit_scores(scores, axes))
    subnets = _solved(problem, config, permuted(scores, axes, orders), axes)
    if config.from_scratch:
        network = _fresh(problem)
    model = permuted(network.state_dict(), axes, orders)
    return {"epoch": 0, "metrics": {}, "subnets": subnets, "model": model, "optimizer": None}


def _solved(problem: Problem, config: Config, scores: Tensors, axes: Axes) -> list[dict[str, Any]]:
    """Return the widths of all subnets, the full network last, with figures of their solutions."""
    space = problem.space
    instance = build_instance(space, config, scores, axes)
    # Rounded first: 0.29 of 100 is 28.999999999999996.
    capacities = [math.floor(round(share * instance.full_cost, 3)) for share in config.shares[:-1]]
    solutions = nested(instance, capacities, config.solver, most_bytes=config.peak_memory_bytes)
    names = [choice.name for choice in space.choices]
    subnets: list[dict[str, Any]] = [
        {
            "widths": dict(zip(names, solution.widths, strict=True)),
            "metrics": {"fraction": share, "gap": solution.gap, "solve_s": solution.solve_s},
        }
        for share, solution in zip(config.shares, solutions, strict=False)
    ]
    full = {"fraction": 1.0, "gap": 0.0, "solve_s": 0.0}
    return [*subnets, {"widths": dict(space.presets["full"]), "metrics": full}]


def _candidates(run: JointTraining) -> tuple[Candidate, ...]:
    return tuple(_candidate(run, index) for index in range(len(run.subnets)))


def _candidate(run: JointTraining, index: int) -> Candidate:
    data, subnet = run.problem.data, run.subnets[index]
    network = run.standalone(index)
    val = evaluate(network, data.val.to(run.problem.device), data)
    metrics = {**subnet["metrics"], **val.metrics("val"), "switch_us": _switch_us(run, index)}
    weights = copied(network.state_dict())
    return Candidate(dict(subnet["widths"]), metrics, {"val": val.predictions_N}, weights)


def _switch_us(run: JointTraining, index: int) -> float:
    """Return how long the delivered loader's slicing of loaded tensors takes (microseconds)."""
    tensors = run.network.state_dict()
    about = {"subnets": run.subnets, "axes": listed(run.axes)}
    times_us = []
    for _ in range(SWITCHES):
        start = time.perf_counter()
        load_subnet.subnet(tensors, about, index)
        times_us.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times_us)


def _started(problem: Problem, config: Config) -> nn.Module:
    """Return the full network with the weights of pretraining."""
    if problem.start is None:
        raise ValueError("start: REDS's search needs the state that its pretraining leaves")
    network, weights = _fresh(problem), problem.start["model"]
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("start: it was pretrained with another space")
    if problem.start["epoch"] != config.pretraining.epochs:
        raise ValueError(
            f"pretraining.epochs: {config.pretraining.epochs};"
            f" but {problem.start['epoch']} were trained"
        )
    network.load_state_dict(weights)
    return network


def _fresh(problem: Problem) -> nn.Module:
    """Return the full network with new weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "weights").getrandbits(63))
        return problem.space.build(problem.space.presets["full"])
