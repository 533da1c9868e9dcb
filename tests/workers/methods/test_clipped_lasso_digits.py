"""What penalties choose on real data: the digits, with the settings of the ready study."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from cost_models.macs import macs
from orchestrator.config import load_config
from orchestrator.plan import checked
from workers.methods.clipped_lasso.search import pretrain, search
from workers.protocol import Candidate, Problem
from workers.trial import build_space, load_data, reset_process

STUDY = checked(load_config("clipped_lasso_digits", ["space.width_mult=0.5"]))
SPACE = build_space(STUDY.as_dict())


@pytest.fixture(scope="module")
def problem() -> Problem:
    """The digits, with the full network that all generation starts from."""
    reset_process(0, threads=1)
    problem = Problem(
        space=SPACE,
        data=load_data(STUDY.as_dict(), None),
        table=None,
        cost=lambda architecture, input_CHW=None: float(macs(SPACE.layers(architecture))),
        seed=0,
        device=torch.device("cpu"),
    )
    *_, last = pretrain(problem, STUDY.component("method"), None)
    return dataclasses.replace(problem, start=last.state())


def generated(problem: Problem, **point: object) -> Candidate:
    *_, last = search(problem, STUDY.component("method", point), None)
    (candidate,) = last.candidates
    return candidate


def size(candidate: Candidate) -> int:
    return macs(SPACE.layers(candidate.architecture))


@pytest.mark.slow
def test_a_larger_a_gives_a_smaller_subnet(problem: Problem) -> None:
    assert isinstance(STUDY.sweep, tuple)
    clipped = STUDY.sweep[0]
    assert len(clipped["a"]) >= 4
    (lambda_,) = clipped["lambda"]
    sizes = [size(generated(problem, a=a, **{"lambda": lambda_})) for a in sorted(clipped["a"])]
    assert all(more > less for more, less in itertools.pairwise(sizes))
    assert sizes[0] > 2 * sizes[-1]  # they spread


@pytest.mark.slow
def test_kept_norms_differ_more_than_under_group_lasso_at_equal_size(problem: Problem) -> None:
    """Section V-B, for the largest a of the paper; docs/clipped_lasso.md says where it fails."""
    clipped = generated(problem, a=1.5, **{"lambda": 0.04})
    group = generated(problem, penalty="group", **{"lambda": 0.05})
    full = macs(SPACE.layers(SPACE.presets["full"]))
    assert size(clipped) == pytest.approx(size(group), rel=0.1)
    assert max(size(clipped), size(group)) < full
    assert clipped.metrics["norm_deviation"] > group.metrics["norm_deviation"]
