import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workers.metrics import (
    bootstrap_means,
    mean_iou,
    negative_flip_interval,
    negative_flip_matrix,
    negative_flip_rate,
    negative_flip_rates_by_class,
    negative_flips,
    percentile_interval,
    positive_flip_rate,
)

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])
REFERENCE = np.array([0, 1, 2, 3, 0, 1, 0, 0])  # 6 of 8 right
TARGET = np.array([0, 1, 2, 0, 1, 1, 2, 0])  # 5 right: loses 3 and 4, gains 6


def test_rates_are_shares_of_all_samples() -> None:
    assert negative_flip_rate(REFERENCE, TARGET, LABELS) == 2 / 8
    assert positive_flip_rate(REFERENCE, TARGET, LABELS) == 1 / 8


def test_tensors_serve_like_arrays() -> None:
    tensors = [torch.tensor(array) for array in (REFERENCE, TARGET, LABELS)]
    assert negative_flip_rate(*tensors) == 2 / 8
    tensors[1] = tensors[1].to(torch.int16)
    assert positive_flip_rate(*tensors) == 1 / 8


classes = st.integers(0, 3)
triples = st.integers(1, 40).flatmap(lambda n: arrays(np.int64, (3, n), elements=classes))


def every_triple(test):
    return settings(deadline=None)(given(triples)(test))  # a busy machine may hold up an example


@every_triple
def test_flips_account_for_the_difference_in_accuracy(triple: np.ndarray) -> None:
    reference, target, labels = triple
    gained = positive_flip_rate(reference, target, labels)
    lost = negative_flip_rate(reference, target, labels)
    difference = np.mean(target == labels) - np.mean(reference == labels)
    assert difference == pytest.approx(gained - lost, abs=1e-12)


@every_triple
def test_flips_account_for_the_difference_in_right_samples_exactly(triple: np.ndarray) -> None:
    reference, target, labels = triple
    gained = negative_flips(target, reference, labels).sum()
    lost = negative_flips(reference, target, labels).sum()
    assert (target == labels).sum() - (reference == labels).sum() == gained - lost
    assert negative_flip_rate(target, target, labels) == 0


@every_triple
def test_rates_of_classes_add_up_to_that_of_all(triple: np.ndarray) -> None:
    reference, target, labels = triple
    rates = negative_flip_rates_by_class(reference, target, labels)
    for number, rate in enumerate(rates):
        of_class = labels == number
        if of_class.any():
            own = [array[of_class] for array in (reference, target, labels)]
            assert rate == pytest.approx(negative_flip_rate(*own))
        else:
            assert np.isnan(rate)
    whole = np.nansum(rates * np.bincount(labels)) / len(labels)
    assert whole == pytest.approx(negative_flip_rate(reference, target, labels))


def test_bootstrap_spreads_as_the_binomial_does() -> None:
    """A rate p of N samples has standard deviation sqrt(p (1 - p) / N); the interval 3.92 of it."""
    labels = np.zeros(1000, np.int64)
    target = (np.arange(1000) < 100).astype(np.int64)  # a tenth flips
    interval = negative_flip_interval(labels, target, labels)
    deviation = np.sqrt(0.1 * 0.9 / 1000)
    assert interval.low == pytest.approx(0.1 - 1.96 * deviation, abs=0.1 * deviation)
    assert interval.high == pytest.approx(0.1 + 1.96 * deviation, abs=0.1 * deviation)


def test_bootstrap_follows_from_its_seed() -> None:
    values = np.random.default_rng(0).integers(0, 2, (300, 1))
    first = bootstrap_means(values, seed=0, draws=100)
    assert (bootstrap_means(values, seed=0, draws=100) == first).all()
    assert (bootstrap_means(values, seed=1, draws=100) != first).any()


def test_bootstrap_draws_are_paired() -> None:
    """Two figures that differ by the same amount in every sample do so in every draw."""
    values = np.random.default_rng(0).integers(0, 2, 500)
    means = bootstrap_means(np.stack([values, values + 1], 1), draws=200)
    assert means.shape == (200, 2)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(200))
    assert means[:, 0].std() > 0
    interval = percentile_interval(means[:, 0])
    assert interval.low < values.mean() < interval.high


@every_triple
def test_matrix_holds_every_pair(triple: np.ndarray) -> None:
    reference, target, labels = triple
    matrix = negative_flip_matrix(np.stack([reference, target]), labels)
    assert matrix[0, 1] == pytest.approx(negative_flip_rate(reference, target, labels))
    assert matrix[1, 0] == pytest.approx(negative_flip_rate(target, reference, labels))
    assert np.all(np.diag(matrix) == 0)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shape \(7,\) for labels of shape \(8,\)"):
        negative_flip_rate(TARGET[1:], TARGET[1:], LABELS)
    with pytest.raises(ValueError, match="at least one"):
        negative_flip_rate(TARGET[:0], TARGET[:0], LABELS[:0])


def test_mean_iou_of_an_example() -> None:
    """Class 0: 1 of 2 pixels in common; class 1: 2 of 4; class 2 is nowhere; class 3: 1 of 2."""
    labels = np.array([0, 0, 1, 1, 1, 3])
    predictions = np.array([0, 1, 1, 1, 3, 3])
    expected = (1 / 2 + 2 / 4 + 1 / 2) / 3
    assert mean_iou(predictions, labels) == pytest.approx(expected)
    assert mean_iou(torch.tensor(predictions, dtype=torch.int16), torch.tensor(labels)) == expected


@every_triple
def test_mean_iou_is_that_of_sets(triple: np.ndarray) -> None:
    _, predictions, labels = triple
    shares = []
    for number in range(4):
        found = set(np.flatnonzero(predictions == number))
        there = set(np.flatnonzero(labels == number))
        if found | there:
            shares.append(len(found & there) / len(found | there))
    assert mean_iou(predictions, labels) == pytest.approx(np.mean(shares))
