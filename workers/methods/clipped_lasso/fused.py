"""Fused training (Algorithm 1): every subnet goes forward and backward, then one step is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch.nn import functional

from cost_models.macs import macs
from search_spaces.base import Architecture, digest
from workers.calibration import recalibrate
from workers.evaluation import evaluate, lifted
from workers.methods.clipped_lasso.any_width import (
    AnyWidthNetwork,
    even_ratios,
    sandwich_losses,
)
from workers.methods.clipped_lasso.checks import resnet_of
from workers.methods.clipped_lasso.config import Config
from workers.methods.clipped_lasso.dynamic import DynamicNetwork
from workers.methods.clipped_lasso.training import Losses, Training
from workers.protocol import Candidate, Problem, Progress, State, copied, seeded

Network = DynamicNetwork | AnyWidthNetwork


def fuse(
    problem: Problem, config: Config, architectures: Sequence[Architecture], state: State | None
) -> Iterator[Progress]:
    """Train subnets and the full network together; the last progress carries them, narrowest first.

    Raises:
        ValueError: the space is not `slimmable_resnet`.
        FloatingPointError: the loss is not finite any more.
    """
    network, losses = _fresh(problem, config, architectures)
    run = Training(network, problem, config, config.fused_epochs, state)
    for is_last in run.run(losses):
        found: tuple[Candidate, ...] = ()
        if is_last:
            count = len(network.architectures)
            found = tuple(_candidate(problem, config, network, i) for i in range(count))
        yield Progress(run.epoch, run.epochs, run.metrics, run.state, found)


def fused_losses(
    network: DynamicNetwork, x: torch.Tensor, labels: torch.Tensor, _: object = None
) -> Iterator[torch.Tensor]:
    """Yield the cross entropy of one subnet after another (Algorithm 1, line 3)."""
    for subnet in network.subnets:
        yield functional.cross_entropy(lifted(subnet(x)), labels)


def _fresh(
    problem: Problem, config: Config, architectures: Sequence[Architecture]
) -> tuple[Network, Losses]:
    """Return a network with weights that are drawn from the seed, and the losses of a step."""
    space = resnet_of(problem.space)
    distinct = {digest(space, a): a for a in (*architectures, space.presets["full"])}
    ordered = sorted(distinct.values(), key=lambda a: macs(space.layers(a)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "fused weights").getrandbits(63))
        if config.widths == "own":
            dynamic = DynamicNetwork(space, ordered)
            return dynamic, partial(fused_losses, dynamic)
        network = AnyWidthNetwork(space, ordered[0], even_ratios(config.num_widths))
        return network, partial(sandwich_losses, network)


def _candidate(problem: Problem, config: Config, network: Network, index: int) -> Candidate:
    """Return a subnet as a network by itself."""
    data, device = problem.data, problem.device
    alone = problem.space.build(network.architectures[index])
    alone.load_state_dict(network.standalone(index))
    alone = alone.to(device)
    metrics: dict[str, float] = {"subnet": index}
    if isinstance(network, AnyWidthNetwork):
        recalibrate(alone, data.train.to(device), data, config.batch_size)
        metrics["ratio"] = network.ratios[index]
    val = evaluate(alone, data.val.to(device), data)
    return Candidate(
        network.architectures[index],
        metrics | val.metrics("val"),
        {"val": val.predictions_N},
        copied(alone.state_dict()),
    )
