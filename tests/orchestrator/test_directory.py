"""Where a study's directory is, what may stand there, and which nodes must see it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.config import InputError, load_config
from orchestrator.directory import adopt, check_shared
from tests.orchestrator import tiny
from workers.storage import Storage

ROOT = Path(__file__).resolve().parents[2]
TWO_NODES = """
import json, sys
from pathlib import Path
from ray.cluster_utils import Cluster
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources

cluster = Cluster()
try:
    cluster.add_node(num_cpus=0)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    executor = RayCluster(Resources(), cluster.address)
    answers = [executor.blind_nodes(Path(path)) for path in sys.argv[1:]]
    executor.close()
    print(json.dumps(answers))
finally:
    cluster.shutdown()
"""


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


@pytest.mark.slow
def test_several_nodes_on_one_machine_share_its_folders(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    command = [sys.executable, "-c", TWO_NODES, str(tmp_path / "there"), str(tmp_path / "absent")]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    there, absent = json.loads(ended.stdout.splitlines()[-1])
    assert there == []
    assert absent == ["127.0.0.1"]
