"""How the norms of kept filters are spread (Figure 10 of the clipped-Lasso paper)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from orchestrator import load
from orchestrator.norm_figures import norm_histogram, relative_norms
from orchestrator.report import render
from tests.orchestrator.fabricated import fabricate
from workers.trial import inherited_path


def weights(*norms: float) -> dict[str, torch.Tensor]:
    """Return 3x3 filters of these norms, and a shortcut and a head that do not count."""
    filters = torch.zeros(len(norms), 2, 3, 3)
    filters[:, 1, 1, 1] = torch.tensor(norms)
    return {"conv": filters, "shortcut": torch.ones(4, 4, 1, 1), "head": torch.ones(10, 4)}


def test_norms_are_over_the_mean_of_their_own_layer() -> None:
    two = weights(1.0, 3.0) | {"other": weights(50.0, 50.0)["conv"]}
    np.testing.assert_allclose(relative_norms(two), [0.5, 1.5, 1.0, 1.0])


def test_generated_subnets_alone_are_drawn(tmp_path: Path) -> None:
    study = load(str(fabricate(tmp_path)))
    assert norm_histogram(study) is None
    assert "Norms of kept filters" not in render(study)
    penalties = ("clipped", "group", "none")
    records = [
        record | {"params": {"penalty": penalty, "seed": 0}}
        for record, penalty in zip(study.records, penalties, strict=False)
    ]
    for record in records:
        path = tmp_path / inherited_path(record["candidate"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(safetensors.torch.save(weights(1.0, 1.0, 4.0)))
    generated = dataclasses.replace(study, records=records)
    assert "over the inputs that the subnet keeps" in render(generated)
    figure = norm_histogram(dataclasses.replace(study, records=records))
    assert figure is not None
    assert [trace.name for trace in figure.data] == ["penalty = clipped", "penalty = group"]
    for trace in figure.data:
        shares = dict(zip(np.round(trace.x, 2), trace.y, strict=True))
        assert sum(trace.y) == pytest.approx(100)
        assert shares[0.55] == pytest.approx(200 / 3)
        assert shares[2.05] == pytest.approx(100 / 3)
