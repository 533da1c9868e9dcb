"""What tiered pruning saves: PruNet beside itself without each of its parts, in one run.

    python benchmarks/prunet.py [--epochs 16] [--alpha 0.1]

One thread; times are of the processor, so that what else the machine does hardly counts. The data
are scikit-learn's digits, latencies are measured here. Memory is what a training step holds:
parameters, gradients, optimiser states and all that is kept for the backward pass.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from cost_models.latency_probe import measure
from search_spaces.gpunet import Config as SpaceConfig
from search_spaces.gpunet import GPUNet, LayerSpec
from workers.datasets import DATASETS, data_root
from workers.methods.prunet import Config
from workers.methods.prunet.layer import MixedLayer
from workers.methods.prunet.prunode import Masks, Prunode, first_masks, two_passes
from workers.methods.prunet.search import pretrain, search
from workers.methods.prunet.supernet_training import SupernetTraining
from workers.protocol import Problem, State

BATCH = 64
PAPER_EPOCHS = (70, 130)  # warm-up, search


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=0.1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for preset in ("gpunet_8", "gpunet_28"):
        compare_passes(preset)
    compare_granularities()
    problem = digits()
    config = Config(
        alpha=arguments.alpha, warmup_epochs=2, epochs=arguments.epochs, batch_size=BATCH
    )
    compare_memory(problem, config)
    compare_searches(problem, config)


def compare_passes(preset: str) -> None:
    """One pass for both widths against two, over all kinds of blocks of a space."""
    nodes = [
        Prunode(spec, size, se, first_masks(spec.max_hidden, spec.granularity))
        for spec in dict.fromkeys(anonymous(GPUNet(SpaceConfig(preset=preset)).specs))
        if spec.kind != "conv"
        for size in spec.kernel_sizes
        for se in (False, True)
    ]
    for when in ("first masks (half, all)", "last masks (half, one step more)"):
        fused, plain = 0.0, 0.0
        for node in nodes:
            steps = [step(node, node), step(node, lambda x, p, n=node: two_passes(n, x, p))]
            one, two = fastest(steps)
            fused, plain = fused + one, plain + two
            node.masks = Masks(node.masks.small, node.masks.small + node.spec.granularity)
        print(
            f"{preset}, {len(nodes)} Prunodes, {when}: one pass {1e3 * fused:.1f} ms,"
            f" two passes {1e3 * plain:.1f} ms: {fused / plain:.2f}"
        )


def compare_granularities() -> None:
    """A step of one layer, of the same widest blocks, for 4, 16 and 64 widths."""
    spec = GPUNet(SpaceConfig(preset="gpunet_28")).specs[-1]
    choices = (4, 16, 64)
    layers = []
    for number in choices:
        of_number = dataclasses.replace(spec, granularity=spec.max_hidden // number)
        masks = asdict(first_masks(spec.max_hidden, of_number.granularity))
        kinds = [{"kernel_size": k, "se": se} for k in spec.kernel_sizes for se in (False, True)]
        branches = [{"option": kind, "masks": masks} for kind in kinds]
        layers.append(MixedLayer(of_number, branches, Config()))
    times = fastest([layer_step(layer) for layer in layers], repeats=15)
    shown = ", ".join(f"{n}: {1e3 * t:.1f} ms" for n, t in zip(choices, times, strict=True))
    print(f"step of a layer by widths to choose from: {shown}: {max(times) / min(times):.2f}")


def compare_memory(problem: Problem, config: Config) -> None:
    """The first steps of a search with Prunodes, and with all widths as blocks of their own."""
    few = dataclasses.replace(
        problem.data, train=problem.data.train.subset(torch.arange(3 * BATCH))
    )
    held = []
    for prunode in (True, False):
        settings = dataclasses.replace(config, prunode=prunode, block_pruning=False)
        run = SupernetTraining(dataclasses.replace(problem, data=few), settings, None)
        run.train_weights()
        held.append(run.metrics)
        print(
            f"{'Prunodes' if prunode else 'all widths as blocks'}:"
            f" {run.metrics['num_blocks']:.0f} blocks, {run.metrics['memory_mb']:.1f} MB,"
            f" {run.metrics['step_ms']:.0f} ms a step"
        )
    print(f"memory with Prunodes: {held[0]['memory_mb'] / held[1]['memory_mb']:.2f} of without")


def compare_searches(problem: Problem, config: Config) -> None:
    """Whole searches from one warm-up, with and without pruning of blocks."""
    scenarios = {
        "all": {},
        "no block pruning, no skips": {"block_pruning": False, "layer_skipping": "off"},
        "no block pruning, skips from the start": {
            "block_pruning": False,
            "layer_skipping": "from_start",
        },
    }
    searches: dict[str, float] = {}
    for name, switches in scenarios.items():
        settings = dataclasses.replace(config, **switches)
        started = time.process_time()
        start = last_state(problem, settings)
        warmup_s = (time.process_time() - started) / settings.warmup_epochs
        started = time.process_time()
        begun = dataclasses.replace(problem, start=start)
        history = [progress.metrics for progress in search(begun, settings, None)]
        searches[name] = (time.process_time() - started) / settings.epochs
        first, last = history[0], history[-1]
        print(
            f"{name}: an epoch of warm-up {warmup_s:.2f} s, of the search {searches[name]:.2f} s;"
            f" memory {first['memory_mb']:.1f} -> {last['memory_mb']:.1f} MB,"
            f" step {first['step_ms']:.0f} -> {last['step_ms']:.0f} ms (wall clock)"
        )
        if name == "all":
            start_s = warmup_s
            continue
        warmup, epochs = PAPER_EPOCHS
        overall = (warmup * warmup_s + epochs * searches[name]) / (
            warmup * start_s + epochs * searches["all"]
        )
        print(
            f"  pruning saves: search {searches[name] / searches['all']:.2f}x,"
            f" {warmup} + {epochs} epochs {overall:.2f}x (paper: 2.26x)"
        )


def digits() -> Problem:
    """Return the digits with the space of their size."""
    space = GPUNet(SpaceConfig(preset="gpunet_8"))
    dataset = DATASETS["digits"]
    table = measure(space.all_blocks(), backend="onnxruntime")
    return Problem(
        space=space,
        data=dataset.load(dataset.Config(), data_root()),
        table=table,
        cost=lambda architecture: table.network_ms(space.blocks(architecture)),
        seed=0,
        device=torch.device("cpu"),
    )


def last_state(problem: Problem, config: Config) -> State:
    """Return what pretraining leaves."""
    *_, last = pretrain(problem, config, None)
    return last.state()


def anonymous(specs: Sequence[LayerSpec]) -> list[LayerSpec]:
    """Return layers without their names, so that equal ones are equal."""
    return [dataclasses.replace(spec, name="") for spec in specs]


def step(
    node: Prunode, evaluate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Callable[[], None]:
    """Return a forward and backward pass of a Prunode."""
    node.to(memory_format=torch.channels_last)
    x = images(node.spec)
    probability = torch.tensor(0.4, requires_grad=True)
    return lambda: evaluate(x, probability).sum().backward()


def layer_step(layer: MixedLayer) -> Callable[[], None]:
    """Return a forward and backward pass of a layer of Prunodes."""
    layer.to(memory_format=torch.channels_last)
    x = images(layer.spec)
    noise = torch.zeros(3 * len(layer))
    return lambda: layer(x, layer.mix(noise)).sum().backward()


def images(spec: LayerSpec) -> torch.Tensor:
    """Return a batch of inputs to a layer, as a network passes them on."""
    x = torch.randn(BATCH, *spec.in_shape).to(memory_format=torch.channels_last)
    return x.requires_grad_()


def fastest(functions: Sequence[Callable[[], None]], repeats: int = 7) -> list[float]:
    """Return the least processor time of each function, called in turn (seconds)."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):  # the first round warms up
        for function, taken in zip(functions, times, strict=True):
            started = time.process_time()
            function()
            taken.append(time.process_time() - started)
    return [min(taken[1:]) for taken in times]


if __name__ == "__main__":
    main()
