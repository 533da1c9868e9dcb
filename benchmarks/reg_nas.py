"""Does REG-NAS keep what worked? Its negative flips beside those of every other way to a network.

For a ready study, all from one supernet and for every seed: pairs by accuracy alone (R0) and by
REG-NAS (R2 and CAS), with a bootstrap interval over test images; weights of flips beside accuracy;
who proposes networks, at as many evaluations; the same pairs trained by themselves, without and
with focal distillation; and, where `--parts` names them and images have colours, pairs of
torchvision's families, by the same recipe and of the first seed alone. Studies that are finished
are not run again.

    python benchmarks/reg_nas.py [--study reg_nas_fashion_mnist] [--parts pairs lambdas ...]
        [--lambdas 0.05 1 20] [--seeds 0 1 2] [--dir runs/reg_nas] [--executor serial]
        [--set key=value ...]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from orchestrator.config import load_config
from orchestrator.families import relative_change
from orchestrator.loading import Study
from studies import run
from workers.datasets import truth
from workers.evaluation import evaluate
from workers.metrics import bootstrap_means, negative_flips, percentile_interval
from workers.records import from_json
from workers.training import Recipe, train
from workers.trial import load_data

REG_NAS = {"reward": "r2", "cas": True}
WEIGHT_SHARING = {"reward": "r0", "cas": False}
PARTS = ("pairs", "lambdas", "optimizers", "alone", "focal", "torchvision")
TORCHVISION = (("efficientnet_b0", "efficientnet_b1"), ("regnet_y_400mf", "regnet_y_800mf"))
FOCAL = "{weight: 1.0, temperature: 100.0, focal: {alpha: 1.0, beta: 5.0}, network: %s}"


class Benchmark:
    """The studies of one supernet, each in a directory of its own below `root`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.study, self.root = arguments.study, arguments.dir / arguments.study
        self.seeds, self.settings = arguments.seeds, arguments.settings
        self.lambdas, self.executor = arguments.lambdas, arguments.executor

    def run(self, name: str, sweep: Any, *settings: str) -> Study:
        """Run a study with the supernet of `pairs`."""
        directory = self.root / name
        if name != "pairs" and not directory.exists():
            pairs = Path(self.pairs.directory)
            directory.mkdir()
            shutil.copy(pairs / "supernet.pt", directory)
            shutil.copytree(pairs / "predicted", directory / "predicted")
        given = [*self.settings, f"sweep={json.dumps(sweep)}", *settings]
        return run(self.study, directory, given, executor=self.executor)

    @cached_property
    def pairs(self) -> Study:
        """Return the pairs of the ready study."""
        return self.run("pairs", self._both())

    @cached_property
    def alone(self) -> Study:
        """Return the same pairs, every network trained by itself."""
        return self.run("alone", self._both(), "training.inherited_epochs=null")

    def focal(self, seed: int) -> Study:
        """Return REG-NAS's pair, taught by its reference that was trained by itself."""
        name = self.reference(seed)["candidate"]
        teacher = (self.root / "alone" / "models" / name).absolute()
        taught = f"training.teacher={FOCAL % teacher}"
        sweep = {**listed(REG_NAS), "seed": [seed]}
        return self.run(f"focal-{seed}", sweep, "training.inherited_epochs=null", taught)

    def reference(self, seed: int) -> dict[str, Any]:
        """Return the network before the last one of REG-NAS's, trained by itself."""
        found = trials(self.alone, REG_NAS)
        return next(trial[-2] for trial in found if trial[-2]["seed"] == seed)

    def _both(self) -> list[dict[str, Any]]:
        return [{**listed(point), "seed": self.seeds} for point in (WEIGHT_SHARING, REG_NAS)]


def listed(point: dict[str, Any]) -> dict[str, list[Any]]:
    """Return a point as a sweep of one."""
    return {key: [value] for key, value in point.items()}


