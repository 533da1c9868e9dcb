"""What a stranger's files can do here: nothing but be refused; and who can reach what we start."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orchestrator.config import load_config
from orchestrator.loading import load
from orchestrator.results import ResultsError
from workers.errors import InputError
from workers.storage import DamagedError
from workers.trial import from_bytes

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("search_spaces", "cost_models", "workers", "orchestrator")
UNPICKLING = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
RUNNING = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.hub.load"}
READING = {"pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.package"}
STUDY = "study: small\nmethod: random\nspace: {name: gpunet, preset: gpunet_8}\ndataset: digits\n"


def sources() -> Iterator[tuple[str, ast.AST]]:
    """Yield every part of the product's code, with the place to look it up."""
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def calls() -> Iterator[tuple[str, str, dict[str | None, str]]]:
    """Yield every call: its place, the function as it is written, and its keyword arguments."""
    for place, node in sources():
        if isinstance(node, ast.Call):
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            yield place, ast.unparse(node.func), options


def test_no_module_that_unpickles_is_imported() -> None:
    imported = [
        (place, name.split(".")[0])
        for place, node in sources()
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    ]
    assert len(imported) > 1000
    assert [found for found in imported if found[1] in UNPICKLING] == []


def test_no_call_reads_code_from_a_file() -> None:
    found = list(calls())
    assert [place for place, name, _ in found if name in RUNNING | READING] == []
    loads = [(place, options) for place, name, options in found if name == "torch.load"]
    assert len(loads) >= 2
    assert [place for place, options in loads if options.get("weights_only") != "True"] == []
    arrays = [(place, options) for place, name, options in found if name == "np.load"]
    assert [place for place, options in arrays if "allow_pickle" in options] == []
    shells = [place for place, _, options in found if options.get("shell", "False") != "False"]
    assert shells == []


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return exec, (f"open({str(self.path)!r}, 'w')", "")


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_checkpoint_of_code_is_damaged(kind: str, tmp_path: Path) -> None:
    path, bomb = tmp_path / "bomb.pt", Bomb(tmp_path / "ran")
    if kind == "torch":
        torch.save({"state": bomb}, path)
    else:
        path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(DamagedError, match=r"bomb\.pt: damaged"):
        from_bytes(path.read_bytes(), str(path))
    assert not bomb.path.exists()


HOSTILE = {
    "study: !!python/object/apply:os.system [id]\n": r"line 1: not valid YAML: could not determine",
    "study: !!python/name:os.system\n": r"line 1: not valid YAML: could not determine",
    STUDY.replace("small", "../up"): r"study: '\.\./up' cannot be a folder's name",
    STUDY.replace("small", ".."): r"study: '\.\.' cannot be a folder's name",
    STUDY.replace("small", "/etc"): r"study: '/etc' cannot be a folder's name",
    STUDY.replace("random", "os.system"): r"method: 'os\.system' is unknown",
    STUDY.replace("digits", "../digits"): r"dataset: '\.\./digits' is unknown",
    STUDY + "storage: [a]\n": r"storage: .*string",
}
FUNCTIONS = (
    "os.system('id')",
    "../evil:make",
    "/tmp/evil:make",
    "evil",
    "a:b.c",
    "a:__import__('b')",
)


@pytest.mark.parametrize(("text", "message"), HOSTILE.items())
def test_a_hostile_study_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_a_name_and_no_expression(function: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    space = f"{{name: torch_module, function: {function!r}}}"
    path.write_text(STUDY.replace("{name: gpunet, preset: gpunet_8}", space))
    with pytest.raises(InputError, match=r"space\.function: .* is no name; allowed: ") as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


def test_a_directory_of_hostile_yaml_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: !!python/object/apply:os.system [id]\n")
    with pytest.raises(ResultsError, match=r"study\.yaml: damaged"):
        load(str(tmp_path))


LISTENING = """
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources
import psutil  # which Ray brings along

cluster = RayCluster(Resources())
assert list(cluster.map(abs, [-1])) == [1]
me = psutil.Process()
ours = {me.pid, *(child.pid for child in me.children(recursive=True))}
for connection in psutil.net_connections("tcp"):
    if connection.status == "LISTEN" and connection.pid in ours:
        print("listens on", connection.laddr.ip)
cluster.close()
"""


@pytest.mark.slow
def test_a_ray_that_we_start_listens_on_loopback_alone() -> None:
    command = [sys.executable, "-c", LISTENING]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = [line.split()[-1] for line in ended.stdout.splitlines() if "listens on" in line]
    assert len(found) > 3
    assert set(found) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
