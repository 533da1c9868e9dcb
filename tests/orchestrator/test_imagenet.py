"""The ImageNet study's own settings, at its own resolution, for one step on generated JPEGs."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from cost_models.latency_table import LatencyTable, Timing
from orchestrator.config import StudyConfig, load_config
from orchestrator.plan import checked
from tests.orchestrator.generated_images import write_image_folder
from workers.trial import Trial, build_space, from_bytes, run

CLASSES, IMAGES = 10, 4


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    write_image_folder(tmp_path, classes=CLASSES, images=IMAGES, size=(320, 300))
    monkeypatch.setenv("PARETORAY_DATA", str(tmp_path))
    one_step = ["method.warmup_epochs=1", "method.epochs=1", "training.warmup_epochs=0"]
    small = ["method.batch_size=8", "training.epochs=1", "training.batch_size=8"]
    here = ["resources.gpus_per_worker=0", "resources.cpus_per_worker=2", "proxy.classes=1.0"]
    split = ["dataset.val_fraction=0.5"]
    return checked(load_config("prunet_imagenet", [*one_step, *small, *here, *split]))


def table(config: StudyConfig) -> LatencyTable:
    entries = {
        block.key: Timing(10.0 + index % 7, 0.1)
        for index, block in enumerate(build_space(config.as_dict()).all_blocks())
    }
    return LatencyTable("made up", "torch_cuda", "0", 1, 1, "float16", 1.0, entries)


def outcome(config: StudyConfig, root: Path, stage: Any, **more: Any) -> dict[str, Any]:
    start = more.pop("start", None)
    trial = Trial("one", stage, config.as_dict(), str(root), 1, **more)
    shared = {"data": None, "table": table(config).to_bytes(), "start": start}
    # In a process of its own: the allocator keeps most of the gigabytes that a stage takes.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        path = pool.submit(outcome_file, trial, shared).result()
    found: dict[str, Any] = from_bytes((root / path).read_bytes(), "outcome")
    return found


def outcome_file(trial: Trial, shared: dict[str, Any]) -> str:
    rows: list[dict[str, Any]] = []
    run(trial, shared, rows.append, torch.device("cpu"))
    path: str = rows[-1]["outcome"]
    return path


@pytest.mark.slow
def test_the_imagenet_study_takes_a_step_of_every_stage(study: StudyConfig, tmp_path: Path) -> None:
    assert study.space["in_shape"] == [3, 288, 288]
    start = outcome(study, tmp_path, "pretrain")["state"]
    point = {"alpha": 1.0, "phi": 1.1, "lambda": 0.55}
    (candidate,) = outcome(study, tmp_path, "search", point=point, start=start)["candidates"]
    assert candidate["metrics"]["search_latency_ms"] > 0
    smallest = build_space(study.as_dict()).presets["min"]
    (finished,) = outcome(study, tmp_path, "finish", architecture=smallest)["candidates"]
    assert finished["predictions"]["val"].shape == (CLASSES * IMAGES // 2,)


def test_the_imagenet_study_has_the_papers_sweep() -> None:
    config = load_config("prunet_imagenet")
    assert isinstance(config.sweep, tuple)
    assert config.sweep[0]["alpha"] == [2.0, 1.2, 1.0, 0.8, 0.6, 0.4, 0.2]  # section 4.1.1
    assert config.sweep[0]["lambda"] == [0.4, 0.55, 0.85]
    assert config.training.lr == 0.06  # section A.2.2