def trials(study: Study, point: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the records of every trial at a sweep point, in the order of finding."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(study.records, key=lambda record: record["candidate"]):
        if point.items() <= record["params"].items():
            found.setdefault(record["trial"], []).append(record)
    return list(found.values())


def flips(study: Study, point: dict[str, Any]) -> np.ndarray:
    """Return the share of seeds at which a test image flips, for the last network of each trial."""
    predicted, labels_N = study.predicted("test"), study.labels("test")
    each = []
    for *_, reference, target in trials(study, point):
        classes = (predicted[record["candidate"]] for record in (reference, target))
        each.append(negative_flips(*classes, labels_N))
    return np.mean(each, axis=0)


def show_pairs(benchmark: Benchmark) -> None:
    """Print REG-NAS against weight sharing alone: by seed when searched, and on test images."""
    study = benchmark.pairs
    for baseline, ours in zip(trials(study, WEIGHT_SHARING), trials(study, REG_NAS), strict=True):
        one, two = baseline[-1], ours[-1]
        print(
            f"seed {one['seed']}, held-out images: NFR {one['search_nfr']:.2%} by R0,"
            f" {two['search_nfr']:.2%} by R2 and CAS; Top-1 {one['search_val_accuracy']:.2%},"
            f" {two['search_val_accuracy']:.2%}; cost {one['cost']:.4g}, {two['cost']:.4g}"
        )
    values_N2 = np.stack([flips(study, point) for point in (REG_NAS, WEIGHT_SHARING)], axis=1)
    ours, baseline = values_N2.mean(0)
    means_D2 = bootstrap_means(values_N2)
    interval = percentile_interval(100 * (means_D2[:, 0] / means_D2[:, 1] - 1))
    print(
        f"test images, means over seeds: NFR {baseline:.2%} by R0, {ours:.2%} by R2 and CAS:"
        f" {relative_change(ours, baseline):+.1f} % ({interval.low:+.1f} to {interval.high:+.1f} %;"
        " paper: -13.9 and -23.0 %)"
    )
    before, after = (top_1(study, point) for point in (WEIGHT_SHARING, REG_NAS))
    print(f"test images, means over seeds: Top-1 {before:.2%} by R0, {after:.2%} by R2 and CAS")


def top_1(study: Study, point: dict[str, Any]) -> float:
    """Return the mean test accuracy of the last networks."""
    return statistics.fmean(trial[-1]["test_accuracy"] for trial in trials(study, point))


def show_lambdas(benchmark: Benchmark) -> None:
    """Print Table 1: accuracy and flips by lambda2 / lambda1, means over seeds."""
    ratios = {"lambda_ratio": benchmark.lambdas, "seed": benchmark.seeds}
    study = benchmark.run("lambdas", {**listed(REG_NAS), **ratios})
    for ratio in benchmark.lambdas:
        point = {"lambda_ratio": ratio}
        held_out = statistics.fmean(trial[-1]["search_nfr"] for trial in trials(study, point))
        print(
            f"lambda2 / lambda1 = {ratio:g}: NFR {held_out:.2%} held out,"
            f" {flips(study, point).mean():.2%} on test; Top-1 {top_1(study, point):.2%} on test"
        )


def show_optimizers(benchmark: Benchmark) -> None:
    """Print the best rewards at as many evaluations, for five seeds."""
    sweep = {"optimizer": ["evolution", "random", "nsga2"], "seed": [0, 1, 2, 3, 4]}
    study = benchmark.run("optimizers", {**listed(REG_NAS), **sweep})
    for name in sweep["optimizer"]:
        rewards = [trial[-1]["reward"] for trial in trials(study, {"optimizer": name})]
        shown = " ".join(f"{reward:.2f}" for reward in rewards)
        print(f"best reward by {name}: {shown}; mean {statistics.fmean(rewards):.2f}")


def show_alone(benchmark: Benchmark) -> None:
    """Print Figure 1: pairs from one supernet, and the same pairs trained by themselves."""
    for name, study in (("one supernet", benchmark.pairs), ("by themselves", benchmark.alone)):
        for point in (WEIGHT_SHARING, REG_NAS):
            print(
                f"pairs of {name}, {point['reward']}: NFR {flips(study, point).mean():.2%},"
                f" Top-1 {top_1(study, point):.2%} on test"
            )


def show_focal(benchmark: Benchmark) -> None:
    """Print pairs whose larger network learned from the smaller one by focal distillation.

    The reference is the one that was trained by itself.
    """
    rates, accuracies = [], []
    for seed in benchmark.seeds:
        study = benchmark.focal(seed)
        target = trials(study, REG_NAS)[0][-1]
        reference = benchmark.reference(seed)
        before = benchmark.alone.predicted("test")[reference["candidate"]]
        after = study.predicted("test")[target["candidate"]]
        rates.append(negative_flips(before, after, study.labels("test")).mean())
        accuracies.append(target["test_accuracy"])
    print(
        f"focal distillation: NFR {statistics.fmean(rates):.2%},"
        f" Top-1 {statistics.fmean(accuracies):.2%} on test"
    )


def show_torchvision(benchmark: Benchmark) -> None:
    """Print Figure 1's families that others designed: two networks of each, by themselves."""
    study = load_config(benchmark.study, benchmark.settings)
    task = partial(torchvision_trained, study.as_dict(), benchmark.seeds[0])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for names in TORCHVISION:
            (before, labels_N), (after, _) = pool.map(task, names)
            shown = [f"{(classes_N == labels_N).mean():.2%}" for classes_N in (before, after)]
            rate = negative_flips(before, after, labels_N).mean()
            print(f"{', '.join(names)}: NFR {rate:.2%}, Top-1 {', '.join(shown)} on test")


def torchvision_trained(
    study: dict[str, Any], seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Train a network of torchvision's as a study does, and return test predictions and labels."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = load_data(study, None)
    network = getattr(torchvision.models, name)(num_classes=data.num_classes)
    recipe = from_json(Recipe, study["training"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for _ in train(network, data, recipe, seed=seed, device=device):
        pass
    tested = evaluate(network, data.test.to(device), data)
    return tested.predictions_N.cpu().numpy(), truth(data.test).cpu().numpy()


def main() -> None:
    """Run what is not finished, part by part, and print the figures of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="reg_nas_fashion_mnist")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--lambdas", type=float, nargs="+", default=[0.05, 1.0, 20.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dir", type=Path, default=Path("runs/reg_nas"))
    parser.add_argument("--executor", default="ray", choices=("ray", "serial"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments)
    shows = (show_pairs, show_lambdas, show_optimizers, show_alone, show_focal, show_torchvision)
    for part, show in zip(PARTS, shows, strict=True):
        if part in arguments.parts:
            show(benchmark)


if __name__ == "__main__":
    main()
