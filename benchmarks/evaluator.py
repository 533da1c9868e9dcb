"""What the resident evaluator of supernets saves: its overhead and throughput, in one run.

    python benchmarks/evaluator.py [--subnets 24] [--trials 12] [--val-images 5000]

The supernet is the MobileNetV3 space's for images of 28 pixels, fresh from its initialisation, and
pixels are random: the arithmetic is that of real ones. Every process computes with one thread. What
counts as arithmetic is a stand-alone network that calibrates its batch norms and predicts, its
weights loaded and its images normalised beforehand.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
import torch
from ray import tune
from torch import nn

from search_spaces.base import Architecture, digest, sample
from search_spaces.ofa_mobilenet_v3 import OFAMobileNetV3
from workers.calibration import calibration_part, recalibrate
from workers.datasets import Data
from workers.datasets.base import TensorSplit, from_arrays, to_arrays
from workers.evaluation import evaluate
from workers.executors.connection import ENVIRONMENT
from workers.executors.kept import KeptPredictions
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources
from workers.methods.reg_nas import Config
from workers.methods.reg_nas.predictor import Images, inherited, predictor
from workers.methods.reg_nas.supernet_training import fresh_supernet
from workers.protocol import Predict, Problem
from workers.trial import as_arrays, as_tensors, reset_process

SPACE = OFAMobileNetV3()
CONFIG = Config()
ACTORS = 2


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subnets", type=int, default=24)
    parser.add_argument("--trials", type=int, default=12, help="of Tune, one for each subnet")
    parser.add_argument("--val-images", type=int, default=5000)
    arguments = parser.parse_args()
    reset_process(0, 1)
    rng = random.Random(0)
    subnets = [sample(SPACE, rng) for _ in range(arguments.subnets)]
    arrays = to_arrays(made_up_data(arguments.val_images))
    bare = problem_of({"data": arrays, "start": None})
    shared = {"data": arrays, "start": as_arrays({"supernet": fresh_supernet(bare).state_dict()})}
    problem = problem_of(shared)
    print(
        f"{len(subnets)} subnets, {CONFIG.calibration_images} images to calibrate,"
        f" {arguments.val_images} to predict"
    )
    compare_overhead(problem, subnets)
    loop = compare_loops(problem, subnets)
    ray.init(
        num_cpus=ACTORS,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": ENVIRONMENT},
    )
    pool = compare_actors(shared, subnets, loop)
    for reuse in (False, True):
        compare_trials(shared, subnets[: arguments.trials], pool, reuse=reuse)


def compare_overhead(problem: Problem, subnets: Sequence[Architecture]) -> None:
    """Processor time of each subnet, beside the same arithmetic alone; turn by turn."""
    predict = predictor(problem, CONFIG)
    predict(subnets[:1])
    arithmetic_s, overhead_s = [], []
    for subnet in subnets:
        network = SPACE.build(subnet).to(memory_format=torch.channels_last)
        network.load_state_dict(inherited(problem, CONFIG, subnet))
        compute = partial(calibrated_predictions, network, *images(problem))
        alone, warm = fastest([compute, partial(predict, [subnet])])
        arithmetic_s.append(alone)
        overhead_s.append(warm - alone)
    print(
        f"overhead of a subnet in one process: {1e3 * statistics.median(overhead_s):.1f} ms"
        f" (worst {1e3 * max(overhead_s):.1f}) beyond"
        f" {1e3 * statistics.median(arithmetic_s):.0f} ms of arithmetic (processor time, medians)"
    )


def compare_loops(problem: Problem, subnets: Sequence[Architecture]) -> float:
    """Return the seconds of a subnet in a plain loop over the resident evaluator."""
    predict = predictor(problem, CONFIG)
    predict(subnets[:1])
    plain = timed(lambda: [predict([subnet]) for subnet in subnets]) / len(subnets)
    built = timed(lambda: [built_anew(problem, subnet) for subnet in subnets]) / len(subnets)
    print(f"plain loop, one process: {1e3 * plain:.0f} ms a subnet (wall clock)")
    print(
        f"networks built one by one, images normalised for each: {1e3 * built:.0f} ms a subnet,"
        f" {built / plain:.2f}x"
    )
    return plain


def compare_actors(
    shared: Mapping[str, Any], subnets: Sequence[Architecture], loop: float
) -> float:
    """Return the seconds of a subnet by the actors that a study's trials share."""
    cluster = RayCluster(Resources())
    given = {key: cluster.share(value) for key, value in shared.items()}
    with tempfile.TemporaryDirectory() as folder:
        keep = partial(KeptPredictions, folder, "bench", 1)
        with cluster.predictor(make, given, key=partial(digest, SPACE), keep=keep) as predict:
            presets = [SPACE.presets["max"], SPACE.presets["min"]]
            started = timed(lambda: predict(presets))  # one each: all are ready after this
            each = timed(lambda: predict(subnets)) / len(subnets)
            again = timed(lambda: predict(subnets))
    print(
        f"{ACTORS} actors: {1e3 * each:.0f} ms a subnet, {loop / each:.2f}x the plain loop's"
        f" throughput; ready after {started:.1f} s; all again from memory {1e3 * again:.0f} ms"
    )
    return each


