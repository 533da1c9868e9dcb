"""Files appear whole or not at all, in a folder and in an object store; failures name the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from tests.object_store import ObjectStore
from workers.storage import Storage, StorageError, joined, parent_and_name

ROOTS = ["folder", "file://", "mock://", "s3://"]


@pytest.fixture(params=ROOTS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    roots = {
        "folder": lambda: str(tmp_path / "study"),
        "file://": lambda: f"file://{tmp_path}/study",
        "mock://": lambda: "mock:///bucket/study",  # Arrow's own, in memory
        "s3://": lambda: request.getfixturevalue("s3").uri(f"bucket/{tmp_path.name}"),
    }
    return Storage(roots[request.param]())


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


def test_what_is_written_later_is_not_older(storage: Storage) -> None:
    storage.write_bytes("a/1.bin", b"")
    storage.write_bytes("a/2.bin", b"")
    times = storage.written_at("a")
    assert set(times) == {"a/1.bin", "a/2.bin"}
    assert times["a/1.bin"] <= times["a/2.bin"]
    assert storage.written_at("absent") == {}


def test_only_local_files_have_local_paths(tmp_path: Path) -> None:
    assert Storage(str(tmp_path)).local_path("a/b") == tmp_path / "a/b"
    assert Storage("mock:///bucket").local_path("a/b") is None


def test_a_missing_file_is_named(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"absent\.bin\S*: cannot be read: ") as error:
        storage.read_bytes("absent.bin")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["../outside", "a/../../b", "/etc/passwd"])
def test_paths_stay_below_the_root(storage: Storage, path: str) -> None:
    with pytest.raises(ValueError, match="below the root"):
        storage.read_bytes(path)


def test_an_unknown_uri_is_refused() -> None:
    with pytest.raises(StorageError, match="nowhere://x: cannot be opened"):
        Storage("nowhere://x")


QUERY = "?endpoint_override=http://127.0.0.1:1&region=us-east-1"
NAMES = {
    ("/runs/", "a/b.bin"): "/runs/a/b.bin",
    ("/what?/runs", "a"): "/what?/runs/a",  # a folder's name may hold anything
    ("s3://bucket/runs", "a/b.bin"): "s3://bucket/runs/a/b.bin",
    (f"s3://bucket/runs{QUERY}", "a/b.bin"): f"s3://bucket/runs/a/b.bin{QUERY}",
    (f"s3://bucket/runs/{QUERY}", ""): f"s3://bucket/runs{QUERY}",
}


@pytest.mark.parametrize(("given", "name"), NAMES.items())
def test_names_are_joined_before_the_query(given: tuple[str, str], name: str) -> None:
    assert joined(*given) == name
    assert joined(*parent_and_name(name)) == name


def test_an_object_is_one_request(s3: ObjectStore) -> None:
    storage = Storage(s3.uri("bucket/requests"))
    storage.write_bytes("parts/first.bin", b"1")
    assert s3.requests("first.bin") == ["PUT /bucket/requests/parts/first.bin"]
    storage.write_bytes("parts/second.bin", b"2" * 4_000_000)
    assert s3.requests("second.bin") == ["PUT /bucket/requests/parts/second.bin"]
    assert s3.requests("requests/parts/ ") == []
    assert storage.list() == ["parts/first.bin", "parts/second.bin"]


class InterruptedStore:
    """A file system whose user presses Ctrl-C while a file is open."""

    def __init__(self, real: fs.FileSystem) -> None:
        self.create_dir, self._open = real.create_dir, real.open_output_stream

    def open_output_stream(self, path: str) -> Any:
        stream = self._open(path)
        os.kill(os.getpid(), signal.SIGINT)
        return stream


def test_an_interrupted_put_is_whole(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(s3.uri("bucket/interrupted"))
    monkeypatch.setattr(storage, "_fs", InterruptedStore(storage._fs))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            storage.write_bytes("a.bin", b"all of it")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert Storage(storage.root).read_bytes("a.bin") == b"all of it"


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_one_line() -> None:
    storage = Storage(f"s3://bucket/runs{QUERY}")
    with pytest.raises(StorageError) as error:
        storage.exists("study.yaml")
    name = f"s3://bucket/runs/study.yaml{QUERY}"
    assert str(error.value).startswith(f"{name}: cannot be read: ")
    assert "\n" not in str(error.value)


def test_a_bucket_that_is_not_there_is_named(s3: ObjectStore) -> None:
    root = s3.uri("absent/runs").replace("allow_bucket_creation=true", "")
    with pytest.raises(StorageError, match=r"absent/runs/a\.bin.*: cannot be written: "):
        Storage(root.rstrip("&")).write_bytes("a.bin", b"1")


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
