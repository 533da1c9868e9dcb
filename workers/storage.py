"""The one door to files: a folder on this machine, or one in an object store (`s3://`, `gs://`).

Whatever is written appears whole or not at all: a local file under a temporary name first, then
synced and renamed; an object, since stores do not rename, under its own name in a single put.
Nothing else of the product opens study files.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from workers.errors import InputError

TEMPORARY_SUFFIX = ".partial"  # of names that start with a dot, which Parquet readers skip


class StorageError(OSError):
    """A file cannot be read, written, listed or deleted: one line that names it."""


class DamagedError(InputError):
    """A file's contents are not what was written: one line that names it and the remedy."""


def joined(root: str, path: str) -> str:
    """Return the full name of a path below a folder; the query of a URI stays at the end."""
    base, query = _parts(root)
    return f"{base.rstrip('/')}/{path}".rstrip("/") + query


def parent_and_name(folder: str) -> tuple[str, str]:
    """Return the folder that a folder is in, and its name there; the inverse of `joined`."""
    base, query = _parts(folder)
    parent, _, name = base.rstrip("/").rpartition("/")
    return parent + query, name


class Storage:
    """Files under `root`: a local folder, or a URI that `pyarrow.fs` knows.

    Paths are relative to the root, with forward slashes. A URI may end in a query, such as
    `?endpoint_override=http://HOST:PORT`.

    Raises:
        StorageError: the URI is of an unknown kind or cannot be opened.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._made: set[str] = set()
        if "://" not in root:
            self._fs: fs.FileSystem = fs.LocalFileSystem()
            self._base = str(Path(root).absolute())
            return
        try:
            self._fs, self._base = fs.FileSystem.from_uri(_with_single_puts(root))
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{root}: cannot be opened: {_reason(error)}") from error

    def name(self, path: str = "") -> str:
        """Return a file's full name, as errors show it."""
        return joined(self.root, path)

    def read_bytes(self, path: str) -> bytes:
        """Return a file's contents.

        Raises:
            StorageError: there is no such file, or it cannot be read.
        """
        with self._named_errors(path, "read"), self._fs.open_input_file(self._full(path)) as file:
            contents: bytes = file.read()
            return contents

    def write_bytes(self, path: str, data: bytes) -> None:
        """Create or replace a file, whole or not at all; missing folders are made.

        Raises:
            StorageError: the disk is full, the folder cannot be written, ...; what stood there
                before still stands.
        """
        with self._named_errors(path, "written"):
            local = self.local_path(path)
            if local is not None:
                _write_local(local, data)
                return
            # Closing a stream publishes what it holds. An interrupt, which only the main thread
            # gets, must not close a half-written one.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(self._put, self._full(path), data).result()

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or folder of this name."""
        with self._named_errors(path, "read"):
            return bool(self._fs.get_file_info(self._full(path)).type != fs.FileType.NotFound)

    def list(self, prefix: str = "") -> list[str]:
        """Return the files in a folder and the folders below it, sorted; none if it is absent.

        Names that start with a dot are left out.
        """
        with self._named_errors(prefix, "listed"):
            return sorted(path for path, _ in self._files(prefix))

    def written_at(self, prefix: str = "") -> dict[str, float]:
        """Return when each file that `list` names was last written, in seconds.

        The clock is the store's; it may count whole seconds.
        """
        with self._named_errors(prefix, "listed"):
            return {path: info.mtime_ns / 1e9 for path, info in self._files(prefix)}

    def delete(self, path: str) -> None:
        """Delete a file; it may be gone already.

        Raises:
            StorageError: the file is there and cannot be deleted.
        """
        with self._named_errors(path, "deleted"):
            if self.exists(path):
                self._fs.delete_file(self._full(path))

    def local_path(self, path: str = "") -> Path | None:
        """Return a file's absolute path on this machine, or None in an object store."""
        return Path(self._full(path)) if isinstance(self._fs, fs.LocalFileSystem) else None

    def sweep(self) -> None:
        """Delete temporary files that killed writers left; call it when nobody else writes."""
        folder = self.local_path()
        if folder is not None and folder.is_dir():
            for orphan in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
                orphan.unlink(missing_ok=True)

    def _full(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if ".." in parts or path.startswith("/"):
            raise ValueError(f"{path!r}: expected a path below the root, without `..`")
        return "/".join((self._base.rstrip("/"), *parts))

    def _files(self, prefix: str) -> Iterator[tuple[str, fs.FileInfo]]:
        selector = fs.FileSelector(self._full(prefix), recursive=True, allow_not_found=True)
        for info in self._fs.get_file_info(selector):
            path = info.path[len(self._base.rstrip("/")) + 1 :]
            if info.type == fs.FileType.File and not _is_hidden(path):
                yield path, info

    def _put(self, full: str, data: bytes) -> None:
        folder = str(PurePosixPath(full).parent)
        if folder not in self._made:
            self._fs.create_dir(folder)
            self._made.add(folder)
        with self._fs.open_output_stream(full) as stream:
            stream.write(data)

    @contextmanager
    def _named_errors(self, path: str, verb: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{self.name(path)}: cannot be {verb}: {_reason(error)}") from error


def _parts(root: str) -> tuple[str, str]:
    base, sign, query = root.partition("?") if "://" in root else (root, "", "")
    return base, sign + query


def _with_single_puts(root: str) -> str:
    """Let Arrow wait with an S3 upload for its first bytes: small ones are one request then."""
    if not root.startswith("s3://"):
        return root
    return f"{root}{'&' if '?' in root else '?'}allow_delayed_open=true"


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The new name itself survives a power cut only once the folder is synced too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts)


def _reason(error: Exception) -> str:
    known = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return known.splitlines()[0] if known else type(error).__name__
