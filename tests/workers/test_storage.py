"""Files appear whole or not at all, and every failure names its file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.storage import Storage, StorageError

ROOTS = ["folder", "file://", "mock://"]


@pytest.fixture(params=ROOTS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    roots = {
        "folder": str(tmp_path / "study"),
        "file://": f"file://{tmp_path}/study",
        "mock://": "mock:///bucket/study",  # Arrow's own in-memory store stands in for S3
    }
    return Storage(roots[request.param])


def test_bytes_come_back(storage: Storage) -> None:
    storage.write_bytes("a/b/c.bin", b"first")
    storage.write_bytes("a/b/c.bin", b"second")
    assert storage.read_bytes("a/b/c.bin") == b"second"
    assert storage.exists("a/b/c.bin")
    assert storage.exists("a/b")
    assert not storage.exists("a/b/d.bin")


def test_lists_are_sorted_recursive_and_relative(storage: Storage) -> None:
    for path in ("x/2.bin", "x/1.bin", "x/deep/0.bin", "y/3.bin", "x/.hidden"):
        storage.write_bytes(path, b"")
    assert storage.list("x") == ["x/1.bin", "x/2.bin", "x/deep/0.bin"]
    assert storage.list() == ["x/1.bin", "x/2.bin", "x/deep/0.bin", "y/3.bin"]
    assert storage.list("absent") == []


def test_deleting_twice_is_no_error(storage: Storage) -> None:
    storage.write_bytes("a.bin", b"1")
    storage.delete("a.bin")
    storage.delete("a.bin")
    assert not storage.exists("a.bin")


def test_only_local_files_have_local_paths(tmp_path: Path) -> None:
    assert Storage(str(tmp_path)).local_path("a/b") == tmp_path / "a/b"
    assert Storage("mock:///bucket").local_path("a/b") is None


def test_a_missing_file_is_named(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"absent\.bin: cannot be read: ") as error:
        storage.read_bytes("absent.bin")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["../outside", "a/../../b", "/etc/passwd"])
def test_paths_stay_below_the_root(storage: Storage, path: str) -> None:
    with pytest.raises(ValueError, match="below the root"):
        storage.read_bytes(path)


def test_an_unknown_uri_is_refused() -> None:
    with pytest.raises(StorageError, match="nowhere://x: cannot be opened"):
        Storage("nowhere://x")


def test_a_file_in_the_folders_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"taken/a\.bin: cannot be written: (Not a dir|File ex)"):
        Storage(str(tmp_path)).write_bytes("taken/a.bin", b"1")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    storage.write_bytes("a.bin", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"a\.bin: cannot be written: No space left on device"):
        storage.write_bytes("a.bin", b"new")
    assert storage.read_bytes("a.bin") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


WRITER = """
import sys
from workers.storage import Storage
storage, number = Storage(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number = (number + 1) % 200
    storage.write_bytes(f"parts/{number}.bin", bytes([number]) * 200_000)
"""


def test_a_killed_writer_leaves_whole_files_and_orphans_that_are_swept(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writer = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.15)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    (tmp_path / "parts" / ".9.bin.0f.partial").write_bytes(b"torn")
    storage = Storage(str(tmp_path))
    paths = storage.list("parts")
    assert paths
    assert {len(storage.read_bytes(path)) for path in paths} == {200_000}
    storage.sweep()
    assert not list(tmp_path.rglob(".*"))
