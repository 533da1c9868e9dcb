"""docs/kuberay.yaml has the form of KubeRay's RayJob, and says what cluster.yaml says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
Config = dict[str, Any]
SCHEMA = json.loads(Path(__file__).with_name("rayjob_schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


@pytest.fixture
def job() -> Config:
    found: Config = YAML(typ="safe", pure=True).load(ROOT / "docs" / "kuberay.yaml")
    return found


@pytest.fixture
def cluster(job: Config) -> Config:
    found: Config = job["spec"]["rayClusterSpec"]
    return found


def groups(cluster: Config) -> list[Config]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_it_has_the_form_of_a_rayjob(job: Config) -> None:
    VALIDATOR.check_schema(SCHEMA)
    assert [error.message for error in VALIDATOR.iter_errors(job)] == []


def _misspell(cluster: Config) -> None:
    cluster["authOption"] = cluster.pop("authOptions")


def _forget_the_name(cluster: Config) -> None:
    del cluster["workerGroupSpecs"][0]["groupName"]


def _count_in_numbers(cluster: Config) -> None:
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _ask_for_much_memory(cluster: Config) -> None:
    pod = cluster["headGroupSpec"]["template"]["spec"]
    pod["containers"][0]["resources"]["limits"]["memory"] = "much"


@pytest.mark.parametrize(
    "spoil", [_misspell, _forget_the_name, _count_in_numbers, _ask_for_much_memory]
)
def test_a_spoiled_one_is_refused(job: Config, spoil: Callable[[Config], None]) -> None:
    spoil(job["spec"]["rayClusterSpec"])
    assert not VALIDATOR.is_valid(job)


def test_its_runtime_environment_carries_no_results(job: Config) -> None:
    environment = YAML(typ="safe", pure=True).load(job["spec"]["runtimeEnvYAML"])
    assert {".git", ".venv", "data", "mlruns", "runs"} <= set(environment["excludes"])


def test_the_token_guards_what_does_not_bind_to_loopback(cluster: Config) -> None:
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_its_ray_is_the_pinned_one(cluster: Config) -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    assert f"ray=={cluster['rayVersion']}" in pins


def test_nothing_trains_on_the_head_or_on_a_measured_target(cluster: Config) -> None:
    idle = [g for g in groups(cluster) if g["rayStartParams"].get("num-cpus") == "0"]
    gpu = next(g for g in cluster["workerGroupSpecs"] if g["groupName"] == "gpu")
    edge = next(g for g in cluster["workerGroupSpecs"] if g["groupName"] == "edge-cpu")
    assert idle == [cluster["headGroupSpec"], edge]
    # The operator puts it into a shell's command line: quoted twice.
    assert json.loads(json.loads(edge["rayStartParams"]["resources"])) == {"target_edge_cpu": 1}
    (container,) = gpu["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_it_runs_a_ready_study_in_a_bucket(job: Config) -> None:
    words = job["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "orchestrator", "run"]
    assert words[words.index("--dir") + 1].startswith("s3://")
