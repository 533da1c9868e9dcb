"""REG-NAS's ready studies: the sizes of their searches, and a step of the one on ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config import StudyConfig, load_config
from orchestrator.plan import checked
from tests.orchestrator.generated_images import write_image_folder
from workers.trial import Trial, build_space, from_bytes, make_predictor, run

CLASSES, IMAGES = 10, 2
ONE = "{epochs: 1, lr: 0.001}"
SHORT = (
    f"method.supernet.full={ONE}",
    *(f"method.supernet.{phase}=[{ONE}]" for phase in ("kernel", "depth", "expand")),
    "method.supernet.batch_size=10",
    "method.population=2",
    "method.generations=1",
    "method.calibration_images=10",
    "training.inherited_epochs=null",
    "training.epochs=1",
    "training.warmup_epochs=0",
    "training.batch_size=10",
    "dataset.val_fraction=0.5",
    "resources.gpus_per_worker=0",
    "resources.cpus_per_worker=2",
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    write_image_folder(tmp_path, classes=CLASSES, images=IMAGES, size=(240, 256))
    monkeypatch.setenv("PARETORAY_DATA", str(tmp_path))
    return checked(load_config("reg_nas_imagenet", SHORT))


def trial(config: StudyConfig, root: Path, stage: Any, **more: Any) -> Trial:
    return Trial("one", stage, config.as_dict(), str(root), 1, **more)


def outcome(work: Trial, shared: dict[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    run(work, shared, rows.append, torch.device("cpu"))
    found: dict[str, Any] = from_bytes((Path(work.root) / rows[-1]["outcome"]).read_bytes(), "it")
    return found


@pytest.mark.slow
def test_the_imagenet_study_takes_a_step_of_every_stage(study: StudyConfig, tmp_path: Path) -> None:
    assert study.space["in_shape"] == [3, 224, 224]
    shared: dict[str, Any] = {"data": None, "table": None, "start": None}
    shared["start"] = outcome(trial(study, tmp_path, "pretrain"), shared)["state"]
    point = {"reward": "r2", "cas": True, "lambda_ratio": 2}
    search = trial(study, tmp_path, "search", point=point)
    shared["predict"] = make_predictor(search, shared)
    reference, target = outcome(search, shared)["candidates"]
    space = build_space(study.as_dict())
    for candidate in (reference, target):
        space.build(candidate["architecture"]).load_state_dict(candidate["weights"])
    assert 0 <= target["metrics"]["search_nfr"] <= reference["metrics"]["val_accuracy"]
    finish = trial(study, tmp_path, "finish", architecture=space.presets["min"])
    (finished,) = outcome(finish, {**shared, "start": None})["candidates"]
    assert finished["predictions"]["val"].shape == (CLASSES * IMAGES // 2,)


@pytest.mark.parametrize("name", ["reg_nas_fashion_mnist", "reg_nas_cifar10_jpeg"])
def test_studies_to_compare_search_alike(name: str) -> None:
    """On 5,000 images: a twelfth of 60,000, a tenth of 50,000."""
    config = load_config(name)
    method = config.component("method")
    assert (method.population, method.generations) == (32, 10)
    images = {"reg_nas_fashion_mnist": 6000, "reg_nas_cifar10_jpeg": 5000}[name]  # of a class
    assert 10 * round(images * config.dataset["val_fraction"]) == 5000
    points = {(point["reward"][0], point["cas"][0]): point["seed"] for point in config.sweep}
    assert points == {("r0", False): [0, 1, 2], ("r2", True): [0, 1, 2]}
