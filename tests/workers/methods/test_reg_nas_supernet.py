"""A supernet's training: its phases, its two strategies, and that it resumes and agrees."""

import dataclasses
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from search_spaces.base import option_of
from search_spaces.elastic import Supernet
from tests.workers.methods.test_budgeted import equal
from tests.workers.methods.tiny import SPACE
from tests.workers.methods.tiny_elastic import MOBILENET, RESNET, elastic_problem
from workers.augment import Augmentation
from workers.methods.reg_nas.shrinking import drawn, phases
from workers.methods.reg_nas.subnet_losses import sandwich_losses, shrinking_losses
from workers.methods.reg_nas.supernet_settings import Lesson
from workers.methods.reg_nas.supernet_training import (
    SupernetTraining,
    Training,
    fresh_supernet,
    pretrain,
)

ONE = Lesson(1, 0.01)
QUICK = SupernetTraining(
    full=Lesson(2, 0.02),
    kernel=(ONE,),
    depth=(ONE, ONE),
    expand=(ONE, ONE),
    width=(ONE, ONE),
    sandwich=Lesson(3, 0.02, 1),
    batch_size=32,
    augment=Augmentation(flip=True),
)
SANDWICH = dataclasses.replace(QUICK, strategy="sandwich")


def trained(problem, settings, state=None):
    return pretrain(problem, SimpleNamespace(supernet=settings), state)


def test_phases_offer_ever_more_of_a_space():
    offers = [
        (phase.name, *(set(phase.offered[name]) for name in ("ks.0", "d.0", "e.0", "r")))
        for phase in phases(MOBILENET, QUICK.lessons)
    ]
    assert offers == [
        ("full", {7}, {4}, {6}, {6, 8}),
        ("kernel 1", {3, 5, 7}, {4}, {6}, {6, 8}),
        ("depth 1", {3, 5, 7}, {3, 4}, {6}, {6, 8}),
        ("depth 2", {3, 5, 7}, {2, 3, 4}, {6}, {6, 8}),
        ("expand 1", {3, 5, 7}, {2, 3, 4}, {4, 6}, {6, 8}),
        ("expand 2", {3, 5, 7}, {2, 3, 4}, {3, 4, 6}, {6, 8}),
    ]
    assert [phase.subnets for phase in phases(MOBILENET, QUICK.lessons)] == [1, 1, 2, 2, 4, 4]


def test_residual_networks_shrink_in_width_last_and_have_no_kernels():
    found = list(phases(RESNET, QUICK.lessons))
    names = ["full", *(f"{name} {i}" for name in ("depth", "expand", "width") for i in (1, 2))]
    assert [phase.name for phase in found] == names
    assert [set(phase.offered["w.0"]) for phase in found] == 5 * [{2}] + [{1, 2}, {0, 1, 2}]
    assert set(found[1].offered["d.0"]) == {0, 2}  # the stem's convolution is there or not


def test_the_last_phase_offers_the_whole_space():
    for space in (MOBILENET, RESNET):
        *_, last = phases(space, QUICK.lessons)
        assert {k: set(v) for k, v in last.offered.items()} == {
            choice.name: set(choice.options) for choice in space.choices
        }


def test_networks_of_a_step_share_the_resolution_alone():
    *_, last = phases(MOBILENET, QUICK.lessons)
    for seed in range(20):
        networks = drawn(MOBILENET, last.offered, 4, random.Random(seed))
        assert len({network["r"] for network in networks}) == 1
        assert len({str(network) for network in networks}) == 4


def outputs(supernet, architectures):
    supernet.eval()
    results = []
    for architecture in architectures:
        supernet.set_active(architecture)
        results.append(supernet(torch.ones(1, 1, 8, 8)))
    return results


