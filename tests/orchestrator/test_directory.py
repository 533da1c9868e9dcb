"""Where a study's directory is, what may stand there, and which nodes must see it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import ray

from orchestrator.config import load_config
from orchestrator.directory import adopt, check_shared
from tests.cluster.local_cluster import driven, local_cluster
from tests.orchestrator import tiny
from workers.errors import InputError
from workers.executors.connection import blind_nodes
from workers.storage import Storage


@pytest.mark.parametrize(
    ("parent", "directory"),
    [
        ("/shared/studies", "/shared/studies/random_digits"),
        ("mock:///bucket/studies?x=1", "mock:///bucket/studies/random_digits?x=1"),
    ],
)
def test_the_study_names_the_parent_of_its_directory(parent: str, directory: str) -> None:
    command = ("run", "random_digits", "--executor", "serial", "--dry-run")
    ended = tiny.paretoray(*command, "--set", f"storage={parent}")
    assert (ended.code, ended.err) == (0, "")
    assert f"directory  {directory}\n" in ended.out


def test_a_directory_may_be_moved_but_holds_one_study(tmp_path: Path) -> None:
    storage, config = Storage(str(tmp_path)), load_config("random_digits")
    adopt(config, storage)
    text = (tmp_path / "study.yaml").read_text()
    adopt(dataclasses.replace(config, storage="/elsewhere"), storage)
    (tmp_path / "study.yaml").write_text(text.replace("storage: runs\n", ""))  # of older versions
    adopt(config, storage)
    with pytest.raises(InputError, match="another study; differing keys: seed; choose another"):
        adopt(dataclasses.replace(config, seed=1), storage)


def test_a_study_file_in_a_store_that_lacks_it_is_named() -> None:
    with pytest.raises(InputError, match=r"mock:///bucket/study\.yaml: cannot be read: "):
        load_config("mock:///bucket/study.yaml")


def test_the_nodes_that_do_not_see_it_are_named(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(InputError, match=r"from 10\.0\.0\.7, 10\.0\.0\.9; allowed") as error:
        check_shared(storage, lambda path: ["10.0.0.7", "10.0.0.9"])
    assert str(error.value).startswith(f"--dir {tmp_path}: ")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_all_see_passes(tmp_path: Path) -> None:
    asked: list[Path] = []

    def blind_nodes(path: Path) -> list[str]:
        asked.append(path)
        return [] if path.is_file() else ["10.0.0.7"]

    check_shared(Storage(f"file://{tmp_path}"), blind_nodes)
    assert [path.parent for path in asked] == [tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_an_object_store_is_seen_by_all() -> None:
    check_shared(Storage("mock:///bucket"), lambda path: [str(path)])


def test_a_node_that_was_lost_a_moment_ago_is_not_asked(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (head,) = ray.nodes()
    lost = {**head, "NodeID": "1" * len(head["NodeID"]), "NodeManagerAddress": "10.0.0.7"}
    monkeypatch.setattr(ray, "nodes", lambda: [head, lost])
    assert blind_nodes(tmp_path, {"CPU": 1.0}) == []


@pytest.mark.slow
def test_several_nodes_on_one_machine_share_its_folders(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    with local_cluster({"num_cpus": 1}, {"num_cpus": 1}, num_cpus=0) as cluster:
        blind = {
            name: driven(cluster.address, blind_nodes, tmp_path / name, {"CPU": 1.0})
            for name in ("there", "absent")
        }
    assert blind["there"] == []
    assert len(blind["absent"]) == 1  # the nodes have one address
