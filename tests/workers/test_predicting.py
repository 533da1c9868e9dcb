"""What trials predict with: alike on both executors, shared, kept on disk, and hard to lose."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.exceptions import RayActorError

from search_spaces.base import digest
from search_spaces.elastic import Supernet
from tests.workers.made_up_evaluator import ask, evaluations, key, make
from tests.workers.test_executors import ends
from tests.workers.work import Task
from workers.executors.kept import FOLDER, KeptPredictions
from workers.executors.ray_cluster import RayCluster
from workers.executors.ray_predicting import Desk
from workers.executors.serial import Serial
from workers.executors.work import Resources
from workers.records import to_json
from workers.storage import DamagedError, Storage
from workers.trial import Trial, as_arrays, build_space, make_predictor

Executor = Serial | RayCluster


@pytest.fixture(params=["serial", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "serial":
        return Serial(Resources())
    request.getfixturevalue("local_ray")
    return RayCluster(Resources())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def predicting(executor: Executor, log: Path, supernet: str = "one", attempt: int = 1) -> Any:
    shared = {"numbers": executor.share(np.ones(2))}
    keep = partial(KeptPredictions, str(log.parent / "study"), supernet, attempt)
    return executor.predictor(partial(make, str(log)), shared, key=key, keep=keep)


def networks(*numbers: int) -> list[dict[str, int]]:
    return [{"n": number} for number in numbers]


class AnsweringProcess:
    """What a desk asks of a process, in this one."""

    def __init__(self) -> None:
        self.ready = self.call = self

    async def remote(self, *call: Any) -> torch.Tensor | None:
        return torch.tensor([call[1][0]["n"]], dtype=torch.int16) if call else None


class LostProcess(AnsweringProcess):
    """One whose node was lost once it was ready."""

    async def remote(self, *call: Any) -> None:
        if call:
            raise RayActorError


def test_answers_are_in_order_and_equal_networks_are_evaluated_once(
    executor: Executor, log: Path
) -> None:
    with predicting(executor, log) as predict:
        found = predict(networks(5, 3, 5))
        again = predict(networks(3, 4))
    assert [predicted_N.tolist() for predicted_N in found] == [[5, 7, 9], [3, 5, 7], [5, 7, 9]]
    assert [predicted_N.tolist() for predicted_N in again] == [[3, 5, 7], [4, 6, 8]]
    assert found[0].dtype == torch.int16
    assert evaluations(log) == {3: 1, 4: 1, 5: 1}


def test_a_resumed_study_evaluates_nothing_again(executor: Executor, log: Path) -> None:
    with predicting(executor, log) as predict:
        found = predict(networks(1, 2))
    with predicting(executor, log, attempt=2) as predict:
        assert torch.equal(torch.stack(predict(networks(1, 2))), torch.stack(found))
    assert evaluations(log) == {1: 1, 2: 1}


def test_predictions_of_another_supernet_do_not_count(executor: Executor, log: Path) -> None:
    with predicting(executor, log) as predict:
        predict(networks(1))
    with predicting(executor, log, supernet="two") as predict:
        predict(networks(1))
    assert evaluations(log) == {1: 2}
    (path,) = Storage(str(log.parent / "study")).list(FOLDER)
    assert path.startswith(f"{FOLDER}/two/")


def test_the_failure_of_one_network_is_told_as_it_is(executor: Executor, log: Path) -> None:
    with predicting(executor, log) as predict:
        with pytest.raises(ValueError, match=r"^network 7: it fails$"):
            predict([{"n": 7, "fails": 1}])
        assert predict(networks(6))[0].tolist() == [6, 8, 10]


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_lost_process_is_replaced_and_its_network_evaluated_again(
    local_ray: None, log: Path, deaths: int
) -> None:
    asked = [*networks(*range(6)), {"n": 6, "dies": deaths}, *networks(7)]
    with predicting(RayCluster(Resources()), log) as predict:
        found = predict(asked)
        found += predict(networks(8, 9))
    assert [predicted_N[0].item() for predicted_N in found] == list(range(10))
    assert evaluations(log) == {**dict.fromkeys(range(10), 1), 6: 1 + deaths}


@pytest.mark.parametrize(("lost", "found"), [(4, True), (7, False)])
def test_processes_that_were_lost_while_idle_are_replaced(
    tmp_path: Path, lost: int, found: bool
) -> None:
    async def ask_for(number: int) -> list[torch.Tensor]:
        processes = chain(repeat(LostProcess(), lost), repeat(AnsweringProcess()))
        keep = partial(KeptPredictions, str(tmp_path), "one", 1)
        desk = Desk(partial(next, processes), 4, key, keep)
        return await desk.predict(networks(number))

    with nullcontext() if found else pytest.raises(RayActorError):
        assert [predicted_N.tolist() for predicted_N in asyncio.run(ask_for(3))] == [[3]]


def test_trials_share_processes_that_hold_everything(executor: Executor, log: Path) -> None:
    # Both CPUs are the processes': a trial that asked for one would wait for ever.
    rows: list[dict[str, Any]] = []
    tasks = [Task(name, str(log)) for name in ("a", "b", "c")]
    with predicting(executor, log) as predict:
        folder = f"{log.parent}/tune/search"
        executor.run_trials(ask, tasks, {"predict": predict}, rows.append, folder=folder)
    total = sum(3 * n + 6 for n in range(8))
    assert ends(rows) == dict.fromkeys("abc", f"{total} on cpu")
    assert evaluations(log) == dict.fromkeys(range(8), 1)


def test_few_files_hold_many_additions(tmp_path: Path) -> None:
    kept = KeptPredictions(str(tmp_path), "one", 1)
    for n in range(100):
        kept.add({f"{n:012x}": torch.full((4,), n, dtype=torch.int16)})
    assert len(Storage(str(tmp_path)).list()) <= 7
    again = KeptPredictions(str(tmp_path), "one", 2)
    for n in range(100):
        assert again[f"{n:012x}"].tolist() == [n] * 4
    again.add({"new": torch.zeros(4, dtype=torch.int16)})
    third = KeptPredictions(str(tmp_path), "one", 3)
    assert "new" in third
    assert f"{0:012x}" in third


def test_a_desk_that_is_started_again_keeps_what_it_kept(tmp_path: Path) -> None:
    counts = (100, 20, 150)
    for start, count in enumerate(counts):
        kept = KeptPredictions(str(tmp_path), "one", 1)
        for n in range(count):
            kept.add({f"{start}-{n}": torch.zeros(4, dtype=torch.int16)})
    again = KeptPredictions(str(tmp_path), "one", 1)
    assert all(f"{i}-{n}" in again for i, count in enumerate(counts) for n in range(count))


def test_a_damaged_file_is_named(executor: Executor, log: Path) -> None:
    with predicting(executor, log) as predict:
        predict(networks(1))
    storage = Storage(str(log.parent / "study"))
    (path,) = storage.list(FOLDER)
    storage.write_bytes(path, b"nonsense")
    with (
        pytest.raises(DamagedError, match=rf"{path}: damaged; delete it"),
        predicting(executor, log, attempt=2),
    ):
        pass


STUDY = {
    "method": {"name": "reg_nas", "calibration_images": 250},
    "space": {"name": "ofa_mobilenet_v3", "in_shape": [1, 8, 8], "resolutions": [8]},
    "dataset": {"name": "digits"},
    "cost": "macs",
    "network": {},
    "proxy": {},
    "seed": 0,
    "resources": to_json(Resources()),
}


@pytest.mark.slow
def test_supernets_predict_alike_on_both_executors(local_ray: None, tmp_path: Path) -> None:
    space = build_space(STUDY)
    start = as_arrays({"supernet": Supernet(space).state_dict()})  # type: ignore[arg-type]
    trial = Trial("predictor", "search", STUDY, str(tmp_path), 1)
    architectures = [space.presets["max"], space.presets["min"]]
    found = []
    for executor in (Serial(Resources()), RayCluster(Resources())):
        shared = {"data": None, "table": None, "start": executor.share(start)}
        keep = partial(KeptPredictions, f"{tmp_path}/{executor.name}", "one", 1)
        making, keyed = partial(make_predictor, trial), partial(digest, space)
        with executor.predictor(making, shared, key=keyed, keep=keep) as predict:
            found.append(torch.stack(predict(architectures)))
    assert torch.equal(*found)
    assert not torch.equal(*found[0])
