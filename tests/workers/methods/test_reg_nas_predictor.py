"""The resident evaluator: as the networks alone, whatever was evaluated before."""

import dataclasses
import random
import sys
from types import SimpleNamespace

import pytest
import torch

from search_spaces.base import sample
from search_spaces.elastic import Supernet
from tests.workers.methods.test_budgeted import equal
from tests.workers.methods.tiny_elastic import MOBILENET, RESNET, elastic_problem
from workers.calibration import calibration_part
from workers.datasets import Data
from workers.evaluation import evaluate
from workers.methods.reg_nas.predictor import Images, inherited, predictor

MODULE = sys.modules[Images.__module__]  # the package has a function of its name
CONFIG = SimpleNamespace(calibration_images=48)


def started(space=MOBILENET):
    """Return a problem whose start is a supernet in which weights differ enough to tell."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(space)
        with torch.no_grad():
            for parameter in supernet.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    return elastic_problem(space, start={"supernet": supernet.state_dict()})


def networks(space, count=4):
    rng = random.Random(1)
    drawn = [sample(space, rng) for _ in range(count)]
    return [space.presets["max"], *drawn, space.presets["min"]]


def calibrated(problem, architecture):
    """Return a stand-alone network whose batch norms saw the same images, by torch's own means."""
    supernet = Supernet(problem.space)
    supernet.load_state_dict(problem.start["supernet"])
    network = problem.space.build(architecture)
    network.load_state_dict(supernet.extract(architecture))
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    images = calibration_part(problem.data.train, CONFIG.calibration_images).samples_N
    x_BCHW = (images / 255 - problem.data.mean[0]) / problem.data.std[0]
    with torch.no_grad():
        network.train()(x_BCHW)
    return network.eval()


@pytest.mark.parametrize("space", [MOBILENET, RESNET], ids=["mobilenet", "resnet"])
def test_predictions_and_weights_are_those_of_the_network_alone(space):
    problem = started(space)
    predict = predictor(problem, CONFIG)
    for architecture in networks(space):
        network = calibrated(problem, architecture)
        (predicted_N,) = predict([architecture])
        alone = evaluate(network, problem.data.val, problem.data)
        assert predicted_N.dtype == torch.int16
        assert torch.equal(predicted_N, alone.predictions_N)
        weights = inherited(problem, CONFIG, architecture)
        assert weights.keys() == network.state_dict().keys()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=1e-4)


def test_predictions_differ_between_networks():
    predictions = predictor(started(), CONFIG)(networks(MOBILENET))
    assert len({tuple(predicted_N.tolist()) for predicted_N in predictions}) > 3


def test_nothing_is_left_of_what_was_evaluated_before():
    architectures = networks(MOBILENET)
    predict = predictor(started(), CONFIG)
    together = predict(architectures)
    assert equal(predict(architectures[::-1])[::-1], together)
    for architecture, predicted_N in zip(architectures, together, strict=True):
        assert equal(predictor(started(), CONFIG)([architecture]), [predicted_N])


def test_weights_can_be_delivered_and_finished_with():
    problem = started()
    architecture = networks(MOBILENET)[1]
    network = MOBILENET.build(architecture)
    network.load_state_dict(inherited(problem, CONFIG, architecture))
    found = evaluate(network, problem.data.val, problem.data).predictions_N
    assert torch.equal(found, predictor(problem, CONFIG)([architecture])[0])


def test_statistics_come_from_as_many_training_images_as_are_asked_for():
    problem = started()
    data = problem.data
    few = calibration_part(data.train, CONFIG.calibration_images)
    cut = dataclasses.replace(problem, data=dataclasses.replace(data, train=few))
    assert equal(
        predictor(problem, CONFIG)(networks(MOBILENET)), predictor(cut, CONFIG)(networks(MOBILENET))
    )
    fewer = SimpleNamespace(calibration_images=8)
    architecture = MOBILENET.presets["max"]
    one, two = (inherited(problem, config, architecture) for config in (CONFIG, fewer))
    assert not torch.equal(one["stem.norm.running_mean"], two["stem.norm.running_mean"])


def test_images_too_many_to_stay_normalised_give_the_same(monkeypatch):
    expected = predictor(started(), CONFIG)(networks(MOBILENET))
    monkeypatch.setattr(MODULE, "MOST_BYTES", 0)
    assert equal(predictor(started(), CONFIG)(networks(MOBILENET)), expected)


def test_many_images_come_in_batches_of_nearly_one_size(monkeypatch):
    monkeypatch.setattr(MODULE, "BATCH_SIZE", 16)
    data: Data = elastic_problem().data
    images = Images(data.train.subset(torch.arange(33)), data, torch.device("cpu"))
    assert [len(x_BCHW) for x_BCHW in images] == [11, 11, 11]


def test_a_supernet_is_needed():
    with pytest.raises(ValueError, match="start: evaluation needs the supernet"):
        predictor(elastic_problem(), CONFIG)
