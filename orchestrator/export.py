"""A finished network as a file to take away."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import safetensors.torch

from cost_models.onnx_export import export_onnx
from orchestrator.config import InputError, nearest
from orchestrator.loading import Study
from workers.storage import Storage
from workers.trial import build_space


def export_candidate(
    study: Study, candidate: str, kind: Literal["onnx", "safetensors"], path: Path
) -> str:
    """Write a finished candidate to `path` and return a line that says what was written.

    Raises:
        InputError: there is no such finished candidate, or the file cannot be written.
        ValueError: the ONNX model does not compute what torch computes.
    """
    records = {record["candidate"]: record for record in study.finished()}
    if candidate not in records:
        known = sorted(records)
        raise InputError(
            f"{study.directory}: no finished candidate {candidate!r}{nearest(candidate, known)};"
            f" finished: {', '.join(known)}"
        )
    weights = Storage(study.directory).read_bytes(f"models/{candidate}/weights.safetensors")
    space = build_space(study.config)
    network = space.build(records[candidate]["architecture"])
    network.load_state_dict(safetensors.torch.load(weights))
    try:
        if kind == "onnx":
            export_onnx(network, space.in_shape, path)
        else:
            path.write_bytes(weights)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return f"{path}: {candidate}, {path.stat().st_size:,} bytes"
