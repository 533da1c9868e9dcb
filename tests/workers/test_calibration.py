"""Batch norms are calibrated on samples of all classes, however a data set is sorted."""

import torch
from torch import nn

from workers.calibration import calibration_part, recalibrate
from workers.datasets import Data, TensorSplit


def sorted_by_class(classes: int, each: int) -> TensorSplit:
    """Return images that are as bright as their class says, class by class."""
    labels_N = torch.arange(classes).repeat_interleave(each)
    samples_N = (20 * labels_N).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    return TensorSplit(samples_N.contiguous(), labels_N)


def test_a_part_is_of_all_classes_and_always_the_same() -> None:
    split = sorted_by_class(classes=10, each=300)
    labels = calibration_part(split, 200).labels_N
    assert torch.bincount(labels, minlength=10).min() >= 10
    assert torch.equal(labels, calibration_part(split, 200).labels_N)
    assert len(calibration_part(split, 9_999)) == 3_000


def test_statistics_are_those_of_all_classes() -> None:
    split = sorted_by_class(classes=10, each=300)
    data = Data("sorted", split, split, split, num_classes=10, mean=(0.0,), std=(1.0,))
    network = nn.Sequential(nn.BatchNorm2d(1))
    recalibrate(network, split, data, batch_size=32)
    brightness = split.samples_N.float().mean() / 255
    torch.testing.assert_close(network[0].running_mean, brightness.view(1), rtol=0.1, atol=0)
