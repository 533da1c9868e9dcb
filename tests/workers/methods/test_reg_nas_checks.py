"""What REG-NAS refuses at the door."""

import dataclasses

import pytest

from tests.workers.methods.tiny import SPACE
from tests.workers.methods.tiny_elastic import MOBILENET, elastic_problem
from workers.methods.reg_nas.checks import check
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.supernet_settings import SupernetTraining

COST = elastic_problem().cost
LEAST, MOST = (COST(MOBILENET.presets[name]) for name in ("min", "max"))
FITS = Config(budgets=(0.5 * MOST, 0.8 * MOST))


def refusal(*points, space=MOBILENET, cost="macs"):
    with pytest.raises(ValueError) as refused:  # noqa: PT011, its text is what is tested
        check(space, FITS, points or (FITS,), cost)
    return str(refused.value)


def changed(**settings):
    return dataclasses.replace(FITS, **settings)


def test_what_can_be_searched_is_let_through():
    given = changed(reference=MOBILENET.presets["min"], budgets=(0.5 * MOST,), reward="r0")
    check(MOBILENET, FITS, (FITS, given, changed(cas=False)), "macs")
    check(MOBILENET, FITS, (changed(budgets=(1e-9, 1e-8)),), "latency_ms")  # known only later


def test_spaces_without_a_supernet_are_refused():
    assert "gpunet is not allowed" in refusal(space=SPACE)


def test_random_costs_are_refused():
    assert refusal(cost="network_latency_ms").startswith("cost: network_latency_ms is drawn anew")


def test_points_share_one_supernet():
    other = changed(supernet=SupernetTraining(strategy="sandwich"))
    assert refusal(FITS, other).startswith("supernet: a point has its own")
    assert refusal(changed(calibration_images=7)).startswith("calibration_images: a point has")


def test_budgets_below_the_smallest_network_are_refused():
    message = refusal(changed(budgets=(LEAST - 1, MOST)))
    assert message.endswith(f"what the smallest network costs; allowed: {LEAST:.15g} or above")


def test_references_must_be_networks_within_the_budgets():
    message = refusal(changed(reference={"d": [9]}, budgets=(MOST,)))
    assert message.startswith("reference: architecture: ")
    largest = changed(reference=MOBILENET.presets["max"], budgets=(MOST - 1,))
    assert "is below what the reference costs" in refusal(largest)
    check(MOBILENET, FITS, (dataclasses.replace(largest, cas=False),), "macs")
