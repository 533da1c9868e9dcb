"""Generation, fused training and the product, on a thin ResNet-20 and 160 small images."""

import copy
import dataclasses
import io
import json

import pytest
import torch
from safetensors.torch import load as load_safetensors

from cost_models.macs import macs
from search_spaces.slimmable_resnet import SlimmableResNet
from tests.workers.methods.tiny import tiny_space
from tests.workers.methods.tiny_resnet import SPACE, resnet_problem, thin_space
from workers.augment import Augmentation
from workers.calibration import recalibrate
from workers.evaluation import evaluate
from workers.methods.clipped_lasso import METHOD, Config, load_dynamic
from workers.methods.clipped_lasso.checks import check
from workers.methods.clipped_lasso.counts import (
    channel_groups,
    cut,
    kept_filters,
    penalised,
    widths,
)
from workers.methods.clipped_lasso.fused import fuse
from workers.methods.clipped_lasso.search import full_network, pretrain, search, select
from workers.protocol import Finished
from workers.records import from_json

CONFIG = Config(
    lambda_=0.3,
    a=1.0,
    pretrain_epochs=2,
    epochs=3,
    fused_epochs=2,
    num_widths=3,
    batch_size=32,
    augment=Augmentation(),  # a class is a place in the image
)
SUBNETS = [SPACE.uniform(0.5), {**SPACE.uniform(0.25), "conv1": 4}]


@pytest.fixture(scope="module")
def start():
    *_, last = pretrain(resnet_problem(), CONFIG, None)
    return stored(last.state())


def stored(state):
    """What comes back from a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def changed(**settings):
    return dataclasses.replace(CONFIG, **settings)


def candidate_of(config, start, seed=0):
    *_, last = search(resnet_problem(seed, start), config, None)
    (candidate,) = last.candidates
    return candidate


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def same(one, two):
    """Tell whether two progresses carry the same candidates, to the bit."""
    assert one.metrics == two.metrics
    for first, second in zip(one.candidates, two.candidates, strict=True):
        assert first.architecture == second.architecture
        assert first.metrics == second.metrics
        assert equal(first.weights, second.weights)
        assert equal(first.predictions, second.predictions)
    return True


def dead_network():
    """A full network of which some channels are zero throughout, and the others' numbers."""
    network = full_network(resnet_problem()).eval()
    convs = penalised(SPACE, network)
    kept = {name: torch.arange(len(conv.weight))[::2] for name, conv in convs.items()}
    with torch.no_grad():
        for group in channel_groups(SPACE, network):
            for parameter in group:
                parameter[1::2] = 0.0
    return network, convs, kept


