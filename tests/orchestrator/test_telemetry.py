"""Ray's Prometheus endpoint tells how a study goes, and the dashboard asks for what it tells."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import telemetry
from orchestrator.telemetry import Telemetry
from tests.workers.work import Task, tagged_count
from workers.executors.ray_cluster import RayCluster
from workers.executors.ray_metrics import METRICS, metered, record
from workers.executors.work import Resources
from workers.trial_tags import tagged

ROOT = Path(__file__).resolve().parents[2]
NOTHING = np.empty((0, 2))
LONGEST_S = 60  # Ray's agents export every ten seconds
Told = dict[tuple[str, ...], float]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Values by metric and tags, last ones."""
    values: Told = {}

    def note(name: str, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == set(METRICS[name].tags)
        values[(name.removeprefix("paretoray_"), *tags.values())] = value

    monkeypatch.setattr(telemetry, "record", note)
    return values


def states(told: Told, stage: str) -> dict[str, float]:
    return {key[3]: value for key, value in told.items() if key[:3] == ("trials", "s", stage)}


def test_trials_are_counted_by_state(told: Told) -> None:
    study = Telemetry("s", "macs", NOTHING)
    study.trials("search", ["a", "b", "c"])
    assert states(told, "search") == {"queued": 3, "running": 0, "done": 0, "failed": 0}
    study.row({"trial": "a"})
    study.row({"trial": "b", "step": 1})
    study.row({"trial": "a", "outcome": "outcomes/a.pt"})
    study.row({"trial": "b", "error": "lost"})
    assert states(told, "search") == {"queued": 1, "running": 0, "done": 1, "failed": 1}
    study.trials("search", ["d"])  # the next batch of a sampler
    assert states(told, "search") == {"queued": 2, "running": 0, "done": 1, "failed": 1}
    study.trials("finish", ["a"])
    assert states(told, "finish") == {"queued": 1, "running": 0, "done": 0, "failed": 0}


def test_candidates_are_counted_once_over_a_window(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now)
    study = Telemetry("s", "macs", NOTHING)
    row = {"val_accuracy": None, "cost": 1.0}
    now += 120
    for name in ("a", "b", "a", "a"):  # finishing writes a row again
        study.candidate({"candidate": name, **row})
    assert told["candidates_per_minute", "s"] == 1.0
    now += 400
    study.trials("finish", ["a"])
    study.row({"trial": "a"})
    assert told["candidates_per_minute", "s"] == 0.0


def test_hypervolume_grows_with_the_front_and_never_falls(told: Told) -> None:
    study = Telemetry("s", "macs", np.array([[0.5, 4.0], [np.nan, 9.0]]))
    key = ("hypervolume", "s", "macs")
    assert told[key] == 0.0  # its cost is the greatest
    study.candidate({"candidate": "a", "val_accuracy": 0.25, "cost": 2.0})
    assert told[key] == 0.25 * (4 - 2)
    study.candidate({"candidate": "b", "val_accuracy": 0.0, "cost": 3.0})  # dominated
    assert told[key] == 0.25 * (4 - 2)
    study.candidate({"candidate": "c", "val_accuracy": 0.5, "cost": 10.0})
    assert told[key] == 0.25 * (10 - 2) + 0.25 * (10 - 4)


def test_without_ray_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("workers.executors.ray_metrics.Gauge", None)  # would fail if called
    record("paretoray_hypervolume", 1.0, {"study": "s", "cost": "macs"})
    rows: list[dict[str, Any]] = []
    with tagged({"trial": "a"}):
        metered(rows.append)({"trial": "a", "step": 1, "steps": 2, "loss": 0.5})
    assert rows == [{"trial": "a", "step": 1, "steps": 2, "loss": 0.5}]


def scraped() -> dict[str, Metric]:
    """Return what the endpoint of this machine's Ray says, by metric."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


def eventually(look: Callable[[], Any]) -> Any:
    """Return the first true thing that is seen before time is up."""
    ends = time.monotonic() + LONGEST_S
    while time.monotonic() < ends:
        if seen := look():
            return seen
        time.sleep(0.5)
    raise AssertionError(f"{look.__name__}: not within {LONGEST_S} s; there are {list(scraped())}")


@pytest.mark.slow
def test_prometheus_sees_the_study_and_every_trial_under_its_own_tags(
    local_ray: None, tmp_path: Path
) -> None:
    study = Telemetry("made-up", "macs", NOTHING)
    tasks = [Task(name, str(tmp_path)) for name in ("a", "b", "c")]
    study.trials("search", [task.id for task in tasks])
    cluster = RayCluster(Resources(max_concurrent_trials=1))  # one process serves them all
    cluster.run_trials(tagged_count, tasks, {}, study.row, folder=f"{tmp_path}/tune/search")
    study.candidate({"candidate": "a", "val_accuracy": 0.5, "cost": 2.0})
    study.candidate({"candidate": "b", "val_accuracy": 0.25, "cost": 1.0})
    ours = {f"ray_{name}" for name in METRICS}

    def of_study(metric: Metric) -> list[Any]:  # others may have run on this Ray
        return [sample for sample in metric.samples if sample.labels["study"] == "made-up"]

    ended = {"queued": 0.0, "running": 0.0, "done": 3.0, "failed": 0.0}

    def the_end() -> dict[str, Metric] | None:  # an earlier state may be seen first
        found = scraped()
        if not ours <= found.keys():
            return None
        states = of_study(found["ray_paretoray_trials"])
        (volume,) = of_study(found["ray_paretoray_hypervolume"])
        seen = {sample.labels["state"]: sample.value for sample in states}, volume.value
        return found if seen == (ended, 0.25 * (2 - 1)) else None

    found = eventually(the_end)
    for sample in of_study(found["ray_paretoray_trial_metric"]):
        assert sample.labels["alpha"] == f"of {sample.labels['trial']}"
        assert sample.labels["metric"] == f"loss_{sample.labels['trial']}"


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "docs" / "grafana.json").read_text())
    return loaded


def test_the_dashboard_shows_every_metric_of_ours_and_no_unknown_one() -> None:
    asked = {
        name
        for panel in dashboard()["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bray_\w+", target["expr"])
    }
    ours = {f"ray_{name}" for name in METRICS}
    assert ours <= asked
    assert asked - ours <= {"ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total"}


def test_the_dashboard_selects_and_groups_by_tags_that_the_metrics_have() -> None:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            names = re.findall(r"\bray_(paretoray_\w+)", target["expr"])
            known = {tag for name in names for tag in METRICS[name].tags} | {"instance"}
            selected = re.findall(r"(\w+)=~?\"", target["expr"])
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert {*selected, *shown} <= known, target
            assert {name.strip() for group in grouped for name in group.split(",")} <= known


def test_the_dashboard_is_one() -> None:
    page = dashboard()
    assert page["title"]
    assert page["schemaVersion"] >= 36
    assert [variable["name"] for variable in page["templating"]["list"]] == ["datasource", "study"]
    ids = [panel["id"] for panel in page["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in page["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    for panel in page["panels"]:
        assert panel["title"]
        assert panel["type"] in ("timeseries", "stat", "table", "bargauge")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        assert all({"expr", "refId", "legendFormat"} <= set(target) for target in panel["targets"])
