"""The ready studies of clipped-Lasso subnets: the paper's settings, and a step of each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config import StudyConfig, load_config
from orchestrator.plan import checked
from tests.orchestrator.generated_images import write_image_folder
from workers.trial import Trial, build_space, from_bytes, run

CLASSES, IMAGES = 10, 2
STUDIES = ("digits", "fashion_mnist", "cifar10", "cifar10_jpeg", "imagenet")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    write_image_folder(tmp_path, classes=CLASSES, images=IMAGES, size=(240, 256))
    monkeypatch.setenv("PARETORAY_DATA", str(tmp_path))
    one_step = ["method.pretrain_epochs=1", "method.epochs=1", "method.fused_epochs=1"]
    small = ["method.batch_size=8", "training.epochs=1", "training.batch_size=8"]
    here = ["resources.gpus_per_worker=0", "resources.cpus_per_worker=2"]
    split = ["dataset.val_fraction=0.5"]
    return checked(load_config("clipped_lasso_imagenet", [*one_step, *small, *here, *split]))


def outcome(config: StudyConfig, root: Path, stage: Any, **more: Any) -> dict[str, Any]:
    shared = {"data": None, "table": None, "start": more.pop("start", None)}
    trial = Trial("one", stage, config.as_dict(), str(root), 1, **more)
    rows: list[dict[str, Any]] = []
    run(trial, shared, rows.append, torch.device("cpu"))
    found: dict[str, Any] = from_bytes((root / rows[-1]["outcome"]).read_bytes(), "outcome")
    return found


@pytest.mark.slow
def test_the_imagenet_study_takes_a_step_of_every_stage(study: StudyConfig, tmp_path: Path) -> None:
    assert study.space["in_shape"] == [3, 224, 224]
    start = outcome(study, tmp_path, "pretrain")["state"]
    point = {"penalty": "clipped", "lambda": 0.01, "a": 1.5}
    (candidate,) = outcome(study, tmp_path, "search", point=point, start=start)["candidates"]
    space = build_space(study.as_dict())
    assert candidate["architecture"].keys() == space.presets["full"].keys()
    narrow = space.uniform(0.25)  # type: ignore[attr-defined]
    together = outcome(study, tmp_path, "fuse", point=point, architectures=(narrow,))
    assert [found["architecture"] for found in together["candidates"]] == [
        narrow,
        space.presets["full"],
    ]
    (finished,) = outcome(study, tmp_path, "finish", architecture=narrow)["candidates"]
    assert finished["predictions"]["val"].shape == (CLASSES * IMAGES // 2,)


def clipped(name: str) -> dict[str, Any]:
    """Return the part of a study's sweep that the clipped Lasso has."""
    config = load_config(name)
    assert isinstance(config.sweep, tuple)
    (part,) = [part for part in config.sweep if part["penalty"] == ["clipped"]]
    return part


def test_the_full_studies_have_the_papers_settings() -> None:
    """Section IV-A; the epochs at which the learning rate falls are shares here."""
    a = {"clipped_lasso_cifar10": [0.3, 0.75, 1.5], "clipped_lasso_imagenet": [0.25, 0.5, 1.5]}
    drops = {"clipped_lasso_cifar10": [80, 120, 160], "clipped_lasso_imagenet": [30, 60, 90]}
    for name, values in a.items():
        assert load_config(name).baselines == ("full",)  # subnet4 of Tables I and II, "Individual"
        assert (clipped(name)["lambda"], clipped(name)["a"]) == ([0.01], values)
        method = load_config(name).component("method")
        assert method.lr == 0.1
        for epochs in (method.pretrain_epochs, method.epochs, method.fused_epochs):
            assert [share * epochs for share in method.lr_drops] == pytest.approx(drops[name])


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_the_uniform_widths_of_slimmable_networks_beside_it(name: str) -> None:
    config = load_config(f"clipped_lasso_{name}")
    assert isinstance(config.sweep, tuple)
    uniform = {"penalty": ["none"], "width_mult": [0.25, 0.5, 0.75]}
    assert uniform in [dict(part) for part in config.sweep]
    has_group_lasso = any(part["penalty"] == ["group"] for part in config.sweep)
    assert has_group_lasso == (name != "imagenet")  # where the paper has it
    assert len(clipped(f"clipped_lasso_{name}")["a"]) >= 3
