"""A finished network as a file to take away."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from safetensors import SafetensorError

from cost_models.onnx_export import checked_onnx
from orchestrator.config import InputError, nearest
from orchestrator.loading import Study
from workers.storage import DamagedError, Storage
from workers.trial import build_space


def export_candidate(
    study: Study, candidate: str, kind: Literal["onnx", "safetensors"], path: Path
) -> str:
    """Write a finished candidate to `path` and return a line that says what was written.

    Raises:
        InputError: there is no such finished candidate.
        StorageError: the file cannot be written.
        DamagedError: its weights cannot be read.
        ValueError: the ONNX model does not compute what torch computes.
    """
    records = {record["candidate"]: record for record in study.finished()}
    if candidate not in records:
        known = sorted(records)
        raise InputError(
            f"{study.directory}: no finished candidate {candidate!r}{nearest(candidate, known)};"
            f" finished: {', '.join(known)}"
        )
    weights = read_weights(Storage(study.directory), candidate)
    contents = safetensors.torch.save(weights)
    if kind == "onnx":
        space = build_space(study.config)
        network = space.build(records[candidate]["architecture"])
        network.load_state_dict(weights)
        contents = checked_onnx(network, space.in_shape)
    Storage(str(path.parent)).write_bytes(path.name, contents)
    return f"{path}: {candidate}, {len(contents):,} bytes"


def read_weights(storage: Storage, candidate: str) -> dict[str, torch.Tensor]:
    """Return a finished candidate's weights.

    Raises:
        DamagedError: the file is not what was written; names it.
    """
    path = f"models/{candidate}/weights.safetensors"
    try:
        return safetensors.torch.load(storage.read_bytes(path))
    except SafetensorError as error:
        name = storage.name(path)
        raise DamagedError(f"{name}: damaged; delete it to have it made again") from error