@pytest.mark.parametrize("space", [MOBILENET, RESNET])
def test_sorting_keeps_the_networks_that_were_trained(space):
    supernet = fresh_supernet(elastic_problem(space))
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.copy_(torch.rand_like(parameter) / 10)
    for phase in phases(space, QUICK.lessons):
        if phase.sorted_after is None:
            continue
        before = outputs(supernet, phase.sorted_after)
        weights = {k: v.clone() for k, v in supernet.state_dict().items()}
        supernet.sort_channels(phase.sorted_after)
        torch.testing.assert_close(outputs(supernet, phase.sorted_after), before)
        if phase.name == "expand 1":
            assert any(not torch.equal(v, weights[k]) for k, v in supernet.state_dict().items())


def test_kernels_and_depths_shrink_without_sorting():
    for phase in phases(MOBILENET, QUICK.lessons):
        assert (phase.sorted_after is not None) == phase.name.startswith("expand")


@pytest.mark.parametrize("settings", [QUICK, SANDWICH], ids=["shrinking", "sandwich"])
def test_a_training_resumes_to_the_bit_after_any_epoch(settings, tmp_path: Path):
    problem = elastic_problem(RESNET)
    states = []
    for progress in trained(problem, settings):
        torch.save(progress.state(), tmp_path / "state.pt")
        states.append(torch.load(tmp_path / "state.pt", weights_only=True))
    for state in states[:-1]:
        # One epoch further, so that every boundary between phases is crossed once.
        resumed = next(trained(problem, settings, state))
        assert equal(resumed.state(), states[state["epoch"]])
    (again,) = trained(problem, settings, states[-1])
    assert equal(again.state(), states[-1])


def test_the_state_left_for_searches_holds_nothing_else():
    *_, last = trained(elastic_problem(), SANDWICH)
    state = last.state()
    assert set(state) == {"epoch", "metrics", "supernet"}
    Supernet(MOBILENET).load_state_dict(state["supernet"])
    assert set(last.metrics) == {"train_loss", "lr", "val_accuracy_max", "val_accuracy_min"}


def test_the_full_network_teaches_from_the_first_shrinking_on():
    run = Training(elastic_problem(), QUICK, None)
    run.train_epoch()
    run.train_epoch()
    assert run.teacher is None
    full = {k: v.clone() for k, v in run.supernet.state_dict().items()}
    run.train_epoch()
    kept = dict(run.teacher.named_parameters())
    assert all(torch.equal(parameter, full[name]) for name, parameter in kept.items())
    assert any(not torch.equal(p, full[name]) for name, p in run.supernet.named_parameters())


def test_losses_are_those_of_the_networks_alone():
    problem = elastic_problem()
    supernet, teacher = fresh_supernet(problem), fresh_supernet(problem)
    rng = random.Random(0)
    *_, last = phases(MOBILENET, QUICK.lessons)
    subnets = drawn(MOBILENET, last.offered, 2, rng)
    x_BCHW, labels_B = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    with torch.no_grad():
        for network in supernet.parameters():
            network += 0.01
    found = list(shrinking_losses(supernet, subnets, x_BCHW, labels_B, QUICK, teacher))
    largest = alone(teacher, {**MOBILENET.presets["max"], "r": subnets[0]["r"]}, x_BCHW)
    for loss, subnet in zip(found, subnets, strict=True):
        logits_BK = alone(supernet, subnet, x_BCHW)
        smooth = torch.nn.functional.cross_entropy(logits_BK, labels_B, label_smoothing=0.1)
        soft = -(largest.softmax(1) * logits_BK.log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(loss, smooth + soft)


def alone(supernet, architecture, x_BCHW):
    """Return the logits of a stand-alone network in training mode."""
    network = MOBILENET.build(architecture)
    network.load_state_dict(supernet.extract(architecture))
    return network.train()(x_BCHW)


def test_the_sandwich_teaches_the_smallest_and_random_networks():
    supernet = fresh_supernet(elastic_problem())
    x_BCHW, labels_B = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    middle = MOBILENET.canonical({**MOBILENET.presets["max"], "d": [3, 3, 3]})
    found = list(sandwich_losses(supernet, [middle], x_BCHW, labels_B, QUICK))
    taught = alone(supernet, MOBILENET.presets["max"], x_BCHW).softmax(1)
    assert len(found) == 3
    for loss, network in zip(found[1:], (MOBILENET.presets["min"], middle), strict=True):
        logits_BK = alone(supernet, network, x_BCHW)
        torch.testing.assert_close(loss, -(taught * logits_BK.log_softmax(1)).sum(1).mean())


def test_weights_that_no_network_uses_stay():
    run = Training(elastic_problem(), dataclasses.replace(QUICK, weight_decay=0.1), None)
    before = {k: v.clone() for k, v in run.supernet.named_parameters()}
    run.train_epoch()  # of the full network: no kernel is transformed
    for name, parameter in run.supernet.named_parameters():
        assert torch.equal(parameter, before[name]) == ("transforms" in name), name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["progressive_shrinking", "sandwich"])
