"""Candidates that a method trains together: grouped, finished in one trial, delivered, resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from orchestrator import dynamic, figures, load
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
ANY_WIDTH = """\
study: any_width
method:
  name: clipped_lasso
  widths: any
  num_widths: 3
  pretrain_epochs: 1
  epochs: 1
  fused_epochs: 1
  zero_below: 0.1
  batch_size: 128
space: {name: slimmable_resnet, shortcut: conv1x1, width_mult: 0.125}
dataset: {name: digits, val_fraction: 0.8}
cost: macs
sweep:
  - {penalty: [clipped], lambda: [2.0], a: [1.1]}
  - {penalty: [none], width_mult: [0.5]}
finish: all
baselines: [full]
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


@pytest.fixture(scope="module")
def any_width(file: Path) -> Path:
    """The directory of a study of networks that run at any width."""
    study, directory = file.with_name("any_width.yaml"), file.parent / "any_width"
    study.write_text(ANY_WIDTH)
    ended = tiny.serial(study, directory)
    assert (ended.code, ended.err) == (0, "")
    return directory


def record(candidate: str, **params: object) -> dict[str, object]:
    return {"candidate": candidate, "params": params, "architecture": {"name": candidate}}


def subnets(product: Path, but: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the subnets that a product lists, without some of their figures."""
    listed = json.loads((product / "subnets.json").read_text())["subnets"]
    return [{key: value for key, value in row.items() if key not in but} for row in listed]


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
        for row in subnets(fused / "products" / trial):
            assert (fused / "products" / trial / row["onnx"]).is_file()
            (found,) = [r for r in study.records if r["candidate"] == row["candidate"]]
            for latency in ("latency_measured_ms", "latency_batch128_ms", "latency_device"):
                assert row[latency] == found[latency]
            assert 0 < row["latency_measured_ms"] < row["latency_batch128_ms"]
    assert not (fused / "products" / "t000").exists()


def test_the_report_draws_all_subnets_of_a_network(fused: Path) -> None:
    page = (fused / "report.html").read_text()
    subnets = [r for r in load(str(fused)).records if r.get("subnet") is not None]
    assert any(not record["on_front"] for record in subnets)
    for record in subnets:
        assert f"{record['candidate']} · {record['params']['penalty']}<" in page


def test_widths_in_between_are_delivered_listed_and_drawn(any_width: Path) -> None:
    study = load(str(any_width))
    space = build_space(study.config)
    full = digest(space, space.presets["full"])
    for trial, penalty in (("f000", "clipped"), ("f001", "none")):
        found = [r for r in study.finished() if r["trial"] == trial]
        assert [(r["ratio"], r["params"]["penalty"]) for r in found] == [
            (ratio, penalty) for ratio in (0.0, 0.5, 1.0)
        ]
        macs = [r["macs"] for r in found]
        assert macs == sorted(set(macs))
        assert found[-1]["digest"] == full
        assert [row["ratio"] for row in subnets(any_width / "products" / trial)] == [0.0, 0.5, 1.0]
        load_dynamic(space, any_width / "products" / trial).set_subnet(0.5)
    figure = dynamic.over_widths(study)
    assert figure is not None
    lines = [(trace.xaxis, trace.name, len(trace.x)) for trace in figure.data]
    assert lines == [
        (axis, f"penalty = {penalty}", 3) for axis in ("x", "x2") for penalty in ("clipped", "none")
    ]
    assert list(figure.data[0].x) == [0.0, 0.5, 1.0]
    page = (any_width / "report.html").read_text()
    assert "<h2>Dynamic networks</h2>" in page
    assert 'id="figure-widths"' in page


def test_a_row_has_what_was_trained_together_alone_and_not_at_all(any_width: Path) -> None:
    study = load(str(any_width))
    known = {r["candidate"]: r for r in study.records}
    rows = {row.record["candidate"]: row for row in dynamic.rows(study)}
    assert list(rows) == ["f000.0", "f000.1", "f000.2", "f001.0", "f001.1", "f001.2"]
    for name, searched in (("f000.0", "t000"), ("f001.0", "t001")):
        assert rows[name].individual == known[searched]["val_accuracy"]
        assert rows[name].direct == known[searched]["direct_val_accuracy"]
    for name in ("f000.1", "f001.1"):  # nothing else has widths in between
        assert (rows[name].individual, rows[name].direct) == (None, None)
    for name in ("f000.2", "f001.2"):
        assert (rows[name].individual, rows[name].direct) == (known["full"]["val_accuracy"], None)


def test_compute_counts_what_was_trained_together_and_alone(any_width: Path) -> None:
    study = load(str(any_width))
    alone = {record["candidate"] for record in study.finished() if record.get("subnet") is None}
    figure = figures.hypervolume_over_compute(study)
    assert figure is not None
    minutes = figure.data[0].x
    took = study.trial_seconds()
    last = sum(took[stage, name] for stage, name in took if stage != "finish" or name in alone)
    last -= took["finish", "full"]  # hand-made networks are no part of the search
    assert 0 < minutes[0] < minutes[-1] == pytest.approx(last / 60)


def test_kinds_of_networks_have_symbols_of_their_own(any_width: Path) -> None:
    study = load(str(any_width))
    figure = figures.front(study)
    assert figure is not None
    drawn = {
        (text.split("</b>")[0].removeprefix("<b>"), trace.name == "direct"): symbol
        for trace in figure.data
        if isinstance(trace.marker.symbol, tuple)
        for text, symbol in zip(trace.text, trace.marker.symbol, strict=True)
    }
    together = {f"f00{trial}.{index}" for trial in range(2) for index in range(3)}
    assert {name for (name, _), symbol in drawn.items() if symbol == "circle"} == together
    assert {name for (name, _), symbol in drawn.items() if symbol == "diamond"} == {"t000", "t001"}
    direct = [trace for trace in figure.data if trace.name == "direct"]
    assert {trace.visible for trace in direct} == {"legendonly"}
    errors = {error for trace in direct for error in trace.y or () if error is not None}
    searched = [r for r in study.records if r.get("direct_val_accuracy") is not None]
    assert errors == {100 * (1 - r["direct_val_accuracy"]) for r in searched}
    assert {trace.name for trace in figure.data} >= {"dynamic", "individual"}


def test_widths_below_a_full_network_need_a_filter_that_vanished(file: Path) -> None:
    study, directory = file.with_name("nothing.yaml"), file.parent / "nothing"
    study.write_text(ANY_WIDTH)
    settings = ["sweep={penalty: [clipped], lambda: [0.0]}", "finish=none", "baselines=[]"]
    changes = [word for setting in settings for word in ("--set", setting)]
    ended = tiny.serial(study, directory, *changes)
    assert ended.code == 1
    assert "widths: any lie between the full network and a narrower one" in ended.line


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
    for trial in ("f000", "f001"):
        one, other = (folder / "products" / trial for folder in (fused, directory))
        name = "weights.safetensors"
        assert (one / name).read_bytes() == (other / name).read_bytes()
        assert subnets(one, but=tiny.MEASURED) == subnets(other, but=tiny.MEASURED)


def test_deleted_files_of_a_group_are_made_again(file: Path, fused: Path) -> None:
    before = tiny.rows(fused)
    (fused / "models/f000.0/weights.safetensors").unlink()
    (fused / "results/predictions/f001.0-val.parquet").unlink()
    ended = tiny.serial(file, fused)
    assert (ended.code, ended.err) == (0, "")
    assert (fused / "models/f000.0/weights.safetensors").is_file()
    assert tiny.rows(fused) == before
