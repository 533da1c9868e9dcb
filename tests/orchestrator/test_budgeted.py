"""Studies of budgeted super networks: all that a short one leaves, and budgets that are kept."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator import figures, load
from orchestrator.config import load_config
from tests.orchestrator import tiny
from workers.methods.budgeted.config import auto_lambdas

SEEDS = (0, 1, 2)
SHORT = """\
study: short
method: {name: budgeted, warmup_epochs: 1, epochs: 2, lr: 0.05, logit_lr: 1.0, augment: {pad: 1}}
space: {name: resnet_fabric, depth: 8, filters: 4}
dataset: digits
cost: macs
sweep: {budget: [30000], lambda: auto}
finish: all
training: {epochs: 1, inherited_epochs: 0}
baselines: [resnet]
report: {test_all: true}
"""


def test_a_short_study_leaves_all_there_is_to_see(tmp_path: Path) -> None:
    file, directory = tmp_path / "short.yaml", tmp_path / "short"
    file.write_text(SHORT)
    ended = tiny.serial(file, directory)
    assert (ended.code, ended.err) == (0, "")
    study = load(str(directory))
    records = {record["candidate"]: record for record in study.finished()}
    assert records["resnet"]["preset"] == "resnet"
    found = [record for record in records.values() if record["preset"] is None]
    lambdas = auto_lambdas({"budget": 30_000})
    assert sorted(record["params"]["lambda"] for record in found) == lambdas
    assert {record["params"]["budget"] for record in found} == {30_000}
    drawn = {record["candidate"] for record in study.front()} | {"resnet"}
    drawings = {path.parent.name: path for path in directory.glob("models/*/architecture.svg")}
    assert set(drawings) == drawn
    page = (directory / "report.html").read_text()
    for path in drawings.values():
        svg = path.read_text()
        assert len(list(ElementTree.fromstring(svg))) > 10
        assert svg in page
    assert "<h2>Model selection</h2>" in page
    figure = figures.model_selection(study)
    assert figure is not None
    traces = {trace.name: trace for trace in figure.data if trace.x != (None,)}
    assert sorted(traces["validation"].x) == sorted(record["cost"] for record in found)
    assert sorted(traces["test"].x) == sorted(record["cost"] for record in records.values())
    assert list(traces["resnet"].x) == [records["resnet"]["cost"]]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("space.scales=5", "space.scales: 5; allowed for in_shape [1, 8, 8]: up to 4, since"),
        ("sweep={lambda: [1.0]}", "lambda: 1.0 penalises nothing without a budget; allowed: 0,"),
        ("method.random_share=0.5", "random_share: 0.5 is for policy random, not reinforce;"),
        ("method.lambda=auto", "method.lambda: auto makes a list of values; allowed in `sweep`"),
    ],
)
def test_a_study_that_cannot_be_searched_is_refused_in_a_line(setting: str, line: str) -> None:
    ended = tiny.paretoray("run", "budgeted_cnf_digits", "--set", setting, "--dry-run")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.line.startswith(f"paretoray: {line}")


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
