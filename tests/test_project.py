"""The project agrees with itself: documents, settings, folders and registries say the same."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.core import TyperGroup

from orchestrator.cli import app
from orchestrator.config import load_config, ready_studies
from workers.datasets import DATASETS
from workers.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("search_spaces", "cost_models", "workers", "orchestrator")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LAUNCHER = ("up", "down", "dashboard", "attach", "rsync-up", "rsync-down")
# What only one machine or one company knows: home folders, local roots, package mirrors.
PRIVATE = re.compile(
    r"(?<![\w.~/])/(?:work|root|Users|home/(?!ray\b)\w+)/"
    r"|https?://[^\s/]*(?:pypi|pythonhosted|artifactory|devpi|nexus)"
    r"|--(?:extra-)?index-url|--find-links"
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def shell_lines(document: Path) -> Iterator[list[str]]:
    """Yield the words of every command in the document's shell blocks."""
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", document.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                yield words


def commands_of(words: list[str]) -> list[str] | None:
    """Return the arguments that a line of a document gives to our command, if it does."""
    for called in (["paretoray"], ["python", "-m", "orchestrator"]):
        for start in range(len(words)):
            if words[start : start + len(called)] == called:
                return words[start + len(called) :]
    return None


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_ours(arguments: list[str]) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    if arguments[0].startswith("-"):
        return
    command = group.commands[arguments[0]]
    known = {name for parameter in command.params for name in (*parameter.opts, "--help")}
    given = {word.split("=")[0] for word in arguments[1:] if word.startswith("--")}
    assert given <= known, f"{arguments[0]}: {sorted(given - known)} are no options"
    if arguments[0] == "run" and re.fullmatch(r"[a-z0-9_]+", arguments[1]):
        assert arguments[1] in ready_studies()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_in_documents_exist(document: Path) -> None:
    for words in shell_lines(document):
        if words[0] == "make":
            assert set(words[1:]) <= make_targets(), words
        if words[0] == "ray" and words[1] in LAUNCHER:
            assert (ROOT / words[2]).is_file(), words
        if (arguments := commands_of(words)) is not None:
            check_ours(arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_links_in_documents_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_packages_in_pyproject_are_the_folders() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for floor in FLOORS
        for path in (ROOT / floor).rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == found
    assert set(settings["tool"]["importlinter"]["root_packages"]) == set(FLOORS)


def test_everything_that_pyproject_asks_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    pins = (ROOT / "constraints.txt").read_text().split()
    assert asked <= {canonicalize_name(Requirement(pin).name) for pin in pins}


def test_the_tree_in_contributing_shows_every_folder() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT}
    missing = {name for name in folders if f"{name}/" not in text}
    assert not missing


@pytest.mark.parametrize(
    ("folder", "registry", "variable"),
    [("workers/methods", METHODS, "METHOD"), ("workers/datasets", DATASETS, "DATASET")],
)
def test_a_registry_holds_what_its_folder_defines(
    folder: str, registry: Mapping[str, Any], variable: str
) -> None:
    """One file, or one folder, for every entry: none is forgotten and none is there twice."""
    package = folder.replace("/", ".")
    modules = [module.name for module in pkgutil.iter_modules([str(ROOT / folder)])]
    imported = [importlib.import_module(f"{package}.{name}") for name in modules]
    defined = [getattr(module, variable) for module in imported if hasattr(module, variable)]
    assert len(defined) == len(registry)
    for entry in registry.values():
        assert sum(entry is other for other in defined) == 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_named_as_in_its_registry(name: str) -> None:
    assert METHODS[name].name == name


@pytest.mark.parametrize("name", ready_studies())
def test_a_ready_study_is_valid_and_named_as_its_file(name: str) -> None:
    assert load_config(name).study == name


def test_ready_studies_are_the_files() -> None:
    files = {path.stem for path in (ROOT / "orchestrator" / "studies").glob("*.yaml")}
    assert set(ready_studies()) == files
    assert files


def test_no_tracked_file_names_a_private_place() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if PRIVATE.search(line)
    ]
    assert not found, "\n".join(found)