def test_the_kept_filters_are_those_that_are_not_zero():
    _, convs, kept = dead_network()
    found = kept_filters(SPACE, convs, zero_below=0.1)
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_a_network_without_its_zero_channels_computes_the_same():
    network, _, kept = dead_network()
    alone = SPACE.build(widths(kept)).eval()
    alone.load_state_dict(cut(SPACE, network.state_dict(), kept))
    x = torch.randn(4, *SPACE.in_shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(alone(x), network(x), rtol=1e-5, atol=1e-6)


def test_counts_are_rounded_up_to_what_the_space_offers_and_never_zero():
    space = thin_space(width_mult=1.0, channel_multiple=8)
    network = full_network(resnet_problem(space=space))
    convs = penalised(space, network)
    with torch.no_grad():
        convs["conv1"].weight[3:] = 0.0
        convs["conv19"].weight[17:] = 0.0
        convs["conv2"].weight.zero_()
    kept = kept_filters(space, convs, zero_below=0.1)
    assert [len(kept[name]) for name in ("conv1", "conv2", "conv3", "conv19")] == [8, 8, 16, 24]
    assert set(range(3)) <= set(kept["conv1"].tolist())


def test_a_search_resumes_to_the_bit_and_leaves_the_start_alone(start):
    before = copy.deepcopy(start)
    problem = resnet_problem(seed=5, start=start)
    states = []
    for last in search(problem, CONFIG, None):
        states.append(stored(last.state()))
    for done in (1, 3):
        *_, resumed = search(problem, CONFIG, states[done - 1])
        assert same(resumed, last)
    assert equal(start["model"], before["model"])


def test_the_candidate_is_a_network_that_works(start):
    problem = resnet_problem(start=start)
    candidate = candidate_of(CONFIG, start)
    metrics = candidate.metrics
    assert 0 < metrics["kept_share"] < 1
    assert metrics["kept_share"] == sum(candidate.architecture.values()) / sum(
        SPACE.presets["full"].values()
    )
    network = SPACE.build(candidate.architecture)
    network.load_state_dict(dict(candidate.weights))
    evaluation = evaluate(network, problem.data.val, problem.data)
    assert evaluation.accuracy == metrics["val_accuracy"]


def test_a_larger_a_lets_more_filters_vanish(start):
    found = [candidate_of(changed(a=a), start).architecture for a in (0.3, 0.9, 1.0, 1.2)]
    sizes = [macs(SPACE.layers(architecture)) for architecture in found]
    assert found[0] == SPACE.presets["full"]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_the_gradient_alone_zeroes_nothing(start):
    """SGD on Eq. 3 as printed; `proximal` says why steps that zero are the default."""
    problem = resnet_problem(start=start)
    *_, last = search(problem, changed(update="gradient", zero_below=0.0), None)
    (candidate,) = last.candidates
    assert candidate.architecture == SPACE.presets["full"]
    *_, plain = search(problem, changed(update="gradient", lambda_=0.0), None)
    assert last.metrics["train_loss"] > plain.metrics["train_loss"]  # it counts the penalty


def test_uniform_subnets_are_not_trained(start):
    problem = resnet_problem(start=start)
    (progress,) = search(problem, changed(penalty="none", width_mult=0.5), None)
    (candidate,) = progress.candidates
    assert candidate.architecture == SPACE.uniform(0.5)
    full = start["model"]["conv2.conv.weight"]
    assert torch.equal(candidate.weights["conv2.conv.weight"], full[:2, :2])
    assert candidate.metrics["direct_val_accuracy"] == candidate.metrics["val_accuracy"]


def test_one_of_equal_networks_is_selected_for_each_penalty_and_seed():
    records = [
        {"digest": "x", "penalty": "clipped", "seed": 0},
        {"digest": "x", "penalty": "clipped", "seed": 0},
        {"digest": "x", "penalty": "none", "seed": 0},
        {"digest": "x", "penalty": "clipped", "seed": 1},
        {"digest": "y", "penalty": "clipped", "seed": 0},
    ]
    assert select(records) == [0, 2, 3, 4]


@pytest.mark.parametrize("more", [{"widths": "own"}, {"widths": "any"}])
def test_fused_training_resumes_to_the_bit(more):
    problem, config, states = resnet_problem(seed=3), changed(**more), []
    for last in fuse(problem, config, SUBNETS, None):
        states.append(stored(last.state()))
    assert len(states) == config.fused_epochs
    for done in (1, 2):
        *_, resumed = fuse(problem, config, SUBNETS, states[done - 1])
        assert same(resumed, last)


def test_subnets_come_with_the_full_network_narrowest_first():
    *_, last = fuse(resnet_problem(), CONFIG, [*SUBNETS, SUBNETS[0]], None)
    found = [candidate.architecture for candidate in last.candidates]
    assert found == [SUBNETS[1], SUBNETS[0], SPACE.presets["full"]]


@pytest.mark.parametrize("widths", ["own", "any"])
def test_what_was_trained_together_learns(widths):
    problem, config = resnet_problem(), changed(fused_epochs=24, widths=widths)
    *_, last = fuse(problem, config, SUBNETS, None)
    assert all(candidate.metrics["val_accuracy"] > 0.6 for candidate in last.candidates)


def test_batch_norms_of_any_width_are_calibrated_for_it():
    problem, config = resnet_problem(), changed(widths="any")
    *_, last = fuse(problem, config, SUBNETS, None)
    for candidate in last.candidates:
        network = SPACE.build(candidate.architecture)
        network.load_state_dict(dict(candidate.weights))
        recalibrate(network, problem.data.train, problem.data, config.batch_size)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, candidate.weights[name])


def product(tmp_path, config):
    """Return the product of a fused training, loaded, and the networks that it was made of."""
    problem = resnet_problem()
    *_, last = fuse(problem, config, SUBNETS, None)
    finished = [
        Finished(
            {
                "candidate": f"f000.{index}",
                "architecture": candidate.architecture,
                "macs": macs(SPACE.layers(candidate.architecture)),
                "num_params": 0,
                "latency_measured_ms": 0.5 + index,
                "latency_backend": "onnxruntime",
                **candidate.metrics,
            },
            candidate.weights,
            candidate.predictions["val"],
            problem.data.val.labels_N,
        )
        for index, candidate in enumerate(last.candidates)
    ]
    for name, contents in METHOD.deliver(SPACE, finished[::-1]).items():
        (tmp_path / name).write_bytes(contents)
    return load_dynamic(SPACE, tmp_path), finished


@pytest.mark.parametrize("kind", ["own", "any"])
def test_the_product_runs_as_each_of_its_networks(tmp_path, kind):
    dynamic, finished = product(tmp_path, changed(widths=kind, fused_epochs=1))
    x = torch.randn(4, *SPACE.in_shape, generator=torch.Generator().manual_seed(0))
    for index, part in enumerate(finished):
        network = SPACE.build(part.record["architecture"]).eval()
        network.load_state_dict(dict(part.weights))
        with torch.inference_mode():
            dynamic.set_subnet(index)
            torch.testing.assert_close(dynamic(x), network(x), rtol=1e-5, atol=1e-6)
            if kind == "any":
                dynamic.set_subnet(index / 2)
                torch.testing.assert_close(dynamic(x), network(x), rtol=1e-5, atol=1e-6)


