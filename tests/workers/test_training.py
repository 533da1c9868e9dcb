"""Training: batches, the optimiser and its formula, averaging over ranks, resuming to the bit."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchvision.ops import StochasticDepth

from search_spaces.gpunet import Config as SpaceConfig
from search_spaces.gpunet import GPUNet
from workers.augment import Augmentation
from workers.batches import batches, num_batches
from workers.datasets import DATASETS, Data, TensorSplit
from workers.evaluation import evaluate
from workers.optimizers import RMSpropTF, decay_groups
from workers.protocol import Problem, Progress
from workers.ranks import average_buffers, average_gradients
from workers.training import (
    Recipe,
    finish,
    learning_rate,
    train,
)

CPU = torch.device("cpu")
SPACE = GPUNet(SpaceConfig(preset="gpunet_8"))
ARCHITECTURE = SPACE.presets["gpunet1"]
EVERYTHING = Recipe(
    epochs=3,
    batch_size=32,
    warmup_epochs=0.5,
    label_smoothing=0.1,
    ema_decay=0.99,
    drop_path=0.2,
    dropout=0.2,
    augment=Augmentation(pad=1, policy="rand_augment", erase=0.2),
)


@pytest.fixture(scope="module")
def digits() -> Data:
    entry = DATASETS["digits"]
    return entry.load(entry.Config(), Path())


@pytest.fixture(scope="module")
def few(digits: Data) -> Data:
    """A tenth of the digits; whoever reads the test split fails."""
    few = torch.arange(0, 1000, 10)
    train_split, val = digits.train.subset(few), digits.val.subset(few[:35])
    return replace(digits, train=train_split, val=val, test=None)


def numbered(count: int) -> TensorSplit:
    """A split whose images show their own index, which is also their label."""
    index = torch.arange(count)
    return TensorSplit(index.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2), index)


def problem(data: Data, seed: int = 0) -> Problem:
    return Problem(SPACE, data, None, lambda _: 0.0, seed, CPU)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SPACE.build(ARCHITECTURE)


def last(steps: Iterator[Progress]) -> Progress:
    *_, progress = steps
    return progress


def equal_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(a.equal(b) for a, b in pairs)


# --- Batches ---


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        torch.rand(3)  # the global generator has no say
        parts = [labels for _, labels in batches(numbered(20), 5, seed=seed, epoch=epoch)]
        return torch.cat(parts).tolist()

    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(20))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_ragged_last_batch_is_dropped_unless_it_is_the_only_one() -> None:
    for count, sizes in ((20, [8, 8]), (16, [8, 8]), (5, [5])):
        found = [len(labels) for _, labels in batches(numbered(count), 8, seed=0, epoch=0)]
        assert found == sizes
        assert num_batches(numbered(count), 8) == len(sizes)


def test_images_and_labels_stay_together() -> None:
    for images, labels in batches(numbered(30), 7, seed=0, epoch=1):
        assert images[:, 0, 0, 0].tolist() == labels.tolist()


def test_ranks_share_a_batch_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [labels.tolist() for _, labels in batches(numbered(20), 6, seed=4, epoch=0)]
    parts = []
    for rank in range(2):
        monkeypatch.setattr("workers.batches.place", lambda rank=rank: (rank, 2))
        parts.append([labels.tolist() for _, labels in batches(numbered(20), 6, seed=4, epoch=0)])
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    with pytest.raises(ValueError, match="batch_size: 1 of 20 images is too small for 2 workers"):
        next(batches(numbered(20), 1, seed=0, epoch=0))


def test_decoded_splits_come_in_the_same_order(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(8):
                picture = Image.new("RGB", (9, 9), (index, index, index))
                picture.save(tmp_path / part / name / f"{index}.png")
    entry = DATASETS["image_folder"]
    split = entry.load(
        entry.Config(path=str(tmp_path), resolution=4, val_fraction=0.2), tmp_path
    ).train
    resident = TensorSplit(*split.batch(torch.arange(len(split))))
    pairs = zip(
        batches(split, 4, seed=1, epoch=2), batches(resident, 4, seed=1, epoch=2), strict=True
    )
    for (images, labels), (expected, numbers) in pairs:
        assert images.equal(expected)
        assert labels.equal(numbers)


# --- Optimiser and schedule ---


def test_rmsprop_follows_tensorflows_formula() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = RMSpropTF([weight], lr=0.1, alpha=0.9, eps=1e-3, momentum=0.8, weight_decay=0.01)
    w, v, m = [1.0, -2.0], [1.0, 1.0], [0.0, 0.0]
    for step in range(4):
        lr = 0.1 / (step + 1)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        (0.5 * weight.square().sum() * (step + 1)).backward()
        optimizer.step()
        for i in range(2):
            g = w[i] * (step + 1) + 0.01 * w[i]
            v[i] = 0.9 * v[i] + 0.1 * g * g
            m[i] = 0.8 * m[i] + lr * g / math.sqrt(v[i] + 1e-3)
            w[i] -= m[i]
        assert weight.tolist()[0] == pytest.approx(w, rel=1e-5)


def test_only_weights_decay() -> None:
    decaying, others = decay_groups(network(), 0.1)
    assert decaying["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert {param.ndim for param in decaying["params"]} == {2, 4}
    assert {param.ndim for param in others["params"]} == {1}
    count = len(decaying["params"]) + len(others["params"])
    assert count == len(list(network().parameters()))


def test_learning_rate_warms_up_then_follows_its_schedule() -> None:
    recipe = Recipe(epochs=12, lr=0.1, warmup_epochs=2, warmup_lr=0.0)
    assert learning_rate(recipe, 0) == 0
    assert learning_rate(recipe, 1) == pytest.approx(0.05)
    assert learning_rate(recipe, 2) == pytest.approx(0.1)
    assert learning_rate(recipe, 7) == pytest.approx(0.05)
    assert learning_rate(recipe, 12) == pytest.approx(0)
    stairs = replace(recipe, schedule="exponential", lr_decay_rate=0.5, lr_decay_epochs=3.0)
    assert [learning_rate(stairs, e) for e in (2, 3, 5.9, 6)] == pytest.approx(
        [0.1, 0.05, 0.05, 0.025]
    )
    assert learning_rate(replace(recipe, schedule="constant"), 11) == 0.1
    drops = replace(recipe, schedule="steps", lr_drops=(0.5, 0.75))
    assert [learning_rate(drops, e) for e in (2, 5.9, 6, 8.9, 9)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001]
    )


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd", "adam", "adamw"])
def test_every_optimizer_learns(optimizer: str, few: Data) -> None:
    lr = 0.05 if optimizer == "sgd" else 0.005
    recipe = Recipe(epochs=10, batch_size=25, optimizer=optimizer, lr=lr)  # type: ignore[arg-type]
    losses = [p.metrics["train_loss"] for p in train(network(), few, recipe, seed=0, device=CPU)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs: 0 is below 1"),
        ({"lr": 0.0}, "lr: 0.0 is not positive"),
        ({"weight_decay": -1.0}, "weight_decay: -1.0 is negative"),
        ({"ema_decay": 1.0}, r"ema_decay: 1.0 is outside \[0, 1\)"),
        ({"warmup_epochs": 30.0}, "warmup_epochs: 30.0 leaves none of 30"),
    ],
)
def test_impossible_recipes_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Recipe(), **wrong)


# --- Evaluation ---


def test_evaluation_is_exact_and_restores_modes(few: Data) -> None:
    model = network()
    model.train()
    model[0].eval()
    evaluation = evaluate(model, few.val, few, batch_size=8)
    modes = {name: module.training for name, module in model.named_children()}
    assert modes.pop("stem") is False
    assert all(modes.values())
    model.eval()
    images, labels = few.val.batch(torch.arange(len(few.val)))
    with torch.no_grad():
        logits = model((images.float() / 255 - few.mean[0]) / few.std[0])
    assert evaluation.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), 1e-4)
    assert evaluation.predictions_N.tolist() == logits.argmax(1).tolist()
    assert evaluation.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert evaluation.predictions_N.dtype == torch.int16


# --- Whole trainings ---


def test_digits_are_learnt(digits: Data) -> None:
    recipe = Recipe(epochs=6, batch_size=32, ema_decay=0.9, augment=Augmentation(pad=1))
    progress = last(finish(problem(digits), ARCHITECTURE, recipe, None))
    (candidate,) = progress.candidates
    assert candidate.metrics["val_accuracy"] > 0.95
    assert candidate.metrics["val_accuracy"] == progress.metrics["val_accuracy"]
    right = (candidate.predictions["val"] == digits.val.labels_N).float().mean()
    assert right.item() == pytest.approx(candidate.metrics["val_accuracy"])
    again = SPACE.build(ARCHITECTURE)
    again.load_state_dict(dict(candidate.weights or {}))
    assert evaluate(again, digits.val, digits).predictions_N.equal(candidate.predictions["val"])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_training_equals_an_uninterrupted_one(stop: int, few: Data) -> None:
    task = problem(few, seed=7)
    whole = list(finish(task, ARCHITECTURE, EVERYTHING, None))
    torch.rand(5)  # the global generator has no say
    interrupted = finish(task, ARCHITECTURE, EVERYTHING, None)
    buffer = io.BytesIO()
    for _ in range(stop):
        progress = next(interrupted)
    torch.save(progress.state(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    resumed = list(finish(task, ARCHITECTURE, EVERYTHING, state))
    assert [p.step for p in resumed] == (list(range(stop + 1, 4)) or [3])
    timeless = [name for name in whole[0].metrics if not name.endswith("_s")]
    assert [whole[-1].metrics[n] for n in timeless] == [resumed[-1].metrics[n] for n in timeless]
    (first,), (second,) = whole[-1].candidates, resumed[-1].candidates
    assert first.weights is not None
    assert second.weights is not None
    assert all(first.weights[name].equal(second.weights[name]) for name in first.weights)
    assert first.predictions["val"].equal(second.predictions["val"])


def test_states_are_copies(few: Data) -> None:
    run = train(network(), few, replace(EVERYTHING, epochs=2), seed=0, device=CPU)
    state = next(run).state()
    before = {name: tensor.clone() for name, tensor in state["model"].items()}
    next(run)
    assert all(before[name].equal(state["model"][name]) for name in before)


def test_seeds_give_different_networks(few: Data) -> None:
    recipe = Recipe(epochs=1, batch_size=32)
    weights = [last(finish(problem(few, s), ARCHITECTURE, recipe, None)) for s in (0, 1, 0)]
    first, other, again = ((w.candidates[0].weights or {})["stem.conv.weight"] for w in weights)
    assert first.equal(again)
    assert not first.equal(other)


def test_moving_average_is_what_is_delivered(few: Data) -> None:
    recipe = Recipe(epochs=2, batch_size=10, ema_decay=0.5)
    model, shadow = network(), network()
    averaged = {name: value.clone() for name, value in shadow.state_dict().items()}
    steps = 0

    def follow(*_: object) -> None:
        nonlocal steps
        decay = min(0.5, (1 + steps) / (10 + steps))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averaged[name].lerp_(value, 1 - decay)
        steps += 1

    handle = register_optimizer_step_post_hook(follow)
    last(train(model, few, recipe, seed=0, device=CPU))
    handle.remove()
    assert steps == 20
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, averaged[name])


def test_drop_path_grows_with_depth(few: Data) -> None:
    model = network()
    recipe = Recipe(epochs=1, batch_size=50, drop_path=0.4, dropout=0.3)
    last(train(model, few, recipe, seed=0, device=CPU))
    paths = [module.p for module in model.modules() if isinstance(module, StochasticDepth)]
    assert paths == pytest.approx([0.4 * (i + 1) / len(paths) for i in range(len(paths))])
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3]


def test_a_diverging_training_names_epoch_and_step(few: Data) -> None:
    recipe = Recipe(epochs=3, batch_size=50, optimizer="sgd", lr=1e12, schedule="constant")
    with pytest.raises(FloatingPointError, match=r"training loss is \w+ in epoch \d, step \d;"):
        last(train(network(), few, recipe, seed=0, device=CPU))


# --- Weights that a search found ---


def test_inherited_weights_are_delivered_as_they_are_or_trained_on(few: Data) -> None:
    found = network(seed=7)
    inherits = replace(problem(few), start={"weights": found.state_dict()})
    recipe = Recipe(epochs=5, warmup_epochs=2, batch_size=25, inherited_epochs=0)
    (progress,) = finish(inherits, ARCHITECTURE, recipe, None)
    (candidate,) = progress.candidates
    assert all(found.state_dict()[name].equal(w) for name, w in (candidate.weights or {}).items())
    assert candidate.metrics["val_accuracy"] == evaluate(found, few.val, few).accuracy
    longer = replace(recipe, inherited_epochs=1)
    (progress,) = finish(inherits, ARCHITECTURE, longer, None)
    assert progress.metrics["train_loss"] > 0
    weights = progress.candidates[0].weights or {}
    assert not weights["head.linear.weight"].equal(found.state_dict()["head.linear.weight"])


def test_without_inherited_weights_training_starts_from_scratch(few: Data) -> None:
    recipe = Recipe(epochs=2, batch_size=25, inherited_epochs=0)
    assert len(list(finish(problem(few), ARCHITECTURE, recipe, None))) == 2


# --- Several ranks ---


def _rank(rank: int, folder: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    weight, unused = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((2, 3), float(rank + 1))
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(4.0 * rank)  # type: ignore[union-attr]
    average_gradients([weight, unused])
    average_buffers(norm)
    entry = DATASETS["digits"]
    data = entry.load(entry.Config(), Path())
    some = torch.arange(120)
    data = replace(data, train=data.train.subset(some), val=data.val.subset(some))
    progress = last(finish(problem(data), ARCHITECTURE, replace(EVERYTHING, epochs=1), None))
    found = {
        "grad": weight.grad,
        "unused": unused.grad,
        "mean": norm.running_mean,
        "loss": progress.metrics["train_loss"],
        "weights": dict(progress.candidates[0].weights or {}),
    }
    torch.save(found, f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_agree(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (folder, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for found in (first, second):
        assert found["grad"].equal(torch.full((2, 3), 1.5))
        assert found["unused"] is None
        assert found["mean"].equal(torch.full((2,), 2.0))
    assert first["loss"] == second["loss"]
    assert all(first["weights"][name].equal(second["weights"][name]) for name in first["weights"])
