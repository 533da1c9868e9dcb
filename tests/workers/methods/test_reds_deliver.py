import dataclasses
import importlib.util
import json
import sys
import time

import numpy as np
import pytest
import torch

from tests.workers.methods.tiny_subnets import subnet_config, subnet_problem
from workers.methods.reds import METHOD
from workers.methods.reds import load_subnet as loader
from workers.methods.reds.deliver import listed
from workers.methods.reds.load_subnet import load, load_subnet, subnet
from workers.methods.reds.search import pretrain, search
from workers.methods.reds.units import axes_of
from workers.protocol import Finished


@pytest.fixture(scope="module")
def space():
    return subnet_problem().space


@pytest.fixture(scope="module")
def candidates():
    """What a search finds."""
    config = subnet_config(epochs=1, norm_epochs=0)
    *_, trained = pretrain(subnet_problem(), config, None)
    problem = subnet_problem(start=trained.state())
    *_, last = search(problem, config, None)
    return last.candidates


@pytest.fixture(scope="module")
def finished(candidates):
    """Finished networks as the study's results have them."""
    labels = subnet_problem().data.val.labels_N
    return [
        Finished(
            {
                "candidate": f"t003.{index}",
                "architecture": candidate.architecture,
                "macs": 100 + index,
                "num_params": 10,
                "weight_bytes": 40,
                "peak_memory_bytes": 7,
                "val_accuracy": candidate.metrics["val_accuracy"],
                "test_accuracy": None,
                "latency_measured_ms": 0.5,
                "latency_device": "board",
                "latency_backend": "onnxruntime",
            },
            candidate.weights,
            candidate.predictions["val"],
            labels,
        )
        for index, candidate in enumerate(candidates)
    ]


@pytest.fixture
def folder(space, finished, tmp_path):
    for name, contents in METHOD.deliver(space, finished[::-1]).items():
        (tmp_path / name).write_bytes(contents)
    return tmp_path


def test_one_file_of_weights_serves_all_subnets(folder, space, finished):
    names = {path.name for path in folder.iterdir()}
    assert names == {"weights.safetensors", "subnets.json", "load_subnet.py"}
    for index, expected in enumerate(finished):
        weights = load_subnet(folder, index)
        assert weights.keys() == expected.weights.keys()
        assert all(torch.equal(weights[name], expected.weights[name]) for name in weights)
        space.build(expected.record["architecture"]).load_state_dict(weights)


def test_subnets_are_slices_of_loaded_tensors(folder):
    tensors, about = load(folder)
    for index in range(len(about["subnets"])):
        for name, weights in subnet(tensors, about, index).items():
            assert (
                weights.untyped_storage().data_ptr() == tensors[name].untyped_storage().data_ptr()
            )


def test_subnets_are_described(folder, finished):
    entries = json.loads((folder / "subnets.json").read_text())["subnets"]
    assert [entry["macs"] for entry in entries] == [100, 101, 102, 103]  # smallest first
    for entry, expected in zip(entries, finished, strict=True):
        assert entry["widths"] == expected.record["architecture"]
        assert entry["val_accuracy"] == expected.record["val_accuracy"]
        name = expected.record["candidate"]
        assert (entry["candidate"], entry["onnx"]) == (name, f"../../models/{name}/model.onnx")
        assert entry["latency_ms"] == 0.5
        assert (entry["latency_device"], entry["latency_backend"]) == ("board", "onnxruntime")
        assert entry["test_accuracy"] is None
        right = expected.predictions_N == expected.labels_N
        for sibling, rate in zip(finished, entry["nfr"], strict=True):
            known = sibling.predictions_N == sibling.labels_N
            assert rate == pytest.approx((known & ~right).double().mean().item())
    rates = np.array([entry["nfr"] for entry in entries])
    assert (rates.diagonal() == 0).all()
    assert rates.any()


def test_equal_subnets_are_in_the_order_of_their_candidates(space, finished):
    names = ["t003.2", "t003.10", "t003.11"]
    smallest = finished[0]
    equal = [
        dataclasses.replace(smallest, record={**smallest.record, "candidate": name})
        for name in names
    ]
    for given in (equal, equal[::-1]):
        files = METHOD.deliver(space, [*given, finished[-1]])
        entries = json.loads(files["subnets.json"])["subnets"]
        assert [entry["candidate"] for entry in entries] == [*names, "t003.3"]


def test_without_the_full_network_the_largest_subnet_holds_the_others(space, finished, tmp_path):
    for name, contents in METHOD.deliver(space, finished[:2]).items():
        (tmp_path / name).write_bytes(contents)
    for index, expected in enumerate(finished[:2]):
        weights = load_subnet(tmp_path, index)
        assert all(torch.equal(weights[name], expected.weights[name]) for name in weights)


def test_what_switching_takes_is_timed_on_the_delivered_loader(monkeypatch):
    """By its own function, on what it reads: tensors that are there, and `subnets.json`."""
    taken, delivered = [], loader.subnet

    def slow(tensors, about, index):
        taken.append(json.loads(json.dumps(about["axes"])))
        time.sleep(0.001)
        return delivered(tensors, about, index)

    monkeypatch.setattr(loader, "subnet", slow)
    config = subnet_config(epochs=1, norm_epochs=0)
    *_, trained = pretrain(subnet_problem(), config, None)
    *_, last = search(subnet_problem(start=trained.state()), config, None)
    assert all(candidate.metrics["switch_us"] > 1000 for candidate in last.candidates)
    assert taken[0] == listed(axes_of(subnet_problem().space))


def test_the_loader_stands_alone(folder):
    """What lies beside the weights runs without this package."""
    source = folder / "load_subnet.py"
    assert "workers" not in source.read_text()
    spec = importlib.util.spec_from_file_location("delivered_loader", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "delivered_loader" not in sys.modules
    assert module.load_subnet(str(folder), 0).keys() == load_subnet(folder, 0).keys()


def test_networks_that_share_no_weights_have_no_common_file(space, finished):
    apart = [*finished[:-1], finished[-1]]
    other = {name: tensor + 1 for name, tensor in finished[0].weights.items()}
    apart[0] = Finished(finished[0].record, other, finished[0].predictions_N, finished[0].labels_N)
    assert METHOD.deliver(space, apart) == {}
