"""PruNet's stages: warm-up of the weights, the search that shrinks the supernet, the choice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from workers.calibration import recalibrate
from workers.evaluation import evaluate
from workers.methods.prunet.config import Config
from workers.methods.prunet.supernet import first_structure
from workers.methods.prunet.supernet_training import SupernetTraining, searchable
from workers.protocol import Candidate, Problem, Progress, State


def pretrain(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Train the supernet's weights alone, for `config.warmup_epochs` epochs.

    Architecture weights keep their start, equal within a layer; the Gumbel noise is on.

    Raises:
        ValueError: the space is not `gpunet`, or the latency table is absent or does not serve.
        FloatingPointError: the loss is not finite any more.
    """
    run = SupernetTraining(problem, config, state)
    if run.epoch == config.warmup_epochs:  # it was stopped before its last progress was kept
        yield Progress(run.epoch, config.warmup_epochs, run.metrics, run.state)
    while run.epoch < config.warmup_epochs:
        run.train_weights()
        yield Progress(run.epoch, config.warmup_epochs, run.metrics, run.state)


def search(problem: Problem, config: Config, state: State | None) -> Iterator[Progress]:
    """Search from what `pretrain` left; the last progress carries the one candidate.

    Raises:
        ValueError: as `pretrain`; or `problem.start` is absent or from another supernet.
        FloatingPointError: the loss is not finite any more.
    """
    run = SupernetTraining(problem, config, state or _start(problem, config))
    if run.search_epoch == config.epochs:  # it was stopped before its last progress was kept
        yield Progress(config.epochs, config.epochs, run.metrics, run.state, (_candidate(run),))
    while run.search_epoch < config.epochs:
        run.train_both()
        run.prune()
        found = (_candidate(run),) if run.search_epoch == config.epochs else ()
        yield Progress(run.search_epoch, config.epochs, run.metrics, run.state, found)


def select(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return, for every point but for (phi, lambda), the index of the lowest search loss.

    The paper's choice (section 4.1.1): the search's last loss costs nothing and ranks well.
    """
    names = {field.name for field in fields(Config)} - {"phi", "lambda_"} | {"seed"}
    best: dict[str, int] = {}
    for index, record in enumerate(records):
        settings = {name: value for name, value in record.items() if name in names}
        point = json.dumps(settings, sort_keys=True)  # values may be mappings or lists
        rival = best.setdefault(point, index)
        if record["search_loss"] < records[rival]["search_loss"]:
            best[point] = index
    return sorted(best.values())


def _start(problem: Problem, config: Config) -> State:
    if problem.start is None:
        raise ValueError("start: PruNet's search needs the state that its pretraining leaves")
    space = searchable(problem.space)
    if problem.start["structure"] != first_structure(space, config):
        raise ValueError(
            "start: it was pretrained with another space, prunode, num_widths or layer_skipping"
        )
    if problem.start["epoch"] != config.warmup_epochs:
        raise ValueError(
            f"warmup_epochs: {config.warmup_epochs}; but {problem.start['epoch']} were trained"
        )
    return problem.start


def _candidate(run: SupernetTraining) -> Candidate:
    """Return what the search found, with the supernet's weights.

    The search loss is Eq. 2's for the network alone, on the architecture's part of the data.
    """
    problem, data, table = run.problem, run.problem.data, run.problem.table
    assert table is not None
    architecture = run.supernet.architecture()
    network = run.supernet.inherited().to(problem.device)
    recalibrate(network, run.weight_part, data, run.config.batch_size)
    ce = evaluate(network, run.arch_part, data).loss
    val = evaluate(network, data.val.to(problem.device), data)
    latency_ms = table.network_ms(problem.space.blocks(architecture))
    metrics = {
        "search_loss": ce + run.config.alpha * math.log(1000 * latency_ms) ** run.config.beta,
        "search_ce": ce,
        "search_latency_ms": latency_ms,
        "num_irb": sum("hidden" in (option or {}) for option in architecture.values()),
        "val_loss": val.loss,
        "val_accuracy": val.accuracy,
    }
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return Candidate(architecture, metrics, {"val": val.predictions_N}, weights)
