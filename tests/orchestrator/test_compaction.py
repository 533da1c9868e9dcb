"""A compacted study is the same study: for readers, for a driver, and wherever it was killed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from orchestrator import compaction, load
from orchestrator.compaction import TABLES, Compacted, compact, drop_replaced
from orchestrator.results import Record, Results
from orchestrator.table_files import is_merged
from tests.orchestrator import tiny
from tests.orchestrator.fabricated import ALPHAS, fabricate
from workers.errors import InputError
from workers.storage import DamagedError, Storage

CANDIDATES = 4 * len(ALPHAS) + 1


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study as its driver left it; leave it as it is."""
    return fabricate(tmp_path_factory.mktemp("study"))


@pytest.fixture
def directory(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "study"))


def contents(directory: Path) -> dict[str, list[Record]]:
    """Return the rows of every table, in order; nothing may be damaged."""
    study = load(str(directory))
    assert study.damaged == ()
    return {name: table.to_pylist() for name, table in study.tables.items()}


def names(directory: Path, table: str) -> list[str]:
    return sorted(path.name for path in (directory / "results" / table).iterdir())


def after(directory: Path) -> list[int]:
    return [table.after for table in compact(str(directory))]


def test_some_parts_are_read_alike_from_small_and_from_merged_files(
    directory: Path, study: Path
) -> None:
    compact(str(directory))
    before, after = (Results(Storage(str(folder))) for folder in (study, directory))
    some = sorted(before.parts("predictions"))[1::3]
    rows = before.read("predictions", parts=some).to_pylist()
    assert [f"{row['candidate']}-{row['split']}" for row in rows] == some
    assert after.read("predictions", parts=[*some, "nowhere"]).to_pylist() == rows
    names = sorted(before.parts("candidates"))[:2]
    assert [row["candidate"] for row in after.candidates(names=names)] == names
    both = after.read("predictions", candidates=[rows[0]["candidate"]], parts=some[:2])
    assert both.to_pylist() == [row for row in rows[:2] if row["candidate"] == rows[0]["candidate"]]


def test_small_files_become_few_and_rows_stay(directory: Path, study: Path) -> None:
    before = contents(study)
    assert compact(str(directory))[0] == Compacted("candidates", CANDIDATES, 1)
    assert [names(directory, table) for table in TABLES] == 3 * [["merged~000000.parquet"]]
    assert contents(directory) == before
    parts = [Results(Storage(str(folder))).parts for folder in (directory, study)]
    assert all(parts[0](table) == parts[1](table) for table in TABLES)


def test_compacting_again_changes_no_file(directory: Path) -> None:
    compact(str(directory))
    files = tiny.files(directory)
    compact(str(directory))
    assert tiny.files(directory) == files


