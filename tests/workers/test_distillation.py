"""A student learns from a teacher; teachers that do not fit are refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from search_spaces.base import Architecture
from search_spaces.conv_fabric import ConvFabric
from search_spaces.gpunet import Config as SpaceConfig
from search_spaces.gpunet import GPUNet
from workers.datasets import DATASETS, Data
from workers.distillation import (
    Focal,
    Teacher,
    check_teacher,
    distillation_loss,
    focal_loss,
    load_teacher,
    taught_loss,
)
from workers.protocol import Problem
from workers.training import Recipe, finish, train

CPU = torch.device("cpu")
SPACE = GPUNet(SpaceConfig(preset="gpunet_8"))
ARCHITECTURE = SPACE.presets["gpunet1"]


@pytest.fixture(scope="module")
def few() -> Data:
    """A tenth of the digits."""
    entry, few = DATASETS["digits"], torch.arange(0, 1000, 10)
    digits = entry.load(entry.Config(), Path())
    return replace(
        digits, train=digits.train.subset(few), val=digits.val.subset(few[:35]), test=None
    )


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SPACE.build(ARCHITECTURE)


def test_distillation_loss_is_hintons() -> None:
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, 3.0), expected)
    assert distillation_loss(teacher, teacher, 3.0).abs() < 1e-6


@pytest.mark.parametrize("distance", ["kl", "logits"])
def test_focal_distillation_weighs_samples_one_by_one(distance: str) -> None:
    """The sum over samples as the paper writes it, and not the product of two means."""
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    labels = teacher.argmax(1)
    labels[:3] = (labels[:3] + 1) % 4  # which the teacher has wrong
    expected = 0.0
    for index in range(6):
        one = slice(index, index + 1)
        if distance == "kl":
            apart = distillation_loss(student[one], teacher[one], 100.0)
        else:
            apart = (student[index] - teacher[index]).square().sum()
        expected += (1 + 5 * (index >= 3)) * apart / 6
    found = focal_loss(Focal(distance=distance), student, teacher, labels, 100.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    plain = focal_loss(Focal(beta=0.0), student, teacher, labels, 3.0)
    torch.testing.assert_close(plain, distillation_loss(student, teacher, 3.0))


def test_focal_distillation_is_added_to_the_labels_loss() -> None:
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    labels, loss = torch.arange(6) % 4, torch.tensor(2.0)
    focal = Teacher("x", weight=0.3, temperature=3.0, focal=Focal())
    expected = 2 + 0.3 * focal_loss(Focal(), student, teacher, labels, 3.0)
    torch.testing.assert_close(taught_loss(focal, loss, student, teacher, labels), expected)
    plain = replace(focal, focal=None)
    expected = 0.7 * 2 + 0.3 * distillation_loss(student, teacher, 3.0)
    torch.testing.assert_close(taught_loss(plain, loss, student, teacher, labels), expected)


def test_focal_weights_that_teach_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha: -1\.0 is negative"):
        Focal(alpha=-1.0)
    with pytest.raises(ValueError, match=r"beta: 0\.0 leaves nothing to learn"):
        Focal(alpha=0.0, beta=0.0)


def teacher_folder(path: Path, model: nn.Module, architecture: Architecture = ARCHITECTURE) -> str:
    path.mkdir()
    (path / "architecture.json").write_text(json.dumps(architecture))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path / "weights.safetensors")
    return str(path)


def test_a_student_comes_near_its_teacher(few: Data, tmp_path: Path) -> None:
    taught = network()
    for _ in train(taught, few, Recipe(epochs=6, batch_size=25), seed=0, device=CPU):
        pass
    teacher = Teacher(teacher_folder(tmp_path / "teacher", taught), resolution=12, weight=1.0)
    recipe = Recipe(epochs=4, batch_size=25, teacher=teacher)
    problem = Problem(SPACE, few, None, lambda _: 0.0, 0, CPU)
    losses = [p.metrics["train_loss"] for p in finish(problem, ARCHITECTURE, recipe, None)]
    assert losses[-1] < 0.6 * losses[0]
    loaded = load_teacher(teacher, SPACE)
    for name, weight in taught.state_dict().items():
        assert loaded.state_dict()[name].equal(weight), name
    assert not any(param.requires_grad for param in loaded.parameters())


def test_teachers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'resnt18' is neither a folder nor a torchvision"):
        load_teacher(Teacher("resnt18"), SPACE)
    absent = Teacher(str(tmp_path / "absent"))
    reason = re.escape("absent/architecture.json cannot be read; expected the folder models/")
    with pytest.raises(ValueError, match=rf"training\.teacher\.network: .*{reason}"):
        load_teacher(absent, SPACE)
    folder = Path(teacher_folder(tmp_path / "teacher", network()))
    check_teacher(Teacher(str(folder)), SPACE)
    other = GPUNet(SpaceConfig(preset="gpunet_8", num_classes=11))
    with pytest.raises(ValueError, match="do not fit space gpunet with 11 classes"):
        check_teacher(Teacher(str(folder)), other)
    (folder / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"network: .*weights\.safetensors cannot be read"):
        check_teacher(Teacher(str(folder)), SPACE)
    (folder / "architecture.json").write_text("{}")
    with pytest.raises(ValueError, match=r"network: .*architecture\.json: .* is missing"):
        check_teacher(Teacher(str(folder)), SPACE)


def test_torchvision_teachers_must_fit_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    made = torchvision.models.squeezenet1_1(weights=None)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: made)
    with pytest.raises(ValueError, match="does not take images of 1 channels and 64 x 64 pixels"):
        load_teacher(Teacher("squeezenet1_1", resolution=64), SPACE)
    colour = GPUNet(SpaceConfig(preset="gpunet_8", in_shape=(3, 64, 64)))
    with pytest.raises(ValueError, match="knows 1000 classes; the data set has 10"):
        load_teacher(Teacher("squeezenet1_1"), colour)
    with pytest.raises(ValueError, match="not take images of 3 channels and 8 x 8 pixels; allowed"):
        check_teacher(Teacher("squeezenet1_1", resolution=8), colour)
    thousand = GPUNet(SpaceConfig(preset="gpunet_8", in_shape=(3, 64, 64), num_classes=1000))
    assert load_teacher(Teacher("squeezenet1_1"), thousand) is made


def test_a_teacher_of_maps_gives_them_at_the_labels_size(tmp_path: Path) -> None:
    space = ConvFabric(
        ConvFabric.Config(columns=2, scales=2, filters=2, in_shape=(3, 8, 8), head="segmentation")
    )
    full = space.presets["full"]
    folder = teacher_folder(tmp_path / "teacher", space.build(full), full)
    assert load_teacher(Teacher(folder), space)(torch.zeros(1, 3, 8, 8)).shape == (1, 10, 8, 8)
    with pytest.raises(ValueError, match=r"at resolution 16, .* maps of another size than the lab"):
        load_teacher(Teacher(folder, resolution=16), space)
