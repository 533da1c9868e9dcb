"""What fused training and switching cost on a CPU: clipped-Lasso subnets and their alternatives.

    python benchmarks/clipped_lasso.py [--batch 64] [--repeats 7]

One thread; times are of the processor, so that what else the machine does hardly counts. A training
step of ResNet-20 on 32x32 images is compared for subnets as slices (what the product does), as
networks by themselves, and as full tensors with masks on their weights (as Eq. 2 is written).
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from cost_models.macs import macs
from search_spaces.base import Architecture, sample
from search_spaces.slimmable_resnet import Config, SlimmableResNet
from workers.methods.clipped_lasso.dynamic import DynamicNetwork
from workers.protocol import seeded
from workers.quick_norms import quick_norms

Step = Callable[[], None]
SWITCHES = 10_000


class MaskedConv(nn.Module):
    """A convolution of full size, of whose weights only the leading ones are not masked."""

    def __init__(self, wide: nn.Conv2d, filters: int, channels: int) -> None:
        super().__init__()
        self._wide = (wide,)  # in a tuple, which torch does not look into
        mask_OI11 = torch.zeros(*wide.weight.shape[:2], 1, 1)
        mask_OI11[:filters, :channels] = 1.0
        self.register_buffer("mask_OI11", mask_OI11)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the output, zero beyond the filters."""
        (wide,) = self._wide
        weight_OIHW = wide.weight * self.mask_OI11
        return functional.conv2d(x_BCHW, weight_OIHW, None, wide.stride, wide.padding)


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SlimmableResNet(Config(depth=20, shortcut="conv1x1"))
    subnets = [*map(space.uniform, (0.25, 0.5, 0.75)), space.presets["full"]]
    compare_fusion("uniform", space, subnets, arguments.batch, arguments.repeats)
    uneven = sorted(
        (sample(space, seeded(index)) for index in range(3)), key=lambda a: macs(space.layers(a))
    )
    subnets = [*uneven, space.presets["full"]]
    compare_fusion("random", space, subnets, arguments.batch, arguments.repeats)
    compare_widths(space, arguments.batch, arguments.repeats)
    compare_norms(arguments.batch, arguments.repeats)
    switch(space, subnets)


def compare_fusion(
    name: str, space: SlimmableResNet, subnets: Sequence[Architecture], batch: int, repeats: int
) -> None:
    """A fused step beside the subnets' steps one by one, and beside the masked formulation."""
    fused = DynamicNetwork(space, subnets)
    steps = [
        step([*fused.subnets], fused, batch),
        *(step([alone := single(space, subnet)], alone, batch) for subnet in subnets),
        masked_step(space, subnets, batch),
    ]
    together, *singles, masked = fastest(steps, repeats)
    print(
        f"{name} subnets, a step of {len(subnets)}: fused {1e3 * together:.0f} ms;"
        f" one by one {1e3 * sum(singles):.0f} ms: {together / sum(singles):.2f} (at most 1.15);"
        f" masked {1e3 * masked:.0f} ms: {together / masked:.2f} (at most 0.85)",
        flush=True,
    )


def compare_widths(space: SlimmableResNet, batch: int, repeats: int) -> None:
    """A step of one subnet at a time, as slices and masked; odd widths beside multiples of 8."""
    full = space.presets["full"]
    for width_mult in (0.125, 0.2, 0.25, 0.3125, 0.45, 0.5, 0.6, 0.75, 0.9, 1.0):
        subnet = space.uniform(width_mult)
        dynamic = DynamicNetwork(space, [subnet])
        steps = [step([*dynamic.subnets], dynamic, batch), masked_step(space, [subnet], batch)]
        sliced, masked = fastest(steps, repeats)
        work = macs(space.layers(subnet)) / macs(space.layers(full))
        widths = "/".join(str(subnet[name]) for name in ("conv1", "conv9", "conv15"))
        print(
            f"width {width_mult} ({widths}): {100 * work:.0f} % of the work;"
            f" sliced {1e3 * sliced:.0f} ms, masked {1e3 * masked:.0f} ms: {sliced / masked:.2f}",
            flush=True,
        )


