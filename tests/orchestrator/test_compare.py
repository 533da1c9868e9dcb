"""`front` and `compare` as JSON values: what is listed, and that the relations hold."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from orchestrator import Study, load
from orchestrator.compare import compare, front_json
from tests.orchestrator.fabricated import ALPHAS, fabricate


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Study]:
    folder = tmp_path_factory.mktemp("studies")
    low, high = fabricate(folder / "low"), fabricate(folder / "high", seed=1, lift=0.012)
    return load(str(low)), load(str(high))


def test_front_lists_finished_candidates_cheapest_first(studies: tuple[Study, Study]) -> None:
    shown = json.loads(json.dumps(front_json(studies[0])))
    assert (shown["study"], shown["method"]) == ("fabricated", "prunet")
    assert shown["objectives"] == ["error", "latency_ms"]
    assert len(shown["candidates"]) == len(ALPHAS) + 1  # and the baseline
    costs = [candidate["cost"] for candidate in shown["candidates"]]
    assert costs == sorted(costs)
    assert any(candidate["on_front"] for candidate in shown["candidates"])
    found = next(candidate for candidate in shown["candidates"] if not candidate["preset"])
    assert set(found["params"]) == {"alpha", "phi", "lambda", "seed"}
    assert 0 < found["val_accuracy"] < 1
    assert isinstance(found["architecture"], dict)


def test_the_better_study_has_more_volume_and_dominates(studies: tuple[Study, Study]) -> None:
    low, high = studies
    shown = json.loads(json.dumps(compare(studies)))
    volumes = {entry["directory"]: entry["hypervolume"] for entry in shown["studies"]}
    assert volumes[high.directory] > volumes[low.directory] > 0
    upwards, downwards = shown["dominance"]
    assert (upwards["directory"], downwards["directory"]) == (low.directory, high.directory)
    assert sum(map(len, downwards["dominates"].values())) > len(upwards["dominates"])
    points = {
        record["candidate"]: (1 - record["val_accuracy"], record["cost"]) for record in low.front()
    }
    for record in high.front():
        error, cost = 1 - record["val_accuracy"], record["cost"]
        beaten = [
            name
            for name, (e, c) in points.items()
            if error <= e and cost <= c and (error, cost) != (e, c)
        ]
        assert downwards["dominates"].get(record["candidate"], []) == beaten


def test_flips_relate_models_of_different_studies(studies: tuple[Study, Study]) -> None:
    flips = compare(studies)["flips"]
    accuracy = {
        (study.directory, record["candidate"]): record["val_accuracy"]
        for study in studies
        for record in study.finished()
    }
    assert len(flips["models"]) == len(accuracy)
    values = [accuracy[model["directory"], model["candidate"]] for model in flips["models"]]
    for i, old in enumerate(values):
        for j, new in enumerate(values):
            assert flips["nfr"][j][i] - flips["nfr"][i][j] == pytest.approx(new - old)


def test_of_a_sample_the_front_counts_and_what_is_left_out_is_told(
    studies: tuple[Study, Study],
) -> None:
    low, high = studies
    front = [record for record in low.records if record["on_front"]]
    part = dataclasses.replace(low, records=front, left_out={"finished": 7, "searched": 9})
    assert front_json(part)["left_out"] == 7
    assert "left_out" not in front_json(low)
    whole, sampled = compare([low, high]), compare([part, high])
    assert sampled["studies"] == whole["studies"]
    assert sampled["dominance"] == whole["dominance"]
    models = [m["candidate"] for m in sampled["flips"]["models"] if m["directory"] == low.directory]
    assert models == [record["candidate"] for record in low.front()]


def test_no_flips_without_common_samples(studies: tuple[Study, Study], tmp_path: Path) -> None:
    low, high = studies
    tables = {**high.tables, "labels": high.tables["labels"].slice(0, 0)}
    flips = compare([low, dataclasses.replace(high, tables=tables)])["flips"]
    assert flips["nfr"][0][0] == 0
    assert flips["nfr"][0][-1] is None


def test_studies_that_measure_different_things_are_refused(studies: tuple[Study, Study]) -> None:
    low, high = studies
    for change in ({"cost": "macs"}, {"dataset": {"name": "cifar10"}}):
        other = dataclasses.replace(high, config={**high.config, **change})
        with pytest.raises(ValueError, match=f"high: {next(iter(change))} is '"):
            compare([low, other])


def test_a_study_without_a_front_has_nothing_to_compare(studies: tuple[Study, Study]) -> None:
    with pytest.raises(ValueError, match="no study here has a front yet"):
        compare([dataclasses.replace(studies[0], records=[])])