def test_other_products_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"subnets\.json"):
        load_dynamic(SPACE, str(tmp_path))
    product(tmp_path, changed(fused_epochs=1))
    with pytest.raises(ValueError, match="not a product of clipped_lasso in this space"):
        load_dynamic(SlimmableResNet(SlimmableResNet.Config(depth=20)), tmp_path)
    (tmp_path / "subnets.json").write_text('{"subnets": [{"widths": {}}], "axes": {}}')
    with pytest.raises(ValueError, match="not a product of clipped_lasso"):
        load_dynamic(SPACE, tmp_path)


def test_the_product_holds_shared_weights_once(tmp_path):
    _, finished = product(tmp_path, changed(fused_epochs=1))
    tensors = load_safetensors((tmp_path / "weights.safetensors").read_bytes())
    shapes = [tuple(tensor.shape) for tensor in tensors.values() if tensor.dim() > 1]
    full = [tuple(tensor.shape) for tensor in finished[-1].weights.values() if tensor.dim() > 1]
    assert sorted(shapes) == sorted(full)
    rows = json.loads((tmp_path / "subnets.json").read_text())["subnets"]
    assert [row["candidate"] for row in rows] == ["f000.0", "f000.1", "f000.2"]
    assert [row["latency_measured_ms"] for row in rows] == [0.5, 1.5, 2.5]
    assert {row["latency_backend"] for row in rows} == {"onnxruntime"}
    assert {row["latency_batch128_ms"] for row in rows} == {None}
    assert rows[1]["onnx"] == "../../models/f000.1/model.onnx"


def test_networks_that_were_trained_alone_have_no_product():
    record = {"candidate": "t000", "architecture": SPACE.presets["full"]}
    weights = full_network(resnet_problem()).state_dict()
    nothing = torch.zeros(0)
    assert METHOD.deliver(SPACE, [Finished(record, weights, nothing, nothing)]) == {}


def test_what_cannot_be_generated_is_refused_before_anything_runs():
    check(SPACE, CONFIG, [changed(a=0.3), changed(penalty="none")], "macs")
    tied = thin_space(shortcut="identity")
    check(tied, CONFIG, [changed(penalty="none")], "macs")
    with pytest.raises(ValueError, match=r"space\.shortcut: identity ties"):
        check(tied, CONFIG, [CONFIG], "macs")
    whole = [changed(penalty="none", widths="any", width_mult=share) for share in (0.99, 1.0)]
    with pytest.raises(ValueError, match=r"width_mult: 0\.99 is the full network, and widths any"):
        check(SPACE, CONFIG, whole, "macs")
    check(SPACE, CONFIG, [*whole, changed(penalty="none", widths="any", width_mult=0.5)], "macs")
    with pytest.raises(ValueError, match=r"lr: a point has 1\.0, but all points start from one"):
        check(SPACE, CONFIG, [changed(lr=1.0)], "macs")
    with pytest.raises(ValueError, match="space: clipped_lasso needs slimmable_resnet"):
        check(tiny_space(), CONFIG, [], "macs")


@pytest.mark.parametrize(
    ("penalty", "setting"),
    [("clipped", "width_mult"), ("group", "a"), ("none", "a"), ("none", "lambda_")],
)
def test_points_that_differ_in_what_they_have_no_use_for_are_refused(penalty, setting):
    key = setting.rstrip("_")
    with pytest.raises(ValueError, match=rf"^{key}: penalty {penalty} has no use for it"):
        check(SPACE, CONFIG, [changed(penalty=penalty, **{setting: 0.9})], "macs")


def test_a_start_of_another_pretraining_is_refused(start):
    with pytest.raises(ValueError, match="start: generation needs"):
        next(search(resnet_problem(), CONFIG, None))
    with pytest.raises(ValueError, match="pretrain_epochs: 5; but 2 were trained"):
        next(search(resnet_problem(start=start), changed(pretrain_epochs=5), None))


def test_a_loss_that_is_not_finite_names_its_epoch(start):
    with pytest.raises(FloatingPointError, match=r"epoch \d: the loss is .*; a lower method\.lr"):
        list(search(resnet_problem(start=start), changed(lr=1e12), None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("a", 0.0),
        ("lambda", -0.1),
        ("width_mult", 1.5),
        ("num_widths", 1),
        ("fused_epochs", 0),
        ("lr_drops", [1.0]),
        ("batch_size", 1),
        ("zero_below", 1.0),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=rf"{key}: .* is not allowed; allowed: "):
        from_json(Config, {key: value})