def test_the_smallest_network_learns_along(strategy):
    long, short = Lesson(10, 0.2, 1), Lesson(2, 0.07)
    settings = dataclasses.replace(
        QUICK,
        strategy=strategy,
        full=long,
        kernel=(short,),
        depth=(short,),
        expand=(Lesson(5, 0.07),),
        sandwich=long,
        batch_size=16,
        augment=Augmentation(),
    )
    *_, last = trained(elastic_problem(), settings)
    assert last.metrics["val_accuracy_min"] > 0.8  # one of four classes: chance is 0.25
    assert last.metrics["val_accuracy_max"] > 0.8


def _rank(rank: int, folder: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    short = dataclasses.replace(QUICK, full=ONE, depth=(ONE,), expand=(ONE,))
    *_, last = trained(elastic_problem(), short)
    torch.save(last.state(), f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_train_the_same_supernet(tmp_path: Path):
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (folder, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert equal(one, two)


def test_other_spaces_are_refused():
    problem = dataclasses.replace(elastic_problem(), space=SPACE)
    with pytest.raises(ValueError, match="space: reg_nas searches elastic supernets; gpunet"):
        next(trained(problem, QUICK))


def test_a_loss_that_is_not_finite_is_named():
    settings = dataclasses.replace(QUICK, full=Lesson(2, 1e30))
    with pytest.raises(FloatingPointError, match="epoch 1: the loss is"):
        list(trained(elastic_problem(), settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": ()}, r"depth: \(\) is not allowed; allowed: one lesson or more"),
        ({"batch_size": 1}, "batch_size: 1 is not allowed"),
        ({"label_smoothing": 1.0}, "label_smoothing: 1.0 is not allowed"),
        ({"distillation": -1.0}, "distillation: -1.0 is not allowed"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SupernetTraining(**changes)


@pytest.mark.parametrize("lesson", [(0, 0.1), (1, 0.0), (2, 0.1, 2)])
def test_impossible_lessons_are_refused(lesson):
    with pytest.raises(ValueError, match="allowed"):
        Lesson(*lesson)


def test_the_learning_rate_is_the_papers_for_its_batch():
    settings = SupernetTraining()
    kernel, second = settings.kernel[0], settings.expand[1]
    assert settings.learning_rate(kernel, 5) == pytest.approx(3e-2 * 32)
    assert settings.learning_rate(second, 5) == pytest.approx(7.5e-3 * 32)
    assert settings.learning_rate(kernel, 2.5) == pytest.approx(3e-2 * 16)
    assert settings.learning_rate(kernel, 120) == pytest.approx(0)


def test_options_of_a_phase_are_drawn_from_all():
    *_, last = phases(MOBILENET, QUICK.lessons)
    networks = [drawn(MOBILENET, last.offered, 1, random.Random(i))[0] for i in range(100)]
    for choice in MOBILENET.choices:
        seen = {option_of(network, choice.name) for network in networks}
        assert seen - {None} == set(choice.options), choice.name
