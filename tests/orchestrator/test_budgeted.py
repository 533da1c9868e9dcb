"""The ready study `budgeted_digits` keeps its budgets where lambda is largest."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from orchestrator import load
from orchestrator.config import load_config
from tests.orchestrator import tiny
from workers.methods.budgeted.config import auto_lambdas

SEEDS = (0, 1, 2)


def largest_lambdas() -> list[dict[str, Any]]:
    """Return the study's sweep without the smaller lambdas of every budget."""
    sweep = load_config("budgeted_digits").sweep
    assert isinstance(sweep, dict)
    return [{"budget": [b], "lambda": [max(auto_lambdas({"budget": b}))]} for b in sweep["budget"]]


@pytest.mark.slow
def test_the_largest_lambda_keeps_every_budget(tmp_path: Path) -> None:
    costs: dict[float, list[float]] = {}
    settings = ["report.test_all=false", "baselines=[]", f"sweep={largest_lambdas()}"]
    for seed in SEEDS:
        arguments = [part for setting in (*settings, f"seed={seed}") for part in ("--set", setting)]
        ended = tiny.serial(Path("budgeted_digits"), tmp_path / str(seed), *arguments)
        assert ended.code == 0, ended.err
        for record in load(str(tmp_path / str(seed))).records:
            costs.setdefault(record["params"]["budget"], []).append(record["cost"])
    assert {len(found) for found in costs.values()} == {len(SEEDS)}
    for budget, found in sorted(costs.items()):
        print(f"budget {budget:,.0f}: {', '.join(f'{cost:,.0f}' for cost in found)} MACs")
    kept = [cost <= budget for budget, found in costs.items() for cost in found]
    assert statistics.mean(kept) >= 0.95
    assert all(min(found) <= budget for budget, found in costs.items())
    medians = [statistics.median(found) for _, found in sorted(costs.items())]
    assert medians == sorted(medians)
