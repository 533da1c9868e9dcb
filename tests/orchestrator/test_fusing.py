"""Candidates that a method trains together: grouped, finished in one trial, delivered, resumed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from orchestrator import load
from orchestrator.fusing import fusions
from search_spaces.base import digest
from tests.orchestrator import tiny
from workers.methods import METHODS
from workers.methods.clipped_lasso import load_dynamic
from workers.trial import build_space

STUDY = """\
study: fused
method: {name: clipped_lasso, pretrain_epochs: 1, epochs: 2, fused_epochs: 2, batch_size: 128}
space: {name: slimmable_resnet, shortcut: conv1x1, width_mult: 0.125}
dataset: digits
cost: macs
sweep:
  - {penalty: [clipped], lambda: [0.5], a: [0.9, 1.1]}
  - {penalty: [none], width_mult: [0.5]}
finish: none
training: {epochs: 1}
"""
DEATHS = {
    "amid training": tiny.die_after("checkpoints/fuse-f000"),
    "before anything is published": tiny.die_after("outcomes/fuse-f000"),
    "amid a model": tiny.die_amid("models/f000.1/weights"),
    "between two rows": tiny.die_after("results/candidates/f000.1"),
    "after the first group": tiny.die_after("results/history/fuse-f000"),
    "in the second group": tiny.die_after("checkpoints/fuse-f001"),
    "amid the product": tiny.die_amid("products/f001/subnets.json"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fused") / "study.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def fused(file: Path) -> Path:
    """The directory of the study, run without interruption."""
    directory = file.parent / "done"
    ended = tiny.serial(file, directory)
    assert (ended.code, ended.err) == (0, "")
    return directory


def record(candidate: str, **params: object) -> dict[str, object]:
    return {"candidate": candidate, "params": params, "architecture": {"name": candidate}}


def test_those_that_differ_in_the_named_params_alone_are_one_group() -> None:
    records = [
        record("t000", penalty="clipped", a=1.0, seed=0),
        record("t001", penalty="clipped", a=1.5, seed=0),
        record("t002", penalty="none", width_mult=0.5, seed=0),
        record("t003", penalty="clipped", a=1.0, seed=1),
        record("t004", penalty="clipped", a=2.0, seed=0),
    ]
    chosen = {"t000", "t001", "t002", "t003"}
    found = fusions(METHODS["clipped_lasso"], records, chosen)
    assert [group.trial for group in found] == ["f000", "f001", "f002"]
    assert [group.point for group in found] == [
        {"penalty": "clipped", "seed": 0},
        {"penalty": "none", "seed": 0},
        {"penalty": "clipped", "seed": 1},
    ]
    assert found[0].architectures == ({"name": "t000"}, {"name": "t001"})
    assert fusions(METHODS["prunet"], records, chosen) == []


def test_a_group_is_finished_together(fused: Path) -> None:
    study = load(str(fused))
    finished = {r["candidate"]: r for r in study.records if r["stage"] == "finished"}
    searched = [r for r in study.records if r["stage"] == "searched"]
    assert {r["candidate"] for r in searched} == {"t000", "t001", "t002"}
    space = build_space(study.config)
    networks = {r["digest"] for r in searched if r["params"]["penalty"] == "clipped"}
    networks.add(digest(space, space.presets["full"]))
    together = [r for name, r in finished.items() if name.startswith("f000.")]
    assert {r["digest"] for r in together} == networks
    assert {name.split(".")[0] for name in finished} == {"f000", "f001"}
    assert all(r["params"] == {"penalty": "clipped", "seed": 0} for r in together)
    for name in finished:
        assert (fused / "models" / name / "model.onnx").is_file()
        assert name in study.predicted("val")
    assert set(study.trial_seconds()) >= {("fuse", "f000"), ("fuse", "f001")}


def test_the_product_runs_at_every_width(fused: Path) -> None:
    study = load(str(fused))
    space = build_space(study.config)
    for trial in ("f000", "f001"):
        network = load_dynamic(space, fused / "products" / trial)
        names = [r["candidate"] for r in study.records if r["trial"] == trial]
        assert len(network.subnets) == len(names)
    assert not (fused / "products" / "t000").exists()


def test_the_report_draws_all_subnets_of_a_network(fused: Path) -> None:
    page = (fused / "report.html").read_text()
    subnets = [r for r in load(str(fused)).records if r.get("subnet") is not None]
    assert any(not record["on_front"] for record in subnets)
    for record in subnets:
        assert f"{record['candidate']} · {record['params']['penalty']}<" in page


def test_a_driver_killed_while_it_fuses_repeats_nothing_that_had_ended(
    file: Path, fused: Path
) -> None:
    directory = file.parent / "killed"
    for where, death in DEATHS.items():
        ended = tiny.serial(file, directory, changes=[tiny.checkpoint_always, death])
        assert ended.code == -signal.SIGKILL, (where, ended.err)
        load(str(directory))
    ended = tiny.serial(file, directory, changes=[tiny.checkpoint_always])
    assert (ended.code, ended.err) == (0, "")
    assert tiny.rows(directory) == tiny.rows(fused)
    assert tiny.predictions(directory) == tiny.predictions(fused)
    for product in sorted((fused / "products").rglob("*.*")):
        again = directory / product.relative_to(fused)
        assert again.read_bytes() == product.read_bytes()


def test_deleted_files_of_a_group_are_made_again(file: Path, fused: Path) -> None:
    before = tiny.rows(fused)
    (fused / "models/f000.0/weights.safetensors").unlink()
    (fused / "results/predictions/f001.0-val.parquet").unlink()
    ended = tiny.serial(file, fused)
    assert (ended.code, ended.err) == (0, "")
    assert (fused / "models/f000.0/weights.safetensors").is_file()
    assert tiny.rows(fused) == before
