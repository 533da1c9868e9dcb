"""What holds for every method: it keeps its word to the caller, and repeats itself from a seed."""

import dataclasses
import io
import pkgutil

import pytest
import torch

import workers.methods
from tests.workers.methods.tiny import tiny_problem
from tests.workers.methods.tiny_elastic import elastic_problem
from tests.workers.methods.tiny_fabric import fabric_problem
from tests.workers.methods.tiny_resnet import resnet_problem
from tests.workers.methods.tiny_subnets import SMALL as SMALL_SUBNETS
from tests.workers.methods.tiny_subnets import subnet_problem
from workers.methods import METHODS
from workers.methods.reg_nas.supernet_settings import Lesson, SupernetTraining

SMALL = {
    "budgeted": {"budget": 3e4, "lambda_": 1e-4, "warmup_epochs": 1, "epochs": 2},
    "clipped_lasso": {"lambda_": 0.1, "pretrain_epochs": 1, "epochs": 2, "batch_size": 64},
    "prunet": {"warmup_epochs": 1, "epochs": 2, "batch_size": 64},
    "random": {"num_candidates": 3},
    "reds": SMALL_SUBNETS,
    "reg_nas": {
        "budgets": (3e5, 5e5),
        "population": 4,
        "generations": 2,
        "calibration_images": 48,
        "supernet": SupernetTraining("sandwich", sandwich=Lesson(1, 0.02), batch_size=48),
    },
}
PROBLEMS = {  # of methods that search a space of their own
    "budgeted": fabric_problem,
    "clipped_lasso": resnet_problem,
    "reds": subnet_problem,
    "reg_nas": lambda seed: elastic_problem(seed=seed),
}
TIMES = ("_s", "_us")  # ends of the names of metrics that no two runs have in common
MODULES = {"random": "random_search"}  # that are not named after their method
every_method = pytest.mark.parametrize("name", METHODS)


def run(name: str, seed: int = 0):
    method = METHODS[name]
    config = method.Config(**SMALL[name])
    problem = PROBLEMS.get(name, tiny_problem)(seed)
    if method.pretrain is not None:
        *_, last = method.pretrain(problem, config, None)
        problem = dataclasses.replace(problem, start=last.state())
    if method.predictor is not None:
        problem = dataclasses.replace(problem, predict=method.predictor(problem, config))
    return problem, list(method.search(problem, config, None))


def repeatable(metrics):
    return {name: value for name, value in metrics.items() if not name.endswith(TIMES)}


def test_folder_and_registry_agree():
    modules = {module.name for module in pkgutil.iter_modules(workers.methods.__path__)}
    assert modules == {MODULES.get(name, name) for name in METHODS}
    for name, method in METHODS.items():
        assert method.name == name


@every_method
def test_settings_are_frozen_and_have_defaults(name):
    config = METHODS[name].Config()
    field = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, 1)


@every_method
def test_progress_counts_up_and_ends_with_candidates(name):
    problem, steps = run(name)
    assert [progress.step for progress in steps] == list(range(1, len(steps) + 1))
    assert {progress.steps for progress in steps} == {len(steps)}
    assert all(not progress.candidates for progress in steps[:-1])
    assert steps[-1].candidates
    for candidate in steps[-1].candidates:
        assert problem.space.canonical(candidate.architecture) == candidate.architecture
        assert all(isinstance(value, float | int) for value in candidate.metrics.values())
        if candidate.weights is not None:
            network = problem.space.build(candidate.architecture)
            network.load_state_dict(dict(candidate.weights))
        for prediction in candidate.predictions.values():
            assert prediction.dtype in (torch.uint8, torch.int16)


@every_method
def test_states_load_without_unpickling_code(name):
    _, steps = run(name)
    buffer = io.BytesIO()
    torch.save(steps[-1].state(), buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


@every_method
def test_a_seed_determines_the_candidates(name):
    torch.manual_seed(1)
    _, first = run(name)
    torch.manual_seed(2)  # the process's own generators do not matter
    _, again = run(name)
    for one, two in zip(first[-1].candidates, again[-1].candidates, strict=True):
        assert one.architecture == two.architecture
        assert repeatable(one.metrics) == repeatable(two.metrics)
