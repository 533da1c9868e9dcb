"""A whole study of REDS, from its file to what a device takes away."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch

from orchestrator import load
from search_spaces.keyword_nets import Config, KeywordNets
from tests.orchestrator.tiny import serial
from workers.methods.reds.load_subnet import load_subnet

STUDY = """\
study: small
method:
  name: reds
  fractions: [0.4, 0.8]
  min_units: 8
  importance_batches: 2
  epochs: 1
  norm_epochs: 1
  pretraining: {epochs: 2, batch_size: 50, optimizer: adam, lr: 0.002}
space: {name: keyword_nets, model: vision, channel_multiple: 8}
dataset: digits
cost: macs
sweep: {solver: [bu, td]}
finish: all
training: {inherited_epochs: 0}
report: {test_all: true}
"""
CHANGED = "training: {inherited_epochs: null, epochs: 1}"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reds")
    (folder / "study.yaml").write_text(STUDY)
    ended = serial(folder / "study.yaml", folder / "run")
    assert ended.code == 0, ended.err
    return folder / "run"


@pytest.mark.slow
def test_subnets_are_finished_as_they_were_trained_together(done):
    records = {record["candidate"]: record for record in load(str(done)).records}
    assert set(records) == {f"t00{trial}.{index}" for trial in (0, 1) for index in (0, 1, 2)}
    for record in records.values():
        assert record["stage"] == "finished"
        assert record["val_accuracy"] == record["search_val_accuracy"]
        assert record["macs"] <= record["fraction"] * records["t000.2"]["macs"]
        assert record["gap"] == 0
        assert record["test_accuracy"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["t000", "t001"])
def test_the_product_holds_what_the_results_say(done, trial):
    folder = done / "products" / trial
    entries = json.loads((folder / "subnets.json").read_text())["subnets"]
    records = {record["candidate"]: record for record in load(str(done)).records}
    space = KeywordNets(Config(model="vision", in_shape=(1, 8, 8), num_classes=10))
    x = torch.rand(2, 1, 8, 8)
    assert [entry["candidate"] for entry in entries] == [f"{trial}.{index}" for index in range(3)]
    for index, entry in enumerate(entries):
        record = records[entry["candidate"]]
        assert entry["widths"] == record["architecture"]
        assert entry["latency_ms"] == record["latency_measured_ms"] > 0
        assert entry["latency_device"] == record["latency_device"] is not None
        assert entry["latency_backend"] == "onnxruntime"
        assert entry["test_accuracy"] == record["test_accuracy"]
        network = space.build(entry["widths"]).eval()
        network.load_state_dict(load_subnet(folder, index))
        session = onnxruntime.InferenceSession(folder / entry["onnx"])
        (logits,) = session.run(None, {"input": x.numpy()})
        assert abs(torch.from_numpy(logits) - network(x).detach()).max() < 1e-4


@pytest.mark.slow
def test_sizes_trained_apart_make_no_common_file(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("training: {inherited_epochs: 0}", CHANGED))
    ended = serial(tmp_path / "study.yaml", tmp_path / "run", "--set", "sweep.solver=[bu]")
    assert ended.code == 0, ended.err
    assert "training.inherited_epochs: 0" in ended.out
    assert len(load(str(tmp_path / "run")).finished()) == 3
    assert not (tmp_path / "run" / "products").exists()
