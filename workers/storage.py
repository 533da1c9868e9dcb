"""The one door to files: a folder on this machine, or one in an object store (`s3://`, `gs://`).

Whatever is written appears whole or not at all: a local file under a temporary name first, then
synced and renamed; an object with a single put. Nothing else of the product opens study files.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

TEMPORARY_SUFFIX = ".partial"  # of names that start with a dot, which Parquet readers skip


class StorageError(OSError):
    """A file cannot be read, written, listed or deleted: one line that names it."""


class DamagedError(ValueError):
    """A file's contents are not what was written: one line that names it and the remedy."""


class Storage:
    """Files under `root`: a local folder, or a URI that `pyarrow.fs` knows.

    Paths are relative to the root, with forward slashes.

    Raises:
        StorageError: the URI is of an unknown kind or cannot be opened.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        if "://" not in root:
            self._fs: fs.FileSystem = fs.LocalFileSystem()
            self._base = str(Path(root).absolute())
            return
        try:
            self._fs, self._base = fs.FileSystem.from_uri(root)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{root}: cannot be opened: {_reason(error)}") from error

    def name(self, path: str = "") -> str:
        """Return a file's full name, as errors show it."""
        return f"{self.root.rstrip('/')}/{path}".rstrip("/")

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
            full = self._full(path)
            self._fs.create_dir(str(PurePosixPath(full).parent))
            with self._fs.open_output_stream(full) as stream:
                stream.write(data)

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or folder of this name."""
        with self._named_errors(path, "read"):
            return bool(self._fs.get_file_info(self._full(path)).type != fs.FileType.NotFound)

    def list(self, prefix: str = "") -> list[str]:
        """Return the files in a folder and the folders below it, sorted; none if it is absent.

        Names that start with a dot are left out.
        """
        with self._named_errors(prefix, "listed"):
            return sorted(path for path in self._files(prefix) if not _is_hidden(path))

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

    def _files(self, prefix: str) -> Iterator[str]:
        selector = fs.FileSelector(self._full(prefix), recursive=True, allow_not_found=True)
        for info in self._fs.get_file_info(selector):
            if info.type == fs.FileType.File:
                yield info.path[len(self._base.rstrip("/")) + 1 :]

    @contextmanager
    def _named_errors(self, path: str, verb: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"{self.name(path)}: cannot be {verb}: {_reason(error)}") from error


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
