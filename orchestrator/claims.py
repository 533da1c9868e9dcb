"""Holding a directory in an object store for one driver, where nothing can be locked or renamed.

A driver writes a file of its own into `drivers/`, and writes it again every `BEAT_S` seconds. It
begins once no other file there is fresh: none that was written less than `EXPIRY_S` seconds before
its own, by the store's clock. What it sees of another's file changing is a driver that lives.
Stores list what has been written, so of two drivers that begin at once at least one sees the other.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from workers.errors import InputError
from workers.storage import Storage, StorageError

FOLDER = "drivers"
BEAT_S = 10.0
EXPIRY_S = 60.0  # a driver that is silent for longer is taken for dead


@contextmanager
def claimed_object(storage: Storage, note: Callable[[str], None]) -> Iterator[None]:
    """Hold a directory in an object store for this driver alone.

    A driver that was killed is waited for until its file expires. A driver that was cut off, or
    suspended, for so long that another one took its place is interrupted when it is back.

    Args:
        storage: the directory.
        note: is told what is waited for.

    Raises:
        InputError: another driver holds it, or took it over.
        StorageError: the store cannot be reached or written.
    """
    own = f"{FOLDER}/{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    ended, lost = Event(), Event()
    # Not SIGINT, which a shell lets processes in the background ignore.
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        _take(storage, own, note)
        thread = Thread(target=_keep, args=(storage, own, ended, lost), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
    except KeyboardInterrupt:
        if lost.is_set():
            raise InputError(f"{storage.root}: another driver took this study over") from None
        raise
    finally:
        signal.signal(signal.SIGUSR1, before)
        with suppress(StorageError):  # it expires
            storage.delete(own)


def _take(storage: Storage, own: str, note: Callable[[str], None]) -> None:
    first: dict[str, float] | None = None
    while True:
        storage.write_bytes(own, b"")
        others = storage.written_at(FOLDER)
        now = others.pop(own)
        fresh = {path: when for path, when in others.items() if now - when < EXPIRY_S}
        if not fresh:
            break
        names = ", ".join(sorted(path.removeprefix(f"{FOLDER}/") for path in fresh))
        if first is None:
            first = fresh
            note(f"{names} runs this study, or was killed: waiting up to {EXPIRY_S:g} s to see")
        elif any(first.get(path) != when for path, when in fresh.items()):
            raise InputError(f"{storage.root}: another driver ({names}) is running this study")
        time.sleep(BEAT_S / 2)
    for path in others:
        storage.delete(path)


def _keep(storage: Storage, own: str, ended: Event, lost: Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            if not storage.exists(own):
                lost.set()
                os.kill(os.getpid(), signal.SIGUSR1)
                return
            storage.write_bytes(own, b"")
        except StorageError:
            continue  # the study's own writes will tell
