"""The command line: what it prints, in the form that is documented, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
from jsonschema import Draft202012Validator

from orchestrator import load
from orchestrator.config import load_config, read_yaml
from orchestrator.plan import plan_lines
from tests.orchestrator import tiny

DOCUMENTED = {
    *("id", "architecture", "on_front", "val_accuracy", "test_accuracy", "macs", "num_params"),
    *("latency_ms", "cost", "cost_name", "nfr", "params"),
}


def test_front_prints_the_finished_candidates(done: Path) -> None:
    ended = tiny.paretoray("front", done, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert set(found) == {"study", "method", "directory", "objectives", "candidates"}
    assert (found["study"], found["method"]) == ("tiny", "prunet")
    assert found["directory"] == str(done)
    assert found["objectives"] == ["error", "latency_ms"]
    records = {record["candidate"]: record for record in load(str(done)).records}
    assert {row["id"] for row in found["candidates"]} == set(records)
    for row in found["candidates"]:
        assert set(row) >= DOCUMENTED
        record = records[row["id"]]
        assert row["params"] == {**record["params"], "seed": record["seed"]}
        assert all(row[key] == record[key] for key in DOCUMENTED - {"id", "params"})
        assert (row["test_accuracy"] is not None) == row["on_front"]


def test_front_prints_a_table_for_people(done: Path) -> None:
    ended = tiny.paretoray("front", done, environment={"COLUMNS": "200"})
    assert ended.code == 0
    assert ended.out.split()[:3] == ["id", "on", "front"]
    assert all(name in ended.out for name in ("t000", "t001", "gpunet1"))


def test_compare_sets_studies_side_by_side(done: Path, copy: Path) -> None:
    ended = tiny.paretoray("compare", done, copy, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert set(found) == {"objectives", "reference", "studies", "dominance", "flips"}
    first, second = found["studies"]
    assert (first["directory"], second["directory"]) == (str(done), str(copy))
    assert first["hypervolume"] == second["hypervolume"] > 0
    assert all(pair["dominates"] == {} for pair in found["dominance"])
    rates = np.array(found["flips"]["nfr"])
    assert rates.shape == (6, 6)
    assert (rates[:3, :3] == rates[3:, 3:]).all()
    assert (np.diag(rates) == 0).all()
    assert tiny.paretoray("compare", done, copy).code == 0


def test_list_shows_ready_studies_and_those_of_a_folder(runs: Path, done: Path) -> None:
    ended = tiny.paretoray("list", runs, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert "prunet_digits" in found["ready"]
    (row,) = [row for row in found["studies"] if row["directory"] == str(done)]
    front = len(load(str(done)).front())
    assert (row["study"], row["method"]) == ("tiny", "prunet")
    assert (row["candidates"], row["finished"], row["front"]) == (3, 3, front)
    assert "done" in tiny.paretoray("list", runs).out


def test_list_warns_of_a_study_that_was_never_run(tmp_path: Path, study_file: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text("study: mine\nmethod: prunet\n")
    ended = tiny.paretoray("list", tmp_path)
    assert ended.code == 0
    assert "mine/study.yaml: not of a study that was run (method" in ended.err
    ended = tiny.paretoray("front", tmp_path / "mine")
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_export_writes_models_that_compute_alike(done: Path, tmp_path: Path) -> None:
    for kind in ("onnx", "safetensors"):
        path = tmp_path / f"model.{kind}"
        ended = tiny.paretoray("export", done, "t001", "--format", kind, "--out", path)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"{path}: t001, ")
    kept = safetensors.numpy.load_file(done / "models" / "t001" / "weights.safetensors")
    weights = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(weights) == set(kept)
    assert all((weights[name] == array).all() for name, array in kept.items())
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 8), dtype=np.float32)
    outputs = [
        onnxruntime.InferenceSession(path).run(None, {"input": images})[0]
        for path in (tmp_path / "model.onnx", done / "models" / "t001" / "model.onnx")
    ]
    assert outputs[0].shape == (3, 10)
    assert np.allclose(*outputs, atol=1e-5)


def test_schema_accepts_a_study_and_refuses_a_typing_error(study_file: Path) -> None:
    schema = json.loads(tiny.paretoray("schema").out)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    study = read_yaml(study_file)
    assert validator.is_valid(study)
    assert not validator.is_valid({**study, "swep": {}})


@pytest.mark.parametrize("executor", ["serial", "ray"])
def test_a_dry_run_prints_the_plan_and_writes_nothing(
    study_file: Path, tmp_path: Path, executor: str
) -> None:
    directory = tmp_path / "study"
    ended = tiny.paretoray(
        *("run", study_file, "--dir", directory, "--executor", executor, "--dry-run")
    )
    assert (ended.code, ended.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
    stages = ["measure", "pretrain", "search", "select", "finish", "report"]
    assert [key for key in lines if key in stages] == stages
    assert lines["search"].startswith("2 trial(s)")
    assert lines["directory"] == str(directory)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_how_long_networks_with_weights_of_their_search_train() -> None:
    settings = ["baselines=[]", "training.epochs=7"]
    anew = load_config("prunet_digits", settings)
    assert "finish     7 epochs each; baselines: []" in plan_lines(anew, "x")
    inherited = load_config("prunet_digits", [*settings, "training.inherited_epochs=2"])
    assert (
        "finish     2 epochs each with weights of the search, 7 without; baselines: []"
        in plan_lines(inherited, "x")
    )


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("front", "/nowhere"), "/nowhere: not a study's directory"),
        (("compare", "/nowhere"), "/nowhere: not a study's directory"),
        (("run", "prunet_digit"), "did you mean 'prunet_digits'?"),
        (("run", "absent.yaml"), "absent.yaml: no such study file"),
        (("run", "prunet_digits", "--set", "seed"), "--set 'seed': expected key=value"),
        (("run", "prunet_digits", "--executor", "dask"), "'dask'"),
        (("fornt",), "fornt"),
    ],
)
def test_bad_input_exits_with_2(arguments: tuple[str, ...], part: str) -> None:
    ended = tiny.paretoray(*arguments)
    assert ended.code == 2
    assert part in ended.err
    assert "Traceback" not in ended.err


def test_an_unknown_candidate_is_refused_with_those_that_are_there(done: Path) -> None:
    ended = tiny.paretoray("export", done, "t00")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "no finished candidate 't00'" in ended.line
    assert "finished: gpunet1, t000, t001" in ended.line


def test_an_export_that_cannot_be_written_is_named(done: Path) -> None:
    ended = tiny.paretoray("export", done, "t001", "--out", done / "study.yaml" / "model.onnx")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "study.yaml/model.onnx: cannot be written: " in ended.line


def test_a_job_needs_a_directory_that_outlives_it(study_file: Path) -> None:
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    ended = tiny.paretoray("run", study_file, "--dir", "here", "--dry-run", environment=job)
    assert ended.code == 2
    assert "--dir here: relative to a job's working directory" in ended.line


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "orchestrator", "list", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "prunet_digits" in json.loads(ended.stdout)["ready"]
