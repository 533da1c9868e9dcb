"""`load` gives a study's results as DataFrames and records, and says what it could not read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator import Study, load, loading
from orchestrator.compaction import compact
from orchestrator.loading import finished, shown
from orchestrator.results import ResultsError
from tests.orchestrator.fabricated import ALPHAS, STUDY_YAML, fabricate


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
    (tmp_path / "study.yaml").write_text(STUDY_YAML.format(study="young", seed=0))
    study = load(str(tmp_path))
    assert study.candidates().empty
    assert "val_accuracy" in study.candidates().columns
    assert study.front() == []
    assert study.nfr_matrix().empty


@pytest.mark.parametrize("compacted", [False, True])
def test_of_many_candidates_the_front_and_a_sample_are_loaded(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    whole = load(str(directory))
    copy = shutil.copytree(directory, tmp_path / "study")
    if compacted:
        compact(str(copy))
    monkeypatch.setattr(loading, "MOST_SHOWN", 1)
    study = load(str(copy), shown)
    assert study.front() == whole.front()
    known = [record for record in whole.records if record in study.records]
    assert study.records == known  # the same rows in the same order
    others = [r for r in known if not r["on_front"] and r["preset"] is None]
    assert [r["stage"] for r in others].count("searched") == 1
    assert [r["stage"] for r in others].count("finished") == 1
    searched = 3 * len(ALPHAS)
    done = len(whole.finished()) - len(study.finished())
    assert study.left_out == {"searched": searched - 1, "finished": done}
    assert set(study.predicted()) == {r["candidate"] for r in study.finished()}


def test_few_candidates_are_shown_as_a_whole(directory: Path, study: Study) -> None:
    assert load(str(directory), shown).records == study.records
    assert load(str(directory), shown).left_out == {}
    assert load(str(directory), finished).records == [
        record for record in study.records if record["stage"] == "finished"
    ]


def test_files_of_many_rows_that_somebody_wrote_are_read(tmp_path: Path, study: Study) -> None:
    (tmp_path / "study.yaml").write_text(STUDY_YAML.format(study="theirs", seed=0))
    folder = tmp_path / "results" / "candidates"
    folder.mkdir(parents=True)
    pq.write_table(study.tables["candidates"], folder / "all.parquet")
    assert load(str(tmp_path), shown).records == study.records
    assert compact(str(tmp_path))[0].after == 1


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
        ("study: mine", r"study\.yaml: not of a study that was run \(method: no `name` in it\)"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ResultsError, match=message):
        load(str(tmp_path))
