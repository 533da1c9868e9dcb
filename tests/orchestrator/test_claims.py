"""One driver holds a directory in an object store at a time, and a dead one does not hold it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import claims
from orchestrator.directory import claimed
from tests.object_store import ObjectStore
from workers.errors import InputError
from workers.storage import Storage

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from orchestrator import claims
from workers.storage import Storage

claims.BEAT_S = 1.2
with claims.claimed_object(Storage(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def storage(s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A folder of its own, where seconds are enough: the store counts whole ones."""
    monkeypatch.setattr(claims, "BEAT_S", 1.2)
    monkeypatch.setattr(claims, "EXPIRY_S", 4.0)
    return Storage(s3.uri(f"bucket/{tmp_path.name}"))


def held_elsewhere(storage: Storage) -> subprocess.Popen[str]:
    """Return another driver once it holds the directory."""
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLDER, storage.root], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    return driver


def test_a_driver_that_is_done_leaves_nothing_to_wait_for(storage: Storage) -> None:
    notes: list[str] = []
    for _ in range(2):
        with claimed(storage, notes.append):
            assert len(storage.list()) == 1
        assert storage.list() == []
    assert notes == []


@pytest.mark.slow
def test_a_driver_that_lives_is_named_and_one_that_was_killed_is_replaced(storage: Storage) -> None:
    driver = held_elsewhere(storage)
    (file,) = storage.list()
    name = file.removeprefix("drivers/")
    try:
        with (
            pytest.raises(InputError, match=rf"another driver \({name}\) is running this study"),
            claimed(storage, print),
        ):
            pytest.fail("two drivers hold one directory")
        assert storage.list() == [file]
    finally:
        driver.kill()
        driver.communicate()
    notes: list[str] = []
    with claimed(storage, notes.append):
        (own,) = storage.list()
    assert own != file
    assert [note.split()[0] for note in notes] == [name]


def work_on_after_replacement(storage: Storage) -> None:
    (own,) = storage.list()
    storage.delete(own)
    time.sleep(30)


def test_a_driver_that_was_replaced_is_interrupted(storage: Storage) -> None:
    with pytest.raises(InputError, match="another driver took this study over"), claimed(storage):
        work_on_after_replacement(storage)
    assert storage.list() == []


def test_an_interrupt_by_the_user_stays_one(storage: Storage) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(storage):
        raise KeyboardInterrupt
    assert storage.list() == []
