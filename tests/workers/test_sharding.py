"""Several ranks learn what one would, whether they hold networks whole or in parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from orchestrator.config import load_config
from orchestrator.plan import checked
from tests.workers.sharding_ranks import IN_PARTS, RUNS, continued, gradients, on_ranks
from workers import sharding
from workers.augment import Augmentation, augmented
from workers.batches import draws_for
from workers.draws import cut
from workers.errors import InputError
from workers.executors.ray_cluster import RayCluster
from workers.ranks import average_tensors
from workers.storage import Storage
from workers.trial import Trial, from_bytes, run

Found = dict[tuple[str, ...], list[list[torch.Tensor]]]


@pytest.fixture(scope="module")
def alone() -> Found:
    """Gradients of one process: run -> step -> parameter."""
    (found,) = on_ranks(1, gradients, [(name,) for name in RUNS])
    return found


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest) -> list[Found]:
    """Those that each of several processes has after averaging."""
    runs = [(name,) for name in RUNS]
    in_parts = [(name, "fsdp") for name in IN_PARTS] if request.param == 2 else []
    return on_ranks(request.param, gradients, runs + in_parts)


def furthest(one: list[list[torch.Tensor]], other: list[list[torch.Tensor]]) -> float:
    pairs = [pair for steps in zip(one, other, strict=True) for pair in zip(*steps, strict=True)]
    return max((a - b).abs().max().item() for a, b in pairs)


def test_gradients_do_not_depend_on_the_number_of_ranks(
    alone: Found, together: list[Found]
) -> None:
    for rank in together:
        for key, steps in rank.items():
            expected = alone[key[:1]]
            assert steps[0][0].dtype == torch.float64
            assert any(gradient.abs().max() > 1e-3 for step in expected for gradient in step), key
            assert furthest(steps, expected) < 1e-8, key


# --- Draws ---


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_parts_follow_one_another_and_weigh_what_they_hold(ranks: int) -> None:
    parts = [cut(8, rank, ranks) for rank in range(ranks)]
    assert [i for part in parts for i in range(8)[part.own]] == list(range(8))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
    values_B = torch.arange(8.0) ** 2
    terms = [part.mean(values_B[part.own]) for part in parts]
    assert torch.stack(terms).mean().item() == pytest.approx(values_B.mean().item())


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(min_crop_area=0.3, pad=2, flip=True),
        Augmentation(policy="rand_augment"),
        Augmentation(policy="auto_augment_cifar10", erase=0.5),
    ],
    ids=str,
)
def test_images_are_augmented_alike_in_every_part(augmentation: Augmentation) -> None:
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)

    def made(rank: int, ranks: int) -> torch.Tensor:
        part = cut(10, rank, ranks)
        draws = draws_for(part, "augment", 5)
        return augmented(images[part.own], augmentation, draws, mean=(0.5,) * 3, std=(0.2,) * 3)

    whole = made(0, 1)
    for ranks in (2, 3):
        assert torch.cat([made(rank, ranks) for rank in range(ranks)]).equal(whole)


# --- Parts ---


def states_agree(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(states_agree(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor) and one.is_floating_point():
        return torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    return True


@pytest.mark.parametrize("name", ["budgeted", "prunet"])
def test_a_checkpoint_is_resumed_with_another_count_and_sharding(name: str, tmp_path: Path) -> None:
    first = on_ranks(2, continued, [(name, "ddp"), (name, "fsdp")])[0]
    whole, parts = first[name, "ddp"], first[name, "fsdp"]
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert states_agree(parts["state"], whole["state"])
    for found, kind in ((whole, "ddp"), (parts, "fsdp")):
        torch.save(found["state"], tmp_path / kind)
    paths = {kind: str(tmp_path / kind) for kind in ("ddp", "fsdp")}
    (one,) = on_ranks(1, continued, [(name, "ddp", paths["fsdp"])])
    runs = [(name, "fsdp", paths["ddp"]), (name, "fsdp", paths["fsdp"])]
    three = on_ranks(3, continued, runs)[0]
    (expected,) = one.values()
    assert expected["losses"] != whole["losses"]
    for found in three.values():
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-4)
        assert states_agree(found["state"], expected["state"])


@pytest.mark.slow
def test_pretraining_in_parts_on_a_cluster(local_ray: None, tmp_path: Path) -> None:
    losses = {}
    for kind in ("ddp", "fsdp"):
        settings = ["method.warmup_epochs=1", "proxy.images=0.1", "space.filters=4"]
        settings += ["resources.workers=2", f"resources.sharding={kind}"]
        config = checked(load_config("budgeted_digits", settings))
        root = str(tmp_path / kind)
        trial = Trial("supernet", "pretrain", config.as_dict(), root, 1)
        rows: list[dict[str, Any]] = []
        shared = {"data": None, "table": None, "start": None}
        cluster = RayCluster(config.resources)
        cluster.train_sharded(run, trial, shared, rows.append, f"{root}/train/pretrain")
        assert rows[-1].get("outcome"), rows
        outcome = from_bytes(Storage(root).read_bytes(trial.path("outcome")), "outcome")
        losses[kind] = [row["train_loss"] for row in outcome["history"]]
        sizes = {name: tensor.shape for name, tensor in outcome["state"]["network"].items()}
        assert sizes["stem.conv.weight"][0] == 4
    assert losses["fsdp"] == pytest.approx(losses["ddp"], rel=1e-4)


# --- Batch norms of all ranks ---


def test_batch_norms_in_training_become_those_of_all_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    class Synced:
        """Stands for SyncBatchNorm's function, which has no CPU kernel."""

        @staticmethod
        def apply(x: torch.Tensor, *settings: Any) -> torch.Tensor:
            seen.append(settings)
            return 2 * x

    monkeypatch.setattr(sharding, "SyncBatchNorm", Synced)
    monkeypatch.setattr(sharding, "place", lambda: (0, 2))
    norm, x = nn.BatchNorm2d(3, momentum=0.3), torch.randn(4, 3, 2, 2)
    with sharding.synced_norms(on=True):
        assert norm(x).equal(2 * x)
        weight_C = norm.weight[:2]  # of a slice, as elastic networks have
        stored = norm.running_mean[:2], norm.running_var[:2]  # type: ignore[index]
        functional.batch_norm(x[:, :2], *stored, weight_C, None, True, 0.0)
        expected = norm.eval()(x)
    weight, bias, mean, var, eps, momentum, _, ranks = seen[0]
    assert weight is norm.weight
    assert bias is norm.bias
    assert mean is norm.running_mean
    assert var is norm.running_var
    assert (eps, momentum, ranks) == (norm.eps, 0.3, 2)
    assert seen[1][0] is weight_C
    assert len(seen) == 2  # the norm in evaluation is torch's own
    assert norm(x).equal(expected)
    with sharding.synced_norms(on=False):
        norm.train()(x)
    assert len(seen) == 2


