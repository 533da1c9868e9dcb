"""A study's directory: who holds it, which study it is of, and how often that was run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from orchestrator.claims import claimed_object
from orchestrator.config import StudyConfig
from orchestrator.loading import stored_config
from workers.errors import InputError
from workers.storage import DamagedError, Storage


@contextmanager
def claimed(storage: Storage, note: Callable[[str], None] = print) -> Iterator[None]:
    """Hold a directory for this driver alone; the system frees a local one if the driver dies.

    `note` is told what an object store makes us wait for.

    Raises:
        InputError: another driver holds it, or it cannot be made.
        StorageError: an object store cannot be reached or written.
    """
    folder = storage.local_path()
    if folder is None:
        with claimed_object(storage, note):
            yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{storage.root}: another driver is running this study") from error
    except OSError as error:
        raise InputError(f"{storage.root}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def check_shared(storage: Storage, blind_nodes: Callable[[Path], list[str]]) -> None:
    """Refuse a folder that belongs to one machine, where several work.

    Args:
        storage: the directory.
        blind_nodes: returns the nodes that do not see a file of this machine.

    Raises:
        InputError: names the nodes that do not see the directory.
        StorageError: the directory cannot be written.
    """
    probe = f"probe-{uuid.uuid4().hex}"
    path = storage.local_path(probe)
    if path is None:
        return
    storage.write_bytes(probe, b"")
    try:
        blind = blind_nodes(path)
    finally:
        storage.delete(probe)
    if blind:
        raise InputError(
            f"--dir {storage.root}: not seen from {', '.join(blind)}; allowed on several nodes: a"
            " folder that all of them mount under this name, or a URI such as s3://BUCKET/NAME"
        )


def adopt(config: StudyConfig, storage: Storage) -> None:
    """Write the study into a new directory, or make sure that it is the one there.

    Raises:
        InputError: the directory holds another study; names the differing keys.
        ResultsError: the study there is damaged.
    """
    if not storage.exists("study.yaml"):
        text, yaml = StringIO(), YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.dump(config.as_dict(), text)
        storage.write_bytes("study.yaml", text.getvalue().encode())
        return
    elsewhere = {"storage": None}  # a directory may be moved
    stored, given = stored_config(storage) | elsewhere, config.as_dict() | elsewhere
    differing = sorted(_differing(stored, given))
    if differing:
        raise InputError(
            f"{storage.root}: holds another study; differing keys: {', '.join(differing)};"
            " choose another --dir"
        )


def next_attempt(storage: Storage) -> int:
    """Count this run of the study, from 1; what an earlier one leaves late is told apart by it.

    Raises:
        DamagedError: the count cannot be read.
    """
    try:
        known = int(storage.read_bytes("attempt")) if storage.exists("attempt") else 0
    except ValueError as error:
        name = storage.name("attempt")
        raise DamagedError(f"{name}: damaged; write the number of past runs there") from error
    storage.write_bytes("attempt", str(known + 1).encode())
    return known + 1


def _differing(stored: Any, given: Any, path: str = "") -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(given, dict):
        for key in sorted({*stored, *given}):
            absent = object()
            yield from _differing(
                stored.get(key, absent), given.get(key, absent), f"{path}.{key}" if path else key
            )
    elif stored != given:
        yield path