def compare_trials(
    shared: Mapping[str, Any], subnets: Sequence[Architecture], pool: float, *, reuse: bool
) -> None:
    """One Tune trial for each subnet, as many at once as there are actors."""
    given = {key: ray.put(value) for key, value in shared.items()}

    def trial(config: dict[str, Any]) -> None:
        predict = make({key: ray.get(value) for key, value in given.items()})
        (predicted_N,) = predict([subnets[config["number"]]])
        tune.report({"first": int(predicted_N[0])})

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(len(subnets))))},
            tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=ACTORS),
            run_config=tune.RunConfig(name="bench", storage_path=folder, verbose=0),
        )
        started = time.perf_counter()
        results = tuner.fit()
        each = (time.perf_counter() - started) / len(subnets)
    if results.errors:
        raise RuntimeError(f"{results.num_errors} trials failed; the first: {results.errors[0]}")
    name = "with reused actors" if reuse else "default"
    print(f"a Tune trial each, {name}: {1e3 * each:.0f} ms a subnet, {each / pool:.2f}x")


def calibrated_predictions(
    network: nn.Module, train: Sequence[torch.Tensor], val: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Do by itself what the evaluator does for a subnet."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.inference_mode():
        network.train()
        for x_BCHW in train:
            network(x_BCHW)
        network.eval()
        return torch.cat([network(x_BCHW).argmax(1) for x_BCHW in val])


def built_anew(problem: Problem, subnet: Architecture) -> torch.Tensor:
    """Evaluate a subnet by the functions that serve any network, nothing resident but its data."""
    data, supernet = problem.data, fresh_supernet(problem)
    supernet.load_state_dict(problem.start["supernet"])
    network = SPACE.build(subnet)
    network.load_state_dict(supernet.extract(subnet))
    network = network.to(memory_format=torch.channels_last)
    recalibrate(network, data.train, data, CONFIG.calibration_images // 16)
    return evaluate(network, data.val, data).predictions_N


def images(problem: Problem) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the batches that calibrate and those to predict, as the evaluator has them."""
    data, device = problem.data, problem.device
    part = calibration_part(data.train, CONFIG.calibration_images)
    return list(Images(part, data, device)), list(Images(data.val, data, device))


def make(shared: Mapping[str, Any]) -> Predict:
    """Return the evaluator of a process."""
    reset_process(0, 1)
    return predictor(problem_of(shared), CONFIG)


def problem_of(shared: Mapping[str, Any]) -> Problem:
    """Return the problem of shared values."""
    start = None if shared["start"] is None else as_tensors(shared["start"])
    data, device = from_arrays(shared["data"]), torch.device("cpu")
    return Problem(SPACE, data, None, lambda *_: 0.0, 0, device, start)


def made_up_data(val_images: int) -> Data:
    """Return random images in the shape of Fashion-MNIST's."""
    draws = torch.Generator().manual_seed(0)
    splits = [
        TensorSplit(
            torch.randint(0, 256, (size, 1, 28, 28), generator=draws, dtype=torch.uint8),
            torch.randint(0, 10, (size,), generator=draws),
        )
        for size in (CONFIG.calibration_images, val_images, 1)
    ]
    return Data("random", *splits, 10, (0.5,), (0.29,))


def fastest(functions: Sequence[Callable[[], Any]], repeats: int = 3) -> list[float]:
    """Return the least processor time (s) of each function; they take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            started = time.process_time()
            function()
            taken.append(time.process_time() - started)
    return [min(taken) for taken in times]


def timed(function: Callable[[], Any]) -> float:
    """Return how long a call takes (s, wall clock)."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
