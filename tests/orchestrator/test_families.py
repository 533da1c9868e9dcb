"""Families in the report: what breaks between networks, means over seeds, relative changes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from orchestrator import load
from orchestrator.families import averaged, changes, families, relative_change, shown_split
from orchestrator.loading import Study
from orchestrator.report import render
from orchestrator.results import Results
from search_spaces.ofa_mobilenet_v3 import OFAMobileNetV3
from workers.storage import Storage

SPACE = OFAMobileNetV3()
STUDY_YAML = """\
study: families
method: {name: reg_nas, reward: r2, cas: true, optimizer: evolution, lambda_ratio: 1.0}
space: {name: ofa_mobilenet_v3, preset: mbv3_28}
dataset: {name: digits}
cost: macs
"""
# Of 200 samples that all are of class 0, those that each network has wrong: by trial, three each.
WRONG = {
    ("t000", "r0", 0): [range(40), range(20, 44), range(30, 50)],
    ("t001", "r0", 1): [range(40), range(20, 48), range(30, 62)],
    ("t002", "r2", 0): [range(40), range(30), range(25)],
    ("t003", "r2", 1): [range(40), range(34), range(36)],
}
SAMPLES = 200


def write(directory: Path, split: str, *, stage: str = "finished") -> Study:
    storage = Storage(str(directory))
    results = Results(storage)
    storage.write_bytes("study.yaml", STUDY_YAML.encode())
    results.write_labels(dataset="digits", split=split, classes=np.zeros(SAMPLES))
    for (trial, reward, seed), wrong in WRONG.items():
        for index, samples in enumerate(wrong):
            name = f"{trial}.{index}"
            classes = np.isin(np.arange(SAMPLES), samples)
            about = {"study": "families", "dataset": "digits"}
            record = {
                **about,
                "method": "reg_nas",
                "candidate": name,
                "trial": trial,
                "stage": stage if name == "t003.2" else "finished",
                "digest": name,
                "architecture": SPACE.presets["min"],
                "params": {"reward": reward, "seed": seed},
                "seed": seed,
                "cost": 1e6 * (1 + index),
                "cost_name": "macs",
                "val_accuracy": 1 - classes.mean(),
                "on_front": False,
                **({"search_nfr": 0.5} if index else {}),
            }
            results.write_candidate(record)
            results.write_predictions(**about, candidate=name, split=split, classes=classes)
    return load(str(directory))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write(tmp_path_factory.mktemp("families"), "test")


def test_flips_are_counted_between_all_networks_of_a_trial(study: Study) -> None:
    first = families(study)[0]
    assert first.accuracy_M.tolist() == [0.8, 0.88, 0.9]
    # 20 to 43 against 0 to 39: four more are wrong.
    assert first.nfr_MM.tolist()[0] == [0.0, 4 / SAMPLES, 10 / SAMPLES]
    assert first.nfr == 6 / SAMPLES
    assert first.cost_M.tolist() == [1e6, 2e6, 3e6]


def test_seeds_are_averaged(study: Study) -> None:
    weight_sharing, proposed = averaged(families(study))
    assert (weight_sharing.label, weight_sharing.seeds) == ("reward r0", (0, 1))
    assert weight_sharing.nfr == pytest.approx((6 + 14) / 2 / SAMPLES)
    assert proposed.accuracy == pytest.approx(1 - (25 + 36) / 2 / SAMPLES)


def test_changes_are_against_the_point_of_the_paper(study: Study) -> None:
    weight_sharing, itself = changes(averaged(families(study)))
    assert (itself.nfr_percent, itself.accuracy_percent) == (0, 0)
    assert weight_sharing.nfr_percent == pytest.approx(100 * (1 - 10) / 10)
    assert changes(averaged(families(study))[:1]) == []
    assert math.isnan(relative_change(1.0, 0.0))


def test_validation_data_serve_where_not_all_were_tested(study: Study, tmp_path: Path) -> None:
    assert shown_split(study) == "test"
    untested = write(tmp_path, "val")
    assert shown_split(untested) == "val"
    assert families(untested)[0].nfr == 6 / SAMPLES


def test_trials_that_are_not_finished_are_left_out(tmp_path: Path) -> None:
    assert [family.seeds for family in families(write(tmp_path, "test", stage="searched"))] == [
        (0,),
        (1,),
        (0,),
    ]


def test_the_report_shows_both_tables(study: Study) -> None:
    page = render(study)
    assert "<h2>Families</h2>" in page
    assert '<td class="best">80.00</td>' in page
    assert "<h2>Relative change</h2>" in page
    assert "<td>-90.0</td>" in page
