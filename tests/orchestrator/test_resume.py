"""A study that was killed wherever it hurts ends up as one that was not."""

from __future__ import annotations

import json
import re
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from orchestrator import load
from tests.orchestrator import tiny
from workers.storage import TEMPORARY_SUFFIX

DEATHS = {
    "measure": tiny.die_after("latency-partial.parquet"),
    "amid the latency table": tiny.die_amid("latency.parquet"),
    "pretrain": tiny.die_after("checkpoints/pretrain-"),
    "before the supernet is kept": tiny.die_after("outcomes/pretrain-"),
    "search": tiny.die_after("checkpoints/search-t000"),
    "amid a candidate's row": tiny.die_amid("results/candidates/t000"),
    "between a trial's row and its end": tiny.die_after("results/candidates/t000"),
    "amid the second trial": tiny.die_after("checkpoints/search-t001"),
    "select": tiny.die_after("selection.json"),
    "finish": tiny.die_after("checkpoints/finish-"),
    "before a finished row": tiny.die_after("results/history/finish-gpunet1"),
    "amid the second network": tiny.die_after("checkpoints/finish-t000"),
    "after a finished row": tiny.die_after("results/candidates/t000"),
    "amid the front": tiny.die_after("results/candidates/gpunet1"),
    "amid test figures": tiny.die_after("results/predictions/t000-test"),
    "before the report": tiny.die_amid("report.html"),
    "report": tiny.die_after("report.html"),
    "amid MLflow": tiny.die_logging(3),
}
DIVERGES = """\
study: diverges
method: {name: budgeted, warmup_epochs: 1, epochs: 8, batch_size: 128, lr: 3, weight_decay: 2}
space: {name: resnet_fabric, depth: 8, filters: 8}
dataset: digits
sweep: {budget: [1.0e5], lambda: [1.0e-6]}
"""  # weights grow about fivefold with every step, until they overflow
FINISHED = ("results/history/search-", "results/history/finish-", "supernet.pt", "latency.parquet")


def same_as(done: Path, directory: Path) -> bool:
    """Tell whether a study has the results of the uninterrupted one."""
    assert tiny.rows(directory) == tiny.rows(done)
    assert tiny.predictions(directory) == tiny.predictions(done)
    history = load(str(directory)).history()
    assert not history.duplicated(["trial", "stage", "step", "metric"]).any()
    assert len(history) == len(load(str(done)).history())
    names = [run.info.run_name for run in tiny.mlflow_runs(directory)]
    assert sorted(names) == ["tiny", "tiny/gpunet1", "tiny/t000", "tiny/t001"]
    return True


def test_a_driver_killed_in_every_stage_repeats_nothing_that_had_ended(
    runs: Path, done: Path, tmp_path: Path
) -> None:
    file, directory = tiny.write_study(tmp_path / "tiny.yaml"), runs / "killed"
    log = tmp_path / "measured.txt"
    always = [partial(tiny.measure_made_up, log), tiny.checkpoint_always]
    kept: dict[str, int] = {}
    for where, death in DEATHS.items():
        ended = tiny.serial(file, directory, changes=[*always, death])
        assert ended.code == -signal.SIGKILL, (where, ended.err)
        load(str(directory))
        now = tiny.files(directory)
        changed = [path for path, when in kept.items() if now.get(path) != when]
        assert changed == [], where
        ours = {path: when for path, when in now.items() if path.startswith(FINISHED)}
        kept |= {} if "row" in where else ours  # its history came before the row that counts
    ended = tiny.serial(file, directory, changes=always)
    assert (ended.code, ended.err) == (0, "")
    assert same_as(done, directory)
    measured = log.read_text().split()
    assert sorted(measured) == sorted({block.key for block in tiny.blocks()})
    left = {path.split("/")[0] for path in tiny.files(directory)}
    assert not list(directory.rglob(f"*{TEMPORARY_SUFFIX}"))
    assert left == {path.split("/")[0] for path in tiny.files(done)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_names_the_line_that_resumes(
    study_file: Path, tmp_path: Path, number: int
) -> None:
    directory = tmp_path / "a folder"
    change = tiny.die_after("checkpoints/pretrain-", number)
    ended = tiny.serial(study_file, directory, changes=[change])
    assert ended.code == 130
    assert ended.err.count("\n") == 1
    assert ended.line.startswith("paretoray: tiny: interrupted; resume with: ")
    resumed = tiny.paretoray(*ended.resume, changes=[tiny.die_after("supernet.pt", number)])
    assert resumed.code == 130
    assert (directory / "supernet.pt").exists()


def test_points_stay_once_they_are_proposed(study_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "study"
    proposed = directory / "points" / "000000.json"
    tiny.serial(study_file, directory, changes=[tiny.die_after("points/000000")])
    points = [{"alpha": 0.7}, {"alpha": 3.0}]
    assert json.loads(proposed.read_text())["points"][1] == points[1]
    proposed.write_text(json.dumps({"points": points}))
    ended = tiny.serial(study_file, directory)
    assert (ended.code, ended.err) == (0, "")
    found = {row["candidate"]: row["params"] for row in tiny.rows(directory)}
    assert [{"alpha": found[name]["alpha"]} for name in ("t000", "t001")] == points


def test_deleted_files_are_made_again(study_file: Path, done: Path, copy: Path) -> None:
    for path in ("results/candidates/t001.parquet", "results/predictions/t000-val.parquet"):
        (copy / path).unlink()
    (copy / "models/gpunet1/weights.safetensors").unlink()
    (copy / "latency.parquet").unlink()
    ended = tiny.serial(study_file, copy)
    assert (ended.code, ended.err) == (0, "")
    assert same_as(done, copy)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    file, directory = tmp_path / "diverges.yaml", tmp_path / "study"
    file.write_text(DIVERGES)
    ended = tiny.serial(file, directory)
    assert ended.code == 1
    told = re.search(r"FloatingPointError: epoch (\d): (train_loss is|weights are)", ended.line)
    assert told, ended.err
    kept = torch.load(directory / "checkpoints" / "search-t000-0001.pt", weights_only=True)
    assert 1 <= kept["state"]["epoch"] - 1 == kept["history"][-1]["step"] < int(told[1])
    assert kept["state"]["logits_E"].isfinite().all()
    assert all(weight.isfinite().all() for weight in kept["state"]["network"].values())
    again = tiny.serial(file, directory)
    assert told[0] in again.line
