"""cluster.yaml and docs/on_premises.yaml pass `ray up`'s own checks, and keep their promises."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click import ClickException
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
Config = dict[str, Any]


def read(name: str) -> Config:
    found: Config = YAML(typ="safe", pure=True).load(ROOT / name)
    return found


@pytest.fixture
def config() -> Config:
    return read("cluster.yaml")


@pytest.fixture(params=["cluster.yaml", "docs/on_premises.yaml"])
def either(request: pytest.FixtureRequest) -> Config:
    return read(request.param)


def prepared(config: Config) -> Config:
    """Do what `ray up` does to a file before it asks the cloud for anything."""
    complete: Config = prepare_config(copy.deepcopy(config))
    validate_config(complete)
    return complete


def test_ray_accepts_it_and_adds_no_node_type(config: Config) -> None:
    assert set(prepared(config)["available_node_types"]) == {"head", "gpu", "edge_cpu"}


def _misspell(config: Config) -> None:
    config["max_worker"] = config.pop("max_workers")


def _rename_head(config: Config) -> None:
    config["head_node_type"] = "chief"


def _count_in_words(config: Config) -> None:
    config["max_workers"] = "ten"


def _offer_half_a_gpu(config: Config) -> None:
    config["available_node_types"]["gpu"]["resources"]["GPU"] = 0.5


def _forget_resources(config: Config) -> None:
    del config["available_node_types"]["edge_cpu"]["resources"]


def _ask_for_more_than_allowed(config: Config) -> None:
    config["available_node_types"]["gpu"]["min_workers"] = config["max_workers"] + 1


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_misspell, ValidationError),
        (_rename_head, ValueError),
        (_count_in_words, ValidationError),
        (_offer_half_a_gpu, ValidationError),
        (_forget_resources, ValidationError),
        (_ask_for_more_than_allowed, ValueError),
    ],
)
def test_ray_refuses_a_spoiled_one(
    config: Config, spoil: Callable[[Config], None], error: type[Exception]
) -> None:
    spoil(config)
    with pytest.raises(error):
        prepared(config)


def test_ray_accepts_the_one_for_machines_of_our_own() -> None:
    config = read("docs/on_premises.yaml")
    # Ray's schema knows no counts at the top, but its own preparation moves them.
    (kind,) = prepared(config)["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])


def test_machines_of_our_own_have_a_head() -> None:
    config = read("docs/on_premises.yaml")
    del config["provider"]["head_ip"]
    with pytest.raises((ClickException, ValueError)):
        prepared(config)


def test_every_node_that_starts_asks_for_the_token(either: Config) -> None:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in either[key] if "ray start" in command]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]
    assert either["file_mounts"]["~/.ray/auth_token"]


def test_nothing_listens_beyond_the_head(either: Config) -> None:
    commands = either["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in commands[-1]
    servers = [command for command in commands if "mlflow server" in command]
    assert all("--host 127.0.0.1" in server for server in servers)


def test_the_head_serves_mlflow_on_aws(config: Config) -> None:
    assert any("mlflow server" in command for command in config["head_start_ray_commands"])


def test_every_command_is_shell_inside_parentheses(either: Config) -> None:
    """Ray wraps commands so; a comment at a command's end would swallow the closing one."""
    commands = [command for key in either if key.endswith("commands") for command in either[key]]
    assert len(commands) >= 6
    for command in commands:
        subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)


def test_images_have_the_pinned_ray(config: Config) -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    version = next(pin.removeprefix("ray==") for pin in pins if pin.startswith("ray=="))
    images = [config["docker"]["image"]]
    images += [
        node["docker"]["worker_image"]
        for node in config["available_node_types"].values()
        if "docker" in node
    ]
    assert len(images) == 2
    for image in images:
        assert image.startswith(f"rayproject/ray:{version}-py311-")


def test_nothing_trains_on_the_head_or_on_a_measured_target(config: Config) -> None:
    nodes = config["available_node_types"]
    offering = {name for name, node in nodes.items() if node["resources"].get("CPU", 0) > 0}
    assert offering == {"gpu"}
    assert nodes["edge_cpu"]["resources"]["target_edge_cpu"] == 1