# --- What is refused ---


REFUSED = {
    ("reds_digits", "sharding=fsdp"): r"resources\.sharding: fsdp; reds allows ddp, since its sub",
    ("random_digits", "sharding=fsdp"): r"resources\.sharding: fsdp; random allows ddp, since it",
    ("clipped_lasso_digits", "sharding=fsdp", "trial_workers=2"): (
        r"resources\.trial_workers: 2; with sharding fsdp, clipped_lasso allows 1, since its"
    ),
    ("prunet_digits", "sync_batch_norm=true"): (
        r"resources.*sync_batch_norm: True needs GPUs, but gpus_per_worker is 0"
    ),
    ("prunet_digits", "sharding=zero"): "sharding",
}


@pytest.mark.parametrize(("study", "message"), REFUSED.items(), ids=json.dumps)
def test_what_cannot_be_had_is_refused(study: tuple[str, ...], message: str) -> None:
    name, *settings = study
    with pytest.raises(InputError, match=message):
        checked(load_config(name, [f"resources.{setting}" for setting in settings]))


@pytest.mark.parametrize("name", ["budgeted_digits", "clipped_lasso_digits", "reg_nas_digits"])
def test_supernets_may_be_taken_apart(name: str) -> None:
    assert checked(load_config(name, ["resources.sharding=fsdp"])).resources.sharding == "fsdp"


# --- Messages ---


def test_few_messages_of_one_type_each(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.Tensor] = []
    monkeypatch.setattr("workers.ranks.place", lambda: (0, 2))
    monkeypatch.setattr("workers.ranks.BUCKET_BYTES", 100)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda flat: sent.append(flat.mul_(3)))
    tensors = [torch.full((10,), float(i)) for i in range(5)]
    tensors += [torch.ones(2, 3, dtype=torch.float64), torch.full((60,), 7.0)]
    expected = [1.5 * tensor for tensor in tensors]
    average_tensors(tensors)
    assert all(map(torch.equal, tensors, expected))
    assert sorted(len(flat) for flat in sent) == [6, 10, 20, 20, 60]
