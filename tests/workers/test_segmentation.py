"""Labels that are maps: what counts in loss and figures, training, proxies, spaces, teachers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.conv_fabric import ConvFabric
from search_spaces.gpunet import GPUNet
from workers.augment import Augmentation
from workers.datasets import IGNORED, Data, TensorSplit, from_arrays, proxy, to_arrays, truth
from workers.distillation import Teacher
from workers.draws import Draws, cut
from workers.evaluation import evaluate
from workers.inputs import check_augmentation, check_output, network_input, training_batch
from workers.metrics import mean_iou
from workers.protocol import Problem
from workers.training import Recipe, _Training, finish, train

CPU = torch.device("cpu")
FABRIC = ConvFabric(
    ConvFabric.Config(
        columns=2, scales=3, filters=4, in_shape=(3, 8, 12), num_classes=3, head="segmentation"
    )
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(generator(seed), cut(count, 0, 1))


def patches(count: int, seed: int) -> TensorSplit:
    """Noise in three patches, each brightest in its own colour, which is its class; a fifth of the
    pixels, drawn at random, is ignored."""
    labels = torch.randint(3, (count, 2, 3), generator=generator(seed))
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = torch.randint(0, 100, (count, 3, 8, 12), generator=generator(seed), dtype=torch.uint8)
    images += 100 * functional.one_hot(labels, 3).permute(0, 3, 1, 2).to(torch.uint8)
    ignored = torch.rand(labels.shape, generator=generator(seed)) < 0.2
    return TensorSplit(images, torch.where(ignored, IGNORED, labels).to(torch.int16))


@pytest.fixture(scope="module")
def data() -> Data:
    splits = (patches(24, 1), patches(10, 2), patches(6, 3))
    return Data("patches", *splits, 3, (0.3,) * 3, (0.2,) * 3)


def painter() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))


# --- Figures ---


def test_figures_are_those_of_the_labelled_pixels(data: Data) -> None:
    model = painter()
    images, labels = data.val.batch(torch.arange(10))
    assert labels.dtype == torch.int64
    logits = model(network_input(images, data)).detach().permute(0, 2, 3, 1)[labels != IGNORED]
    counted = labels[labels != IGNORED]
    found = evaluate(model, data.val, data)
    assert 0.7 < len(counted) / labels.numel() < 0.9
    assert found.predictions_N.equal(logits.argmax(1).to(torch.int16))
    assert truth(data.val).equal(counted)
    assert found.loss == pytest.approx(functional.cross_entropy(logits, counted).item(), 1e-5)
    assert found.accuracy == pytest.approx((logits.argmax(1) == counted).float().mean().item())
    assert found.mean_iou == mean_iou(found.predictions_N, counted)
    assert set(found.metrics("val")) == {"val_accuracy", "val_loss", "val_mean_iou"}


def test_figures_do_not_depend_on_the_batches(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    model = painter()
    whole = evaluate(model, data.val, data)
    monkeypatch.setattr("workers.evaluation.MAX_PIXELS", 3 * 8 * 12)
    sizes: list[int] = []
    model.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    parts = evaluate(model, data.val, data)
    assert sizes == [3, 3, 3, 1]
    assert parts.predictions_N.equal(whole.predictions_N)
    assert parts.loss == pytest.approx(whole.loss, 1e-5)
    assert parts.mean_iou == whole.mean_iou


def test_ignored_pixels_count_for_nothing(data: Data) -> None:
    """Neither their labels' values nor the teacher's opinion of them enters the loss."""
    recipe = Recipe(batch_size=4, teacher=Teacher("anything", weight=0.5))
    images, labels = data.train.batch(torch.arange(4))
    x = network_input(images, data)

    def teacher(seed: int) -> nn.Module:
        """Logits that are the seed's where pixels are ignored, and the image's elsewhere."""
        odd = torch.randn(x.shape, generator=generator(seed))
        module = nn.Identity()
        module.forward = lambda x: torch.where((labels == IGNORED)[:, None], odd, x)
        return module

    first, second = (
        _Training(painter(), recipe, CPU, teacher(seed)).loss(x, labels) for seed in (1, 2)
    )
    assert first.equal(second)
    other = _Training(painter(), recipe, CPU, nn.Softmax(1)).loss(x, labels)
    assert not first.equal(other)


# --- Training ---


def test_training_learns_and_repeats_bit_for_bit(data: Data) -> None:
    recipe = Recipe(epochs=12, batch_size=6, optimizer="adam", lr=0.03)
    recipe = replace(recipe, augment=Augmentation(flip=True), label_smoothing=0.01)

    def run() -> list[dict[str, float]]:
        steps = train(painter(), data, recipe, seed=3, device=CPU)
        return [
            {name: value for name, value in step.metrics.items() if name != "epoch_s"}
            for step in steps
        ]

    metrics, untrained = run(), evaluate(painter(), data.val, data).metrics("val")
    assert untrained["val_mean_iou"] < 0.5
    assert metrics[-1]["val_mean_iou"] > 0.9
    assert metrics[-1]["val_accuracy"] > 0.95
    assert run() == metrics


def test_images_and_maps_turn_together_and_anew(data: Data) -> None:
    images, labels = data.train.batch(torch.arange(24))
    x, turned = training_batch(images, labels, data, Augmentation(flip=True), draws(24, 1))
    plain = network_input(images, data)
    mirrored = 0
    for index in range(24):
        flip = not x[index].equal(plain[index])
        mirrored += flip
        assert x[index].equal(plain[index].flip(-1) if flip else plain[index])
        assert turned[index].equal(labels[index].flip(-1) if flip else labels[index])
    assert 6 <= mirrored <= 18
    again, _ = training_batch(images, labels, data, Augmentation(flip=True), draws(24, 1))
    assert again.equal(x)
    kept, same = training_batch(images, labels, data, Augmentation(), draws(24, 1))
    assert kept.equal(plain)
    assert same.equal(labels)


def test_a_fabric_with_a_segmentation_head_is_finished(data: Data) -> None:
    problem = Problem(FABRIC, data, None, lambda *_: 0.0, 0, CPU)
    recipe = Recipe(epochs=2, batch_size=8, optimizer="sgd", lr=0.1)
    *_, last = finish(problem, FABRIC.presets["full"], recipe, None)
    (candidate,) = last.candidates
    network = FABRIC.build(candidate.architecture)
    network.load_state_dict(candidate.weights)
    found = evaluate(network, data.val, data)
    assert candidate.metrics == found.metrics("val")
    assert candidate.predictions["val"].equal(found.predictions_N)
    assert candidate.predictions["val"].shape == truth(data.val).shape


# --- What is refused ---


@pytest.mark.parametrize(
    ("augmentation", "kind", "key"),
    [
        (Augmentation(pad=4), "label_maps", r"augment\.pad: 4 .* label_maps; allowed: flip$"),
        (Augmentation(policy="rand_augment"), "label_maps", r"augment\.policy: 'rand_augment'"),
        (Augmentation(flip=True, erase=0.5), "label_maps", r"augment\.erase: 0\.5"),
        (Augmentation(min_crop_area=0.5), "label_maps", r"augment\.min_crop_area: 0\.5"),
        (Augmentation(shift_ms=10), "label_maps", r"augment\.shift_ms: 10"),
        (Augmentation(noise_share=0.8), "images", r"augment\.noise_share: 0\.8 .* to images"),
        (Augmentation(pad=4), "clips", r"augment\.pad: 4 .* to clips; allowed: shift_ms, noise_sh"),
    ],
)
def test_what_cannot_be_done_to_samples_is_refused(
    augmentation: Augmentation, kind: str, key: str
) -> None:
    with pytest.raises(ValueError, match=key):
        check_augmentation(augmentation, kind)


def test_what_can_be_done_to_samples_is_not_refused() -> None:
    check_augmentation(Augmentation(flip=True), "label_maps")
    check_augmentation(Augmentation(shift_ms=100, noise_share=0.8, noise_volume=0.05), "clips")
    everything = Augmentation(0.5, 2, True, "rand_augment", 8, 0.4, 3, 0.1)
    check_augmentation(everything, "images")


def test_training_on_maps_refuses_what_would_part_them_from_images(data: Data) -> None:
    recipe = Recipe(epochs=1, batch_size=6, augment=Augmentation(pad=1))
    with pytest.raises(ValueError, match=r"augment\.pad: 1 cannot be done to label_maps"):
        next(train(painter(), data, recipe, seed=0, device=CPU))


def test_a_space_must_give_what_labels_need() -> None:
    check_output(FABRIC, "label_maps")
    classifier = GPUNet(GPUNet.Config(preset="gpunet_8"))
    check_output(classifier, "images")
    with pytest.raises(
        ValueError, match=r"gpunet gives .* \[10\]; .* label_maps needs \[10, 8, 8\]"
    ):
        check_output(classifier, "label_maps")
    with pytest.raises(
        ValueError, match=r"conv_fabric gives .* \[3, 8, 12\]; .* images needs \[3\]"
    ):
        check_output(FABRIC, "images")


def test_a_proxy_is_a_share_of_the_images(data: Data) -> None:
    small = proxy(data, images=0.5, seed=1)
    assert (len(small.train), len(small.val), len(small.test)) == (12, 5, 6)
    assert small.train.labels_N.dtype == torch.int16
    again = proxy(data, images=0.5, seed=1)
    assert again.train.labels_N.equal(small.train.labels_N)
    many = replace(data, num_classes=100)
    with pytest.raises(ValueError, match=r"proxy\.classes: .* allowed: proxy\.images"):
        proxy(many, classes=0.5, seed=1)


def test_arrays_carry_maps(data: Data) -> None:
    arrays = dict(to_arrays(data) or {})
    again = from_arrays(arrays)
    assert again.front_end is None
    assert again.val.labels_N.equal(data.val.labels_N)
    assert again.val.labels_N.data_ptr() == arrays["val_labels"].ctypes.data
