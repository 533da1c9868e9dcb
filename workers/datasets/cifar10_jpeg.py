"""CIFAR-10's images after lossy JPEG (median PSNR 30 dB): not to be set beside CIFAR-10 figures.

The archive holds `{train,test}/<class>/NNNN.jpg`. Decoding takes a while and is done once: the
pixels are kept in the cache folder.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from search_spaces.base import Shape
from workers.datasets.base import Data, Dataset, Holdout, TensorSplit, cache_root, require
from workers.datasets.splits import resident

ARCHIVE = "cifar-10-jpeg/cifar10-jpeg-60k.tar.xz"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

Array: TypeAlias = npt.NDArray[np.integer]
Config = Holdout


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a sample and the number of classes.

    Raises:
        FileNotFoundError: the archive is absent.
    """
    require("cifar10_jpeg", root / ARCHIVE, downloadable=False)
    return (3, 32, 32), 10


def load(config: Config, root: Path) -> Data:
    """Return the data, decoding it if the cache does not have it.

    Raises:
        FileNotFoundError: the archive is absent.
        ValueError: the archive or the cached copy is damaged.
        OSError: the cache folder cannot be written.
    """
    describe(config, root)
    archive = root / ARCHIVE
    cached = cache_root() / f"cifar10_jpeg-{archive.stat().st_size}.npz"
    if not cached.is_file():
        _write(cached, _decode(archive))
    try:
        with cached.open("rb") as file, np.load(file) as arrays:
            train, test = (_split(arrays, name) for name in ("train", "test"))
    except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{cached}: damaged; delete it to have it made again") from error
    return resident("cifar10_jpeg", train, test, val_fraction=config.val_fraction, num_classes=10)


def _split(arrays: np.lib.npyio.NpzFile, name: str) -> TensorSplit:
    images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
    return TensorSplit(torch.from_numpy(images), torch.from_numpy(labels))


def _decode(archive: Path) -> dict[str, Array]:
    images: dict[str, list[Array]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    try:
        with tarfile.open(archive, "r|xz") as members:
            for member in members:
                if not member.isfile():
                    continue
                split, label, _ = PurePosixPath(member.name).parts
                with Image.open(io.BytesIO(members.extractfile(member).read())) as image:  # type: ignore[union-attr]
                    images[split].append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
                labels[split].append(CLASSES.index(label))
    except (tarfile.TarError, EOFError, KeyError, OSError, ValueError) as error:
        raise ValueError(f"{archive}: damaged ({error}); fetch it again") from error
    pixels = {f"{split}_images": np.stack(images[split]) for split in images}
    return pixels | {f"{split}_labels": np.array(labels[split]) for split in labels}


def _write(path: Path, arrays: dict[str, Array]) -> None:
    """Write whole or not at all: other processes may be reading or writing the same file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            temporary = Path(file.name)
            try:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            except BaseException:
                temporary.unlink()
                raise
        temporary.replace(path)
    except OSError as error:
        remedy = "set PARETORAY_CACHE to a writable folder"
        raise OSError(f"{path}: cannot be written ({error.strerror}); {remedy}") from error


DATASET = Dataset(Config, describe, load)