def test_merged_files_have_a_bound(
    directory: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MOST_BYTES", 2**13)
    counts = after(directory)
    assert 2 < counts[0] < CANDIDATES / 2
    assert contents(directory) == contents(study)
    files = tiny.files(directory)
    assert after(directory) == counts
    assert tiny.files(directory) == files


def test_other_readers_see_each_row_once(directory: Path, study: Path) -> None:
    compact(str(directory))
    Results(Storage(str(directory))).write_candidate(load(str(study)).records[3])
    frames = [pd.read_parquet(folder / "results" / "candidates") for folder in (directory, study)]
    pd.testing.assert_frame_equal(*frames)


def test_a_part_written_again_is_replaced_where_it_was_merged(directory: Path, study: Path) -> None:
    compact(str(directory))
    expected = contents(study)
    results, reader = (Results(Storage(str(directory))) for _ in range(2))
    assert reader.read("history").to_pylist() == expected["history"]
    record = load(str(study)).records[5]
    results.write_candidate({**record, "test_accuracy": 0.125})
    expected["candidates"][5]["test_accuracy"] = 0.125
    steps = [{"step": step, "loss": 1.0} for step in range(50)]  # not as many rows as before
    about = {"study": "fabricated", "trial": record["trial"], "stage": "search"}
    results.write_history(**about, steps=steps)
    assert names(directory, "history") == ["merged~000000.parquet"]
    found = contents(directory)
    assert found["candidates"] == expected["candidates"]
    of_trial = [row for row in found["history"] if row["trial"] == record["trial"]]
    assert [row["step"] for row in of_trial if row["stage"] == "search"] == list(range(50))
    others = [row for row in expected["history"] if row["trial"] != record["trial"]]
    assert [row for row in found["history"] if row["trial"] != record["trial"]] == others
    assert reader.read("history").to_pylist() == found["history"]  # which it has read before


def test_what_came_after_is_merged_with_what_was_before(directory: Path, study: Path) -> None:
    compact(str(directory))
    results, first = Results(Storage(str(directory))), load(str(study)).records[0]
    for name in ("a0", "zz"):
        results.write_candidate({**first, "candidate": name})
    expected = contents(directory)
    listed = [row["candidate"] for row in expected["candidates"]]
    assert listed == sorted(listed)
    assert after(directory) == [1, 1, 1]
    assert contents(directory) == expected
    assert names(directory, "candidates") == ["merged~000001.parquet"]


def dies_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the process fail before a step: writing a file, or deleting one; return the counter."""
    count = 0

    def failing(function: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: Any) -> None:
            nonlocal count
            if count == step:
                raise KeyboardInterrupt
            count += 1
            function(*args)

        return wrapped

    for name in ("write_bytes", "delete"):
        monkeypatch.setattr(Storage, name, failing(getattr(Storage, name)))
    return lambda: count


def test_compaction_killed_before_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MOST_BYTES", 2**12)
    study = fabricate(tmp_path / "study", alphas=ALPHAS[:1])
    before, died, step = contents(study), True, 0
    while died:
        directory = Path(shutil.copytree(study, tmp_path / f"killed{step}"))
        with monkeypatch.context() as patched:
            dies_at(step, patched)
            try:
                compact(str(directory))
                died = False
            except KeyboardInterrupt:
                step += 1
        assert contents(directory) == before, step
        parts = Results(Storage(str(directory))).parts("candidates")
        assert parts == Results(Storage(str(study))).parts("candidates"), step
        compact(str(directory))
        assert contents(directory) == before, step
        assert len(pd.read_parquet(directory / "results/candidates")) == len(before["candidates"])
    assert step > 10


def test_a_killed_command_leaves_the_study_whole(directory: Path, study: Path) -> None:
    death = tiny.die_after("results/candidates/merged~")
    assert tiny.paretoray("compact", directory, changes=[death]).code == -signal.SIGKILL
    assert len(names(directory, "candidates")) == CANDIDATES + 1
    assert contents(directory) == contents(study)
    results = Results(Storage(str(directory)))
    for files in results.files.values():  # as the next run does
        drop_replaced(files)
    assert names(directory, "candidates") == ["merged~000000.parquet"]
    ended = tiny.paretoray("compact", directory)
    assert (ended.code, ended.err) == (0, "")
    assert contents(directory) == contents(study)


def test_a_reader_sees_a_compaction_go_by(
    directory: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, listed = contents(study), Storage.list

    def stale(self: Storage, prefix: str = "") -> list[str]:
        paths = listed(self, prefix)
        if prefix == "results/candidates" and not any(map(is_merged, paths)):
            monkeypatch.setattr(Storage, "list", listed)
            compact(str(directory))  # between listing and reading
        return paths

    monkeypatch.setattr(Storage, "list", stale)
    assert contents(directory) == expected
    assert names(directory, "candidates") == ["merged~000000.parquet"]


def test_a_study_under_way_is_refused(directory: Path) -> None:
    with FileLock(directory / ".lock"), pytest.raises(InputError, match="another driver"):
        compact(str(directory))


@pytest.mark.parametrize("compacted_before", [False, True])
def test_a_damaged_file_is_named_and_nothing_is_merged(
    directory: Path, compacted_before: bool
) -> None:
    if compacted_before:
        compact(str(directory))
    path = sorted((directory / "results/candidates").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-40])
    (directory / ".lock").touch()
    files = tiny.files(directory)
    with pytest.raises(DamagedError, match=rf"{path.name}: damaged"):
        compact(str(directory))
    assert tiny.files(directory) == files
    study = load(str(directory))
    assert [path.name in line for line in study.damaged] == [True]
    assert len(study.records) == (0 if compacted_before else CANDIDATES - 1)


def test_a_merged_file_that_names_no_parts_is_damaged(directory: Path) -> None:
    folder = directory / "results" / "candidates"
    shutil.copy(folder / "gpunet1.parquet", folder / "merged~000000.parquet")
    assert "merged~000000.parquet: damaged" in load(str(directory)).damaged[0]


def test_a_compacted_study_is_not_run_again(copy: Path, done: Path) -> None:
    ended = tiny.paretoray("compact", copy)
    assert (ended.code, ended.err) == (0, "")
    files = tiny.files(copy)
    ended = tiny.serial(copy / "study.yaml", copy)
    assert (ended.code, ended.err) == (0, "")
    changed = {name for name, when in tiny.files(copy).items() if files.get(name) != when}
    assert not {name for name in changed if name.startswith(("results", "models", "report"))}
    assert tiny.rows(copy) == tiny.rows(done)


def test_a_compacted_study_goes_on_where_it_was(copy: Path, done: Path) -> None:
    tiny.paretoray("compact", copy)
    for name in ("report.html", "models/t000/weights.safetensors"):
        (copy / name).unlink()
    ended = tiny.serial(copy / "study.yaml", copy)
    assert (ended.code, ended.err) == (0, "")
    assert tiny.rows(copy) == tiny.rows(done)
    assert tiny.predictions(copy) == tiny.predictions(done)
    assert names(copy, "candidates") == ["merged~000000.parquet"]
