"""Studies are validated whole, and every refusal is one line that names the key."""

import json
from pathlib import Path

import jsonschema
import pytest

from orchestrator.config import (
    InputError,
    Latency,
    load_config,
    read_yaml,
    ready_studies,
    study_schema,
)
from orchestrator.plan import checked
from tests.orchestrator import tiny

STUDY = """
study: small
method: {name: prunet, warmup_epochs: 1, epochs: 2}
space: {name: gpunet, preset: gpunet_8}
dataset: digits
sweep: {alpha: [0.1, 1.0]}
"""


@pytest.fixture
def study(tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return str(path)


BAD_SETTINGS = {
    "searhc.batch=4": r"searhc: unknown key; did you mean 'search'\?",
    "search.batsh=4": r"search\.batsh: unknown key; did you mean 'batch'\?",
    "search.batch=four": r'search\.batch: .*integer, got "four"',
    "search.batch=0": r"search\.batch: 0 is below 1",
    "search.batch=true": r"search\.batch: .*integer, got true",
    "search.sampler=gird": r"search\.sampler: .*'grid', 'random' or 'optuna'",
    "search.sampler=random": r"search\.num_trials: ",
    "search.time_budget_s=-1": r"search\.time_budget_s: -1(\.0)? is not positive",
    "method=prunett": r"method: 'prunett' is unknown; did you mean 'prunet'\?",
    "method.alfa=1": r"method\.alfa: unknown key; did you mean 'alpha'\?",
    "method.alpha=.nan": r"method\.alpha: nan is not a finite number",
    "method.epochs=1.5": r"method\.epochs: .*integer",
    "method.layer_skipping=never": r"method\.layer_skipping",
    "space=gpu_net": r"space: 'gpu_net' is unknown; did you mean 'gpunet'\?",
    "space.preset=gpunet_9": r"space\.preset: 'gpunet_9' is unknown; allowed: ",
    "dataset=digitz": r"dataset: 'digitz' is unknown; did you mean 'digits'\?",
    "dataset.name=3": r"dataset: expected a name",
    "sweep=[]": r"sweep: the list is empty",
    "seed=-1": r"seed: -1 is negative",
    "space.num_classes=5": r"space\.num_classes: 5 contradicts data set digits, which has 10",
    "space.in_shape=[3,32,32]": r"space\.in_shape: \[3, 32, 32\] contradicts .*\[1, 8, 8\]",
    "proxy.classes=0.1": r"proxy\.classes: 0\.1 of 10 classes leaves 1; at least 10",
    "dataset={name: image_folder, val_fraction: 1.0}": r"dataset\.val_fraction: 1\.0 is outside",
    "training.teacher.network=nowhere/t000": r"training\.teacher\.network: .*nowhere/t000",
    "training.teacher.network=resnet_none": r"training\.teacher\.network: 'resnet_none'",
    "cost=macs": r"cost: prunet searches by latency; macs is not allowed",
    "method.threshold_initial=0.3": r"threshold_initial: ",
    "sweep.epochs=[1, 2]": r"epochs: a point has 1, but all points start from one pretraining",
    "sweep.alpha=[]": r"sweep\.alpha: the list is empty",
    "sweep.beto=[1]": r"sweep\.beto: unknown key; did you mean 'beta'\?",
    "sweep.alpha=[one]": r"sweep\.alpha: .*number",
    "sweep.seed=[-1]": r"sweep\.seed: expected a non-negative integer",
    "sweep.alpha={low: 0.1, high: 1}": r"sweep\.alpha: a range needs search\.sampler",
    "resources.workers=0": r"resources\.workers: 0 is below 1",
    "resources.gpus_per_worker=-1": r"resources\.gpus_per_worker: -1(\.0)? is negative",
    "resources.gpus_per_worker=1.5": r"resources\.gpus_per_worker: 1\.5 is neither a part of",
    "latency.resources={edge: -1}": r"latency\.resources\.edge: -1(\.0)? is negative",
    "proxy.images=1.5": r"proxy\.images: 1\.5 is outside",
    "training.epochs=none": r"training\.epochs: .*integer",
    "latency.threads=100000000000": r"latency\.threads: 100000000000 is outside 1 to 1024",
    "latency.backend=tflite": r"latency\.backend: 'tflite' is unknown; allowed: ",
    "latency.table=absent.parquet": r"latency\.table: absent\.parquet: ",
    "cost=flops": r"cost: 'flops' is unknown; allowed: ",
    "baselines=[resnet]": r"baselines: 'resnet' is unknown; allowed: ",
    "reference=nowhere/t000": r"reference: nowhere",
    "finish=some": r"finish: .*'best', 'all' or 'none'",
    "finish=none": r"finish: none leaves no network; allowed for methods that fuse networks: \[",
    "study=2020-99-99": r"--set 'study=2020-99-99': '2020-99-99' is not a YAML value",
    "study=2020-09-09": r"study: 2020-09-09 is a date; in quotes it is text",
    "study=a/b": r"study: 'a/b' cannot be a folder's name",
}


@pytest.mark.parametrize(("setting", "message"), BAD_SETTINGS.items())
def test_bad_settings_are_refused_in_one_line_that_names_the_key(
    study: str, setting: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked(load_config(study, [setting]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [", r"line \d+: not valid YAML"),
        ("- a\n- b", "a study is a mapping of keys"),
        ("1: 2\n" + STUDY, "key 1 is not text"),
        ("study: x\nmethod: prunet\ndataset: digits", "space: is missing"),
        (STUDY.replace("small", "2024-02-30"), "not valid YAML"),
        (STUDY + "cost: no", "cost: 'no' is unknown"),  # YAML 1.2: `no` is text
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_a_misspelt_ready_study_is_named_with_its_neighbour() -> None:
    with pytest.raises(InputError, match="did you mean 'prunet_digits'"):
        load_config("prunet_digit")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: no such study file"):
        load_config(str(tmp_path / "absent.yaml"))


def test_overrides_and_defaults_are_written_out(study: str) -> None:
    config = load_config(study, ["search.batch=7", "method.lambda=0.4", "dataset=digits"])
    assert config.search.batch == 7
    assert config.method["lambda"] == 0.4
    assert config.method["beta"] == 0.6  # the paper's, section A.2.1
    assert config.dataset["name"] == "digits"


def test_a_resolved_study_loads_as_itself(study: str, tmp_path: Path) -> None:
    config = load_config(study)
    path = tmp_path / "resolved.yaml"
    path.write_text(json.dumps(config.as_dict()))
    assert load_config(str(path)) == config


@pytest.mark.parametrize("name", ready_studies())
def test_ready_studies_are_valid_and_obey_the_schema(name: str) -> None:
    config = load_config(name)
    path = Path(__file__).parents[2] / "orchestrator" / "studies" / f"{name}.yaml"
    jsonschema.validate(read_yaml(path), study_schema())
    assert config.study == name


def test_files_and_folders_become_absolute_and_a_held_table_is_not_looked_for(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tiny.made_up_table(tiny.blocks()).to_bytes()
    Path("mine.parquet").write_bytes(table)
    relative = load_config(study, ["latency.table=mine.parquet"])
    config = checked(relative)
    assert config.latency.table == str(tmp_path / "mine.parquet")
    Path("mine.parquet").unlink()
    with pytest.raises(InputError, match=r"latency\.table: mine\.parquet"):
        checked(relative, str(tmp_path / "run"))
    Path("run").mkdir()
    Path("run/latency.parquet").write_bytes(table)
    assert checked(relative, str(tmp_path / "run")) == config


def test_a_probe_on_cuda_asks_for_a_gpu() -> None:
    assert Latency(backend="torch_cuda", threads=2).asked == {"CPU": 2.0, "GPU": 1.0}
    target = Latency(backend="torch_cuda", resources={"target": 1.0})
    assert target.asked == {"target": 1.0, "GPU": 1.0}
    hidden = Latency(backend="torch_cuda", resources={"target": 1.0, "GPU": 0.0})
    assert hidden.asked == {"target": 1.0}
