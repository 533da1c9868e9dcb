"""Broken surroundings end with one clear line and the right code; earlier results stay readable."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from orchestrator import load
from tests.orchestrator import tiny
from tests.orchestrator.tiny import Ended

BAD_INPUT, FAILED = 2, 1


def refused(ended: Ended, *parts: str, code: int = BAD_INPUT) -> None:
    """Hold an end to one line on the errors that says all this."""
    assert ended.code == code, ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert ended.line.startswith("paretoray: ")
    for part in parts:
        assert part in ended.line


@dataclass(frozen=True)
class Damage:
    """A file that is cut short, and what is deleted first so that somebody needs it."""

    file: str
    deleted: tuple[str, ...] = ()
    like: str | None = None  # the file whose contents it has, if it is not there
    more: bytes = b""
    readable: bool = True  # by `load`, with the file as it is


ROW, REPORT = "results/candidates/t001.parquet", "report.html"
TABLE, SUPERNET, SAVED = "latency.parquet", "supernet.pt", "checkpoints"
DAMAGES = {
    "study": Damage("study.yaml", more=b"\xff", readable=False),
    "attempt": Damage("attempt"),
    "latency table": Damage(TABLE),
    "half of the table": Damage("latency-partial.parquet", deleted=(TABLE,), like=TABLE),
    "supernet": Damage(SUPERNET, deleted=(ROW,)),
    "pretraining": Damage(f"{SAVED}/pretrain-supernet-0001.pt", deleted=(SUPERNET,), like=SUPERNET),
    "searching": Damage(f"{SAVED}/search-t001-0001.pt", deleted=(ROW,), like=SUPERNET),
    "points": Damage("points/000000.json"),
    "selection": Damage("selection.json"),
    "row": Damage(ROW),
    "predictions": Damage("results/predictions/t000-val.parquet", deleted=(REPORT,)),
    "weights": Damage("models/t000/weights.safetensors", deleted=(REPORT,)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named(damage: Damage, study_file: Path, table: Path, copy: Path) -> None:
    origin = copy / (damage.like or damage.file)
    whole = origin.read_bytes()
    for path in damage.deleted:
        (copy / path).unlink()
    damaged = copy / damage.file
    if damage.deleted == (TABLE,):  # measured here, not read from a table
        study_file = copy / "study.yaml"
        study_file.write_text(study_file.read_text().replace(str(table), "null"))
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(whole[: len(whole) // 2] + damage.more)
    kept = [r for r in (copy / "results" / "candidates").iterdir() if r.name != Path(ROW).name]
    refused(tiny.serial(study_file, copy), f"{copy}/{damage.file}: ")
    if damage.readable:
        names = {record["candidate"] for record in load(str(copy)).records}
        assert names >= {path.stem for path in kept}
    assert not pd.read_parquet(kept).empty


def test_a_table_that_lacks_a_block_names_it(study_file: Path, tmp_path: Path, copy: Path) -> None:
    first, *rest = tiny.blocks()
    table = tmp_path / "table.parquet"
    table.write_bytes(tiny.made_up_table(rest).to_bytes())
    ended = tiny.serial(study_file, tmp_path / "new", "--set", f"latency.table={table}")
    refused(ended, "latency.table: ", first.key, "is missing")
    assert not (tmp_path / "new").exists()
    shutil.copy(table, copy / "latency.parquet")
    refused(tiny.serial(study_file, copy), f"{copy}/latency.parquet: ", first.key)


def test_a_table_of_another_device_is_not_mixed_with_ours(tmp_path: Path) -> None:
    directory = tmp_path / "study"
    file = tiny.write_study(tmp_path / "tiny.yaml")
    directory.mkdir()
    table = tiny.made_up_table(tiny.blocks()[:3])
    (directory / "latency-partial.parquet").write_bytes(table.to_bytes())
    ended = tiny.serial(file, directory, changes=[tiny.measure_elsewhere])
    refused(ended, "latency-partial.parquet: ", "differ in device", "delete it")


def test_a_folder_that_is_a_file_is_named(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for executor in ("serial", "ray"):
        target = tmp_path / "file" / "study"
        ended = tiny.paretoray("run", study_file, "--dir", target, "--executor", executor)
        refused(ended, f"{target}: cannot be written: Not a directory")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_study_goes_on_elsewhere(
    study_file: Path, small_disk: Path, tmp_path: Path
) -> None:
    ended = tiny.serial(study_file, small_disk / "study")
    refused(ended, "cannot be written: No space left on device", "resume with", code=FAILED)
    assert load(str(small_disk / "study")).name == "tiny"
    shutil.copytree(small_disk / "study", tmp_path / "study")
    changes = [tiny.die_after("outcomes/search-t000")]
    assert tiny.serial(study_file, tmp_path / "study", changes=changes).code == -9


def test_a_directory_that_is_read_only_is_named(study_file: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    target = small_disk / "study"
    ended = tiny.serial(study_file, target)
    refused(ended, f"{target}: cannot be written: Read-only file system")


def test_a_file_that_cannot_grow_is_named(study_file: Path, copy: Path) -> None:
    (copy / ROW).unlink()
    ended = tiny.serial(study_file, copy, changes=[tiny.limit_files(30_000)])
    refused(ended, "checkpoints/search-t001", "cannot be written: File too large", code=FAILED)
    assert len(load(str(copy)).records) == 2


def test_missing_data_are_named(study_file: Path, tmp_path: Path) -> None:
    settings = ("--set", "dataset=fashion_mnist", "--set", "space.preset=gpunet_28")
    empty = {"PARETORAY_DATA": str(tmp_path)}
    ended = tiny.serial(study_file, tmp_path / "study", *settings, environment=empty)
    refused(ended, "fashion_mnist", str(tmp_path))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--set", "resources.workers=1000"), ("resources.workers: 1000 x 1 CPU", "the cluster")),
        (("--set", "resources.gpus_per_worker=99"), ("resources.workers", "99 GPU")),
        (("--address", "127.0.0.1:1"), ("--address 127.0.0.1:1: no Ray cluster there",)),
        (("--set", "reference=/nowhere/t000"), ("reference: /nowhere: ",)),
        (("--set", "latency.resources={edge: 1}"), ("no node has the 1 edge", "latency.resources")),
        (("--set", "method.alpha=.nan"), ("method.alpha: nan is not a finite number",)),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(
    study_file: Path, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    ended = tiny.paretoray("run", study_file, "--dir", tmp_path / "study", *arguments)
    refused(ended, *parts)
    assert not (tmp_path / "study").exists()


def test_a_reference_without_that_candidate_is_refused(study_file: Path, done: Path) -> None:
    ended = tiny.serial(study_file, done, "--set", f"reference={done}/t009")
    refused(ended, f"reference: {done} has no candidate 't009'")


def test_a_diverging_trial_fails_the_serial_study_with_its_traceback(
    study_file: Path, tmp_path: Path
) -> None:
    ended = tiny.serial(study_file, tmp_path / "study", "--set", "method.weight_lr=1e9")
    assert ended.code == FAILED
    assert "workers/" in ended.err  # a debugger's way in
    assert "the loss is nan" in ended.line
    assert "resume with: paretoray run" in ended.line
    assert load(str(tmp_path / "study")).records == []


def test_a_damaged_study_does_not_hide_the_others(done: Path, copy: Path) -> None:
    shutil.copytree(copy, copy.parent / "whole")
    (copy / "study.yaml").write_bytes(b"\x00\xff")
    ended = tiny.paretoray("list", copy.parent)
    assert ended.code == 0
    assert f"warning: {copy}/study.yaml: damaged" in ended.err
    assert "tiny" in ended.out