def compare_norms(batch: int, repeats: int) -> None:
    """Batch norm of channels-last maps, forward and backward, as torch has it and quick."""
    for width, rows in (
        (4, 32),
        (8, 32),
        (12, 32),
        (16, 32),
        (19, 16),
        (29, 16),
        (32, 16),
        (58, 8),
    ):
        x_BCHW = torch.randn(batch, width, rows, rows).to(memory_format=torch.channels_last)
        x_BCHW.requires_grad_()
        for name, training in (("in training", True), ("on stored statistics", False)):
            norms = [nn.BatchNorm2d(width), quick_norms(nn.Sequential(nn.BatchNorm2d(width)))]
            plain, quick = fastest(
                [normalise(norm.train(training), x_BCHW) for norm in norms], repeats
            )
            print(
                f"batch norm of width {width} {name}: {1e3 * plain:.1f} ms,"
                f" quick {1e3 * quick:.1f} ms"
            )


def switch(space: SlimmableResNet, subnets: Sequence[Architecture]) -> None:
    """Switch between subnets many times: how long it takes, and what memory is held after it."""
    network = DynamicNetwork(space, subnets).eval()
    for step_index in range(len(subnets)):
        network.set_subnet(step_index)
    started = time.process_time()
    for step_index in range(SWITCHES):
        network.set_subnet(step_index % len(subnets))
    took_s = time.process_time() - started
    gc.collect()
    tracemalloc.start()
    for step_index in range(SWITCHES):
        network.set_subnet(step_index % len(subnets))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(
        f"{SWITCHES} switches: {1e6 * took_s / SWITCHES:.2f} us each (at most 100),"
        f" {held} bytes more afterwards"
    )


def normalise(norm: nn.Module, x_BCHW: torch.Tensor) -> Step:
    """Return a forward and backward pass of a norm; on stored statistics, to its maps alone."""
    wanted = [x_BCHW, *(norm.parameters() if norm.training else ())]
    return lambda: torch.autograd.backward(norm(x_BCHW).square().sum(), inputs=wanted)


def single(space: SlimmableResNet, subnet: Architecture) -> nn.Module:
    """Return a subnet as a network by itself."""
    return quick_norms(space.build(subnet))


def masked_step(space: SlimmableResNet, subnets: Sequence[Architecture], batch: int) -> Step:
    """Return a step of subnets that are full networks with masks, each with its own norms."""
    shared = space.build(space.presets["full"])
    networks = [masked_network(space, subnet, shared) for subnet in subnets]
    return step(networks, nn.ModuleList([shared, *networks]), batch)


def masked_network(space: SlimmableResNet, subnet: Architecture, shared: nn.Module) -> nn.Module:
    """Return a full network with norms of its own, whose convolutions mask the shared weights."""
    network, narrow = space.build(space.presets["full"]), space.build(subnet)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            wide, like = shared.get_submodule(name), narrow.get_submodule(name)
            assert isinstance(wide, nn.Conv2d)
            assert isinstance(like, nn.Conv2d)
            network.set_submodule(name, MaskedConv(wide, *like.weight.shape[:2]))
    return network


def step(networks: Sequence[nn.Module], owner: nn.Module, batch: int) -> Step:
    """Return a step of SGD on the networks' summed losses, on a batch of noise."""
    owner.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(owner.parameters(), lr=0.01, momentum=0.9, foreach=True)
    x_BCHW = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels_B = torch.arange(batch) % 10

    def train() -> None:
        optimizer.zero_grad()
        for network in networks:
            functional.cross_entropy(network(x_BCHW), labels_B).backward()
        optimizer.step()

    return train


def fastest(functions: Sequence[Step], repeats: int) -> list[float]:
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
