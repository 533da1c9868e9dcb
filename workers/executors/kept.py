"""Predictions that are computed once: kept in memory, and in few files of a study's directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from search_spaces.base import Architecture
from workers.protocol import Predict
from workers.storage import DamagedError, Storage

FOLDER = "predicted"


class KeptPredictions:
    """Predicted classes (samples,) of networks, by the networks' digits.

    What is added is written at once. A new file takes in the last ones that hold no more than it
    does, and they are deleted: n additions leave about log2(n) files.

    Args:
        root: the study's directory.
        origin: digits that tell apart what predicts, and on which samples; what has other ones is
            deleted.
        attempt: the driver's, so that an orphan's late files meet nobody's.

    Raises:
        DamagedError: a file is not what was written; names it.
    """

    def __init__(self, root: str, origin: str, attempt: int) -> None:
        self._storage = Storage(root)
        self._prefix = f"{FOLDER}/{origin}/{attempt:04d}"
        self._found: dict[str, torch.Tensor] = {}
        self._files: list[tuple[str, list[str]]] = []  # and whom they hold, oldest first
        for path in self._storage.list(FOLDER):
            if path.startswith(f"{FOLDER}/{origin}/"):
                found = self._read(path)
                self._found |= found
                self._files.append((path, list(found)))
            else:
                self._storage.delete(path)
        own = [path for path, _ in self._files if path.startswith(self._prefix)]
        numbers = [int(Path(path).stem.rpartition("-")[2]) for path in own]
        self._written = 1 + max(numbers, default=-1)

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._found[key]

    def add(self, found: Mapping[str, torch.Tensor]) -> None:
        """Keep predictions of more networks."""
        if not found:
            return
        self._found |= found
        keys, merged = list(found), []
        while self._files and len(self._files[-1][1]) <= len(keys):
            path, older = self._files.pop()
            keys += older
            merged.append(path)
        new = f"{self._prefix}-{self._written:06d}.safetensors"
        contents = safetensors.torch.save({key: self._found[key] for key in keys})
        self._storage.write_bytes(new, contents)
        self._written += 1
        self._files.append((new, keys))
        for path in merged:
            self._storage.delete(path)

    def _read(self, path: str) -> dict[str, torch.Tensor]:
        try:
            return safetensors.torch.load(self._storage.read_bytes(path))
        except SafetensorError as error:
            name = self._storage.name(path)
            raise DamagedError(f"{name}: damaged; delete it to have it made again") from error


class Remembering:
    """A predictor that evaluates equal networks once.

    Args:
        predict: evaluates networks.
        key: tells networks apart.
        kept: what was evaluated before, and what will be.
    """

    def __init__(
        self, predict: Predict, key: Callable[[Architecture], str], kept: KeptPredictions
    ) -> None:
        self._predict, self._key, self._kept = predict, key, kept

    def __call__(self, architectures: Sequence[Architecture]) -> list[torch.Tensor]:
        """Return each network's predicted classes."""
        keys = [self._key(architecture) for architecture in architectures]
        pairs = zip(keys, architectures, strict=True)
        missing = {key: network for key, network in pairs if key not in self._kept}
        predictions = self._predict(list(missing.values())) if missing else []
        self._kept.add(dict(zip(missing, predictions, strict=True)))
        return [self._kept[key] for key in keys]
