"""Work for the tests of sharding: what every rank of a group of processes computes."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tests.workers.methods.tiny import tiny_problem
from tests.workers.methods.tiny_elastic import elastic_problem
from tests.workers.methods.tiny_fabric import fabric_problem
from tests.workers.methods.tiny_resnet import SPACE as RESNET
from tests.workers.methods.tiny_resnet import resnet_problem
from tests.workers.methods.tiny_subnets import subnet_config, subnet_problem
from workers import training
from workers.augment import Augmentation
from workers.methods import budgeted, clipped_lasso, prunet, reds, reg_nas
from workers.methods.budgeted import fabric_training
from workers.methods.clipped_lasso import training as lasso_training
from workers.methods.prunet import supernet_training as prunet_training
from workers.methods.reds import joint_training
from workers.methods.reg_nas import supernet_training as elastic_training
from workers.methods.reg_nas.supernet_settings import Lesson, SupernetTraining
from workers.protocol import Problem
from workers.ranks import average_gradients, whole
from workers.training import Recipe

BATCH = 8  # not divisible by 3
AUGMENT = Augmentation(pad=1, flip=True, erase=0.5)
PRUNET = prunet.Config(
    alpha=0.1,
    warmup_epochs=1,
    epochs=2,  # between them, blocks are removed
    batch_size=BATCH,
    threshold_initial=0.2,
    augment=AUGMENT,
)
BUDGETED = budgeted.Config(
    budget=30_000.0,
    lambda_=1e-4,
    warmup_epochs=1,
    epochs=1,
    batch_size=BATCH,
    logit_start=0.5,  # likely enough to be off that samples differ
    augment=AUGMENT,
)
LASSO = clipped_lasso.Config(
    pretrain_epochs=1, epochs=1, fused_epochs=1, batch_size=BATCH, augment=AUGMENT, num_widths=2
)
ELASTIC = SupernetTraining(
    full=Lesson(1, 0.01),
    kernel=(Lesson(1, 0.01),),
    depth=(Lesson(1, 0.01),),
    expand=(Lesson(1, 0.01),),
    width=(Lesson(1, 0.01),),
    batch_size=BATCH,
    augment=AUGMENT,
)
REDS = subnet_config(
    batch_size=BATCH,
    epochs=1,
    importance_batches=1,
    pretraining=Recipe(epochs=1, batch_size=BATCH, augment=AUGMENT),
)


def few(problem: Problem, start: Any = None, sharding: str = "ddp") -> Problem:
    """Return a problem with two batches of training data, whose epoch is two steps."""
    some = torch.arange(2 * BATCH)
    data = dataclasses.replace(problem.data, train=problem.data.train.subset(some))
    return dataclasses.replace(problem, data=data, start=start, sharding=sharding)


def stages_of(method: Any, problem: Problem, config: Any) -> Iterator[Any]:
    """Run pretraining, then the search from what it left."""
    *_, first = method.METHOD.pretrain(problem, config, None)
    yield first
    yield from method.METHOD.search(dataclasses.replace(problem, start=first.state()), config, None)


def fused(problem: Problem, widths: str) -> Iterator[Any]:
    """Train three subnets together, or any width."""
    config = dataclasses.replace(LASSO, widths=widths)
    assert clipped_lasso.METHOD.fuse is not None
    return clipped_lasso.METHOD.fuse(problem, config, [RESNET.uniform(0.5)], None)


def elastic(problem: Problem, strategy: str) -> Iterator[Any]:
    """Train an elastic supernet."""
    settings = dataclasses.replace(ELASTIC, strategy=strategy, sandwich=ELASTIC.full)
    assert reg_nas.METHOD.pretrain is not None
    return reg_nas.METHOD.pretrain(problem, SimpleNamespace(supernet=settings), None)


RUNS: dict[str, tuple[Any, Callable[[], Problem], Callable[[Problem], Iterator[Any]]]] = {
    "prunet": (prunet_training, tiny_problem, lambda p: stages_of(prunet, p, PRUNET)),
    "budgeted": (fabric_training, fabric_problem, lambda p: stages_of(budgeted, p, BUDGETED)),
    "reg_nas": (elastic_training, elastic_problem, lambda p: elastic(p, "progressive_shrinking")),
    "reg_nas sandwich": (elastic_training, elastic_problem, lambda p: elastic(p, "sandwich")),
    "clipped_lasso": (lasso_training, resnet_problem, lambda p: stages_of(clipped_lasso, p, LASSO)),
    "clipped_lasso fused": (lasso_training, resnet_problem, lambda p: fused(p, "own")),
    "clipped_lasso any": (lasso_training, resnet_problem, lambda p: fused(p, "any")),
    "reds": (training, subnet_problem, lambda p: reds.METHOD.pretrain(p, REDS, None)),
    "reds joint": (joint_training, subnet_problem, lambda p: stages_of(reds, p, REDS)),
}
IN_PARTS = ("prunet", "budgeted", "reg_nas", "reg_nas sandwich", "clipped_lasso pretrain")
RUNS["clipped_lasso pretrain"] = (
    lasso_training,
    resnet_problem,
    lambda p: clipped_lasso.METHOD.pretrain(p, LASSO, None),
)


def gradients(name: str, sharding: str = "ddp") -> list[list[torch.Tensor]]:
    """Return the gradients of all steps of a run in float64, batch norms on stored statistics."""
    module, problem, run = RUNS[name]
    steps: list[list[torch.Tensor]] = []

    def spy(parameters: Any) -> None:
        parameters = list(parameters)
        average_gradients(parameters)
        grads = [param.grad for param in parameters if param.grad is not None]
        steps.append([whole(grad).detach().clone() for grad in grads])

    module.average_gradients = spy
    nn.BatchNorm2d.train = lambda self, mode=True: nn.Module.train(self, False)
    torch.set_default_dtype(torch.float64)
    for _ in run(few(problem(), sharding=sharding)):
        pass
    return steps


def _rank(rank: int, ranks: int, work: Any, args: Any, folder: str) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=ranks)
    found = {args_: work(*args_) for args_ in args}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def on_ranks(ranks: int, work: Callable[..., Any], args: list[tuple[Any, ...]]) -> list[Any]:
    """Return what each of a number of processes makes of the arguments: arguments -> result."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (ranks, work, args, folder), nprocs=ranks)
        files = [Path(folder) / f"{rank}.pt" for rank in range(ranks)]
        return [torch.load(file, weights_only=True) for file in files]


def continued(name: str, sharding: str, state: str = "", epochs: int = 1) -> dict[str, Any]:
    """Train a supernet on, from a state's file if given, in float32; return what it left.

    Batch norms run on stored statistics: ranks would else normalise by their own parts.
    """
    nn.BatchNorm2d.train = lambda self, mode=True: nn.Module.train(self, False)
    torch.set_default_dtype(torch.float32)
    problem = few({"budgeted": fabric_problem, "prunet": tiny_problem}[name](), sharding=sharding)
    method, config = {"budgeted": (budgeted, BUDGETED), "prunet": (prunet, PRUNET)}[name]
    start = torch.load(state, weights_only=True) if state else None
    run = method.METHOD.pretrain(problem, dataclasses.replace(config, warmup_epochs=2), start)
    losses = []
    for _, progress in zip(range(epochs), run, strict=False):
        losses.append(progress.metrics["train_loss"])
        left = progress.state()
    return {"losses": losses, "state": left}
