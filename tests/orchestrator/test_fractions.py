"""Nested subnets in the report: means over seeds by fraction, and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import load
from orchestrator.fractions import against_macs, by_fraction, columns, shown_accuracy, subnets
from orchestrator.loading import Study
from orchestrator.report import render
from orchestrator.results import Results
from search_spaces.keyword_nets import KeywordNets
from tests.orchestrator.fabricated import fabricate
from workers.storage import Storage

SPACE = KeywordNets(KeywordNets.Config(model="dnn"))
STUDY_YAML = """\
study: nested
method: {name: reds}
space: {name: keyword_nets, model: dnn}
dataset: {name: digits}
cost: macs
"""
# By trial: sweep point, test accuracies of a half and the whole.
TRIALS = {
    "t000": ({"solver": "bu", "seed": 0}, (0.80, 0.90)),
    "t001": ({"solver": "bu", "seed": 1}, (0.84, 0.92)),
    "t002": ({"solver": "td", "seed": 0}, (0.70, None)),
}


def write(directory: Path) -> Study:
    """Write a study whose last trial's full network is not finished."""
    storage = Storage(str(directory))
    results = Results(storage)
    storage.write_bytes("study.yaml", STUDY_YAML.encode())
    for trial, (params, accuracies) in TRIALS.items():
        for index, (fraction, accuracy) in enumerate(zip((0.5, 1.0), accuracies, strict=True)):
            name = f"{trial}.{index}"
            results.write_candidate(
                {
                    "study": "nested",
                    "dataset": "digits",
                    "method": "reds",
                    "candidate": name,
                    "trial": trial,
                    "stage": "searched" if accuracy is None else "finished",
                    "digest": name,
                    "architecture": SPACE.presets["full"],
                    "params": params,
                    "seed": params["seed"],
                    "cost": 1000 * fraction,
                    "cost_name": "macs",
                    "macs": int(1000 * fraction),
                    "num_params": int(100 * fraction),
                    "val_accuracy": 0.5,
                    "test_accuracy": accuracy,
                    "on_front": False,
                    "fraction": fraction,
                    "gap": 0.001 * index,
                    "solve_s": 0.002 + 0.002 * params["seed"],
                    "switch_us": 90.0,
                }
            )
    return load(str(directory))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write(tmp_path_factory.mktemp("nested"))


def test_seeds_of_a_point_are_averaged_by_fraction(study: Study) -> None:
    found = subnets(study)
    assert [(subnet.point, subnet.fraction) for subnet in found] == [
        ("solver bu", 1.0),
        ("solver bu", 0.5),
        ("solver td", 0.5),
    ]
    half = found[1]
    assert half.mean("test_accuracy") == pytest.approx(0.82)
    assert half.deviation("test_accuracy") == pytest.approx(0.04 / 2**0.5)
    assert half.mean("solve_s") == pytest.approx(0.003)
    assert half.mean("latency_measured_ms") is None
    assert found[2].deviation("test_accuracy") == 0


def test_rows_are_fractions_and_columns_points(study: Study) -> None:
    (whole, full), (share, halves) = by_fraction(subnets(study))
    assert (whole, share) == (1.0, 0.5)
    assert [subnet and subnet.point for subnet in full] == ["solver bu", None]
    assert [subnet and subnet.point for subnet in halves] == ["solver bu", "solver td"]


def test_figures_show_what_is_known(study: Study) -> None:
    found = subnets(study)
    assert shown_accuracy(found) == "test_accuracy"
    figure = against_macs(found)
    assert figure is not None
    assert [trace.name for trace in figure.data] == 2 * ["solver bu", "solver td"]  # no latency
    assert figure.data[0].x == (1000, 500)
    assert figure.data[0].y == pytest.approx((91, 82))
    assert figure.data[2].y == (100, 50)
    assert [column.title for column in columns(found)] == ["100%", "50%", "50%"]


def test_the_report_shows_subnets(study: Study, tmp_path: Path) -> None:
    page = render(study)
    assert "<h2>Subnets</h2>" in page
    assert "<td>82.00 ± 2.83</td>" in page
    assert "<td>3.00</td>" in page  # solved in 3 ms
    assert "<td>0.001</td>" in page  # the full network's gap
    assert "How many units each subnet keeps" in page
    assert "<h2>Subnets</h2>" not in render(load(str(fabricate(tmp_path))))
