"""The stages that find subnets: the full network's training, and generation from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.evaluation import Evaluation, evaluate, lifted
from workers.methods.clipped_lasso.checks import resnet_of
from workers.methods.clipped_lasso.config import Config
from workers.methods.clipped_lasso.counts import (
    Kept,
    Weights,
    channel_groups,
    cut,
    kept_filters,
    leading_filters,
    penalised,
    widths,
)
from workers.methods.clipped_lasso.penalty import clipped_lasso, filter_norms, group_lasso
from workers.methods.clipped_lasso.proximal import Shrinking
from workers.methods.clipped_lasso.training import Losses, Training
from workers.protocol import Candidate, Problem, Progress, State, copied, seeded

Convs = Mapping[str, nn.Conv2d]


def pretrain(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Train the full network without penalty, for `config.pretrain_epochs` epochs.

    Raises:
        ValueError: the space is not `slimmable_resnet`.
        FloatingPointError: the loss is not finite any more.
    """
    network = full_network(problem)
    run = Training(network, problem, config, config.pretrain_epochs, state)
    for _ in run.run(_losses(network, {}, config)):
        yield Progress(run.epoch, run.epochs, run.metrics, run.state)


def search(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Generate a subnet from what `pretrain` left; the last progress carries the one candidate.

    Raises:
        ValueError: as `pretrain`; or `problem.start` is absent or from another pretraining.
        FloatingPointError: the loss is not finite any more.
    """
    space, start = resnet_of(problem.space), _start(problem, config)
    if config.penalty == "none":
        kept = leading_filters(space.uniform(config.width_mult))
        candidate = _candidate(problem, start, start, kept, {})
        yield Progress(1, 1, candidate.metrics, dict, (candidate,))
        return
    network = full_network(problem)
    network.load_state_dict(dict(start))
    run = Training(network, problem, config, config.epochs, state)
    convs = penalised(space, network)
    shrinking = Shrinking(channel_groups(space, network), config)
    after = shrinking.step if config.update == "proximal" else None
    for is_last in run.run(_losses(network, convs, config), after):
        kept = kept_filters(space, convs, config.zero_below)
        metrics = run.metrics | _shape(convs, kept)
        found: tuple[Candidate, ...] = ()
        if is_last:
            found = (_candidate(problem, start, network.state_dict(), kept, metrics),)
        yield Progress(run.epoch, run.epochs, metrics, run.state, found)


def select(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the index of one record for every network, penalty and seed: all are of use."""
    first: dict[tuple[Any, ...], int] = {}
    for index, record in enumerate(records):
        first.setdefault((record["digest"], record.get("penalty"), record["seed"]), index)
    return sorted(first.values())


def full_network(problem: Problem) -> nn.Module:
    """Return the widest network of the space, its weights drawn from the seed.

    Raises:
        ValueError: the space is not `slimmable_resnet`.
    """
    space = resnet_of(problem.space)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "weights").getrandbits(63))
        return space.build(space.presets["full"])


def _start(problem: Problem, config: Config) -> Weights:
    if problem.start is None:
        raise ValueError("start: generation needs the state that pretraining leaves")
    if problem.start["epoch"] != config.pretrain_epochs:
        raise ValueError(
            f"pretrain_epochs: {config.pretrain_epochs}; but {problem.start['epoch']} were trained"
        )
    weights: Weights = problem.start["model"]
    return weights


def _losses(network: nn.Module, convs: Convs, config: Config) -> Losses:
    """Return the cross entropy and, where SGD follows the penalty's gradient, the penalty."""
    weights = [conv.weight for conv in convs.values()]

    def losses(x: torch.Tensor, labels: torch.Tensor, _: object) -> Iterator[torch.Tensor]:
        yield functional.cross_entropy(lifted(network(x)), labels)
        if weights and config.update == "gradient":
            clips = config.penalty == "clipped"
            penalty = clipped_lasso(weights, config.a) if clips else group_lasso(weights)
            yield config.lambda_ * penalty  # Eq. 3, Eq. 1

    return losses


def _shape(convs: Convs, kept: Kept) -> dict[str, float]:
    """Return the share of the filters that are kept, and how far their norms differ (V-B).

    The latter is standard deviation over mean, averaged over the layers that keep several.
    """
    norms = {name: filter_norms(conv.weight.detach()).cpu() for name, conv in convs.items()}
    share = sum(map(len, kept.values())) / sum(map(len, norms.values()))
    several = [norms[name][index] for name, index in kept.items() if len(index) > 1]
    ratios = [float(norms_O.std(correction=0) / norms_O.mean()) for norms_O in several]
    return {"kept_share": share, "norm_deviation": sum(ratios) / max(1, len(ratios))}


def _candidate(
    problem: Problem,
    start: Weights,
    weights: Weights,
    kept: Kept,
    metrics: Mapping[str, float],
) -> Candidate:
    """Return the network of the kept filters; its weights are those that it was generated with.

    `direct_val_accuracy` is that of the same filters of the full network as it was trained, without
    any retraining (Figure 1).
    """
    network = _network(problem, weights, kept)
    val = _evaluated(problem, network)
    direct = _evaluated(problem, _network(problem, start, kept))
    return Candidate(
        widths(kept),
        {**metrics, **val.metrics("val"), "direct_val_accuracy": direct.accuracy},
        {"val": val.predictions_N},
        copied(network.state_dict()),
    )


def _network(problem: Problem, weights: Weights, kept: Kept) -> nn.Module:
    space = resnet_of(problem.space)
    network = space.build(widths(kept))
    network.load_state_dict(cut(space, weights, kept))
    return network.to(problem.device)


def _evaluated(problem: Problem, network: nn.Module) -> Evaluation:
    return evaluate(network, problem.data.val.to(problem.device), problem.data)
