"""`load` gives a study's results as DataFrames and records, and says what it could not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import Study, load
from orchestrator.results import ResultsError
from tests.orchestrator.fabricated import ALPHAS, fabricate


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def study(directory: Path) -> Study:
    return load(str(directory))


def test_candidates_have_parameters_and_metrics_as_columns(study: Study) -> None:
    frame = study.candidates()
    assert len(frame) == 4 * len(ALPHAS) + 1
    assert sorted(frame["alpha"].dropna().unique()) == list(ALPHAS)
    assert {"phi", "lambda", "num_irb", "val_accuracy"} <= set(frame.columns)
    assert not {"params", "metrics"} & set(frame.columns)


def test_the_front_is_finished_sorted_and_rising(study: Study) -> None:
    front = study.front()
    costs = [record["cost"] for record in front]
    accuracies = [record["val_accuracy"] for record in front]
    assert len(front) >= 3
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)


def test_flips_agree_with_accuracies(study: Study) -> None:
    matrix = study.nfr_matrix()
    accuracy = {record["candidate"]: record["val_accuracy"] for record in study.front()}
    assert list(matrix.index) == list(accuracy)
    for old in accuracy:
        assert matrix.loc[old, old] == 0
        for new in accuracy:  # acc_new - acc_old = positive flips - negative flips
            gain = matrix.loc[new, old] - matrix.loc[old, new]
            assert gain == pytest.approx(accuracy[new] - accuracy[old])


def test_tables_and_configuration_are_there(study: Study) -> None:
    assert study.name == "fabricated"
    assert study.config["method"]["name"] == "prunet"
    assert set(study.history()["metric"]) == {
        "search_loss",
        "latency_ms",
        "num_blocks",
        "trial_s",
    }
    assert set(study.predictions()["split"]) == {"val", "test"}


def test_a_study_that_has_just_begun_loads(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: young\nmethod: {name: random}\n")
    study = load(str(tmp_path))
    assert study.candidates().empty
    assert "val_accuracy" in study.candidates().columns
    assert study.front() == []
    assert study.nfr_matrix().empty


def test_damage_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    fabricate(tmp_path)
    (tmp_path / "results/candidates/gpunet1.parquet").write_bytes(b"PAR1")
    study = load(str(tmp_path))
    assert len(study.records) == 4 * len(ALPHAS)
    assert len(study.damaged) == 1
    assert "gpunet1.parquet: damaged" in study.damaged[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"not a study's directory \(it has no study\.yaml\)"),
        ("study: [", r"study\.yaml: damaged"),
        ("- a list", r"study\.yaml: damaged \(expected a mapping"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ResultsError, match=message):
        load(str(tmp_path))
