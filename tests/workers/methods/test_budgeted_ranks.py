"""Data-parallel search: ranks draw different architectures and learn what one rank would learn."""

import dataclasses
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.workers.methods.test_budgeted import CONFIG, equal
from tests.workers.methods.tiny_fabric import fabric_problem
from workers.augment import Augmentation
from workers.draws import cut
from workers.methods.budgeted.fabric_training import FabricTraining
from workers.methods.budgeted.search import pretrain, search
from workers.ranks import place

BATCH = 32
# Likely enough to be off that most samples differ; SGD, whose step is the gradient's.
UNSETTLED = dataclasses.replace(
    CONFIG, warmup_epochs=1, logit_start=0.5, logit_optimizer="sgd", logit_lr=1.0
)


def after_a_step() -> dict:
    """Make one step on this rank's part of a batch; norms use running statistics.

    Else a sample's loss would depend on the other samples of its rank.
    """
    rank, ranks = place()
    problem = fabric_problem()
    run = FabricTraining(problem, dataclasses.replace(UNSETTLED, augment=Augmentation()), None)
    run.epoch = 1
    run.supernet.eval()
    part = cut(BATCH, rank, ranks)
    images, labels_B = problem.data.train.batch(torch.arange(BATCH)[part.own])
    figures = run._search_step(images / 255.0, labels_B, part, 0)
    return {
        "uniform_EB": run._uniform(part, 0),
        "figures": figures,
        "parameters": [parameter.detach() for parameter in run.supernet.parameters()],
    }


def _rank(rank: int, folder: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = after_a_step()
    config = dataclasses.replace(CONFIG, warmup_epochs=1, epochs=2)
    *_, first = pretrain(fabric_problem(), config, None)
    *_, last = search(fabric_problem(start=first.state()), config, None)
    state, (candidate,) = last.state(), last.candidates
    found |= {
        "logits_E": state["logits_E"],
        "metrics": last.metrics,
        "architecture": candidate.architecture,
        "candidate": dict(candidate.metrics),
        "weights": dict(candidate.weights),
    }
    torch.save(found, f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_agree_with_each_other_and_with_one(tmp_path: Path):
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (folder, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = after_a_step()

    assert not torch.equal(one["uniform_EB"], two["uniform_EB"])
    both_EB = torch.cat([one["uniform_EB"], two["uniform_EB"]], dim=1)
    assert torch.equal(both_EB, alone["uniform_EB"])
    torch.testing.assert_close((one["figures"] + two["figures"]) / 2, alone["figures"])
    assert equal(one["parameters"], two["parameters"])
    torch.testing.assert_close(one["parameters"], alone["parameters"])
    fresh = FabricTraining(fabric_problem(), UNSETTLED, None).supernet.logits_E
    assert not torch.equal(alone["parameters"][0], fresh)

    for key in ("logits_E", "metrics", "architecture", "candidate", "weights"):
        assert equal(one[key], two[key])
