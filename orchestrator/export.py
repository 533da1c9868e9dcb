"""A finished network as a file to take away."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import safetensors.torch

from cost_models.onnx_export import checked_onnx
from orchestrator.config import nearest
from orchestrator.loading import Study
from workers.errors import InputError
from workers.storage import Storage
from workers.trial import build_space, load_weights, weights_path


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
    weights = load_weights(Storage(study.directory), weights_path(candidate))
    contents = safetensors.torch.save(weights)
    if kind == "onnx":
        space = build_space(study.config)
        network = space.build(records[candidate]["architecture"])
        network.load_state_dict(weights)
        contents = checked_onnx(network, space.in_shape)
    Storage(str(path.parent)).write_bytes(path.name, contents)
    return f"{path}: {candidate}, {len(contents):,} bytes"
