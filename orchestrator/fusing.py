"""Which candidates a method trains together, and which of these trainings have ended."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.results import Record, Results
from search_spaces.base import Architecture
from workers.protocol import Method
from workers.trial import weights_path


@dataclass(frozen=True)
class Fusion:
    """Architectures to train together: the trial's id, and the params that all share."""

    trial: str
    point: Mapping[str, Any]
    architectures: tuple[Architecture, ...]


def fusions(method: Method, records: Iterable[Record], chosen: Collection[str]) -> list[Fusion]:
    """Return the groups of chosen candidates; those differ in `method.fused_over` alone."""
    if method.fuse is None:
        return []
    groups: dict[str, list[Architecture]] = {}
    for record in records:
        if record["candidate"] in chosen:
            shared = {k: v for k, v in record["params"].items() if k not in method.fused_over}
            group = json.dumps(shared, sort_keys=True)
            groups.setdefault(group, []).append(record["architecture"])
    return [
        Fusion(f"f{index:03d}", json.loads(group), tuple(architectures))
        for index, (group, architectures) in enumerate(groups.items())
    ]


def is_fused(results: Results, fusion: Fusion) -> bool:
    """Tell whether a training has ended and everything that it left is there.

    Its history is written last.
    """
    models = {path.split("/")[1] for path in results.storage.list("models")}
    names = {name for name in models if name.startswith(f"{fusion.trial}.")}
    return (
        f"fuse-{fusion.trial}" in results.parts("history")
        and names <= results.parts("candidates")
        and names <= whole(results)
    )


def whole(results: Results) -> set[str]:
    """Return the candidates whose weights and predictions are there."""
    files = set(results.storage.list("models"))
    predicted = {part.removesuffix("-val") for part in results.parts("predictions")}
    return {name for name in predicted if weights_path(name) in files}
