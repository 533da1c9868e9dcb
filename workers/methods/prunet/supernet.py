"""The network that holds all candidates of PruNet's search, and shrinks to one of them.

Every layer mixes its branches by Gumbel-softmax coefficients (Eq. 3, 4); the expected latency
(Eq. 5) uses the very coefficients that mix the outputs. Legend: M branches of all layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from cost_models.latency_table import LatencyTable
from search_spaces.base import Architecture
from search_spaces.gpunet import GPUNet, GPUNetwork, LayerSpec, block_of
from workers.methods.prunet.config import Config
from workers.methods.prunet.layer import Mix, MixedLayer, Skip
from workers.methods.prunet.prunode import Prunode, first_masks
from workers.ranks import whole

Structure = dict[str, list[dict[str, Any]]]
"""Per layer its branches: each has an `option` (null: skip) and, if it is a Prunode, `masks`."""


class Supernet(nn.Module):
    """Stem, mixed layers and head, with the latencies of all blocks.

    Args:
        space: what exists.
        config: how it is mixed.
        table: latencies of all the space's blocks.
        structure: the branches that are left; None means all.

    Raises:
        ValueError: the fastest network takes 1 microsecond or less, or `threshold_initial` would
            remove blocks before they had a chance.
        MissingBlockError: the table lacks a block.
    """

    def __init__(
        self,
        space: GPUNet,
        config: Config,
        table: LatencyTable,
        structure: Structure | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        self.config = config
        start = first_structure(space, config)
        self.most_blocks = most_blocks(start)
        config.first_threshold(self.most_blocks)  # refused now, not after an epoch
        outer = space.build(space.presets["min"])
        self.stem, self.head = outer.get_submodule("stem"), outer.get_submodule("head")
        branches = structure or start
        self.layers = nn.ModuleDict(
            {spec.name: MixedLayer(spec, branches[spec.name], config) for spec in space.specs}
        )
        self._latencies = _Latencies(space, table)

    def __iter__(self) -> Iterator[MixedLayer]:
        return iter(self.layers.values())  # type: ignore[arg-type]

    def arch_parameters(self) -> list[nn.Parameter]:
        """Return architecture weights: `theta` of all branches, `weight` of all Prunodes."""
        thetas = [branch.theta for layer in self for branch in layer]
        return [*thetas, *(node.weight for node in self._prunodes())]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        architecture = {id(parameter) for parameter in self.arch_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in architecture]

    def draw(self, generator: torch.Generator) -> list[Mix]:
        """Draw every layer's coefficients; the generator is the CPU's, so that all ranks agree."""
        sizes = [3 * len(layer) for layer in self]
        # -log of an exponential variate is Gumbel(0, 1).
        noise = -torch.empty(sum(sizes)).exponential_(generator=generator).log()
        device = next(self.parameters()).device
        parts = torch.split(noise.to(device), sizes)
        return [layer.mix(part) for layer, part in zip(self, parts, strict=True)]

    def forward(self, x_BCHW: torch.Tensor, mixes: Sequence[Mix]) -> torch.Tensor:
        """Return logits, shape (batch, classes)."""
        x_BCHW = self.stem(x_BCHW)
        for layer, mix in zip(self, mixes, strict=True):
            x_BCHW = layer(x_BCHW, mix)
        logits_BK: torch.Tensor = self.head(x_BCHW)
        return logits_BK

    def expected_us(self, mixes: Sequence[Mix]) -> torch.Tensor:
        """Return the expected latency (Eq. 5), microseconds, differentiable in the mixes.

        A Prunode's latency is the mix of its two widths; a skip takes no time; what is not searched
        (overhead, stem, head) is counted.
        """
        branches_M = torch.cat([mix.branches_N for mix in mixes])
        large_M = torch.cat([mix.large_N for mix in mixes])
        us_M2 = large_M.new_tensor(
            [
                [self._latencies.of(layer.spec, option) for option in branch.options()]
                for layer in self
                for branch in layer
            ]
        )
        searched_M = branches_M * torch.lerp(us_M2[:, 0], us_M2[:, 1], large_M)
        return self._latencies.fixed_us + searched_M.sum()

    def update_masks(self, progress: float) -> None:
        """Move all Prunodes' masks (Algorithm 1); `progress` of the search, in [0, 1]."""
        nodes = self._prunodes()
        if nodes:
            weights = torch.stack([node.weight.detach() for node in nodes]).tolist()
            for node, weight in zip(nodes, weights, strict=True):
                node.update_masks(weight, progress)

    def mask_steps(self) -> float:
        """Return the mean distance of the Prunodes' masks, in steps of the granularity."""
        nodes = [node for node in self._prunodes() if node.masks.large > node.masks.small]
        steps = [(n.masks.large - n.masks.small) / n.spec.granularity for n in nodes]
        return sum(steps) / len(steps) if steps else 0.0

    def num_blocks(self) -> int:
        """Return the number of blocks left, skips not counted."""
        return sum(not isinstance(branch, Skip) for layer in self for branch in layer)

    def num_layers(self) -> int:
        """Return the number of layers that are not skipped for good."""
        return sum(len(layer) > 1 or not isinstance(next(iter(layer)), Skip) for layer in self)

    def structure(self) -> Structure:
        """Return the branches that are left; with the state dict, it is the whole supernet."""
        return {layer.spec.name: layer.structure() for layer in self}

    def architecture(self) -> Architecture:
        """Return the architecture of a supernet whose layers have one branch each."""
        chosen = {layer.spec.name: [branch.chosen() for branch in layer] for layer in self}
        return {name: option for name, (option,) in chosen.items()}

    def inherited(self) -> GPUNetwork:
        """Return the architecture's network with the supernet's weights; prefixes of them."""
        network = self.space.build(self.architecture())
        _copy_prefixes(self.stem, network.get_submodule("stem"))
        _copy_prefixes(self.head, network.get_submodule("head"))
        for layer in self:
            branch = next(iter(layer))
            if not isinstance(branch, Skip):
                _copy_prefixes(branch.block, network.get_submodule(layer.spec.name))
        return network

    def _prunodes(self) -> list[Prunode]:
        return [node for layer in self for node in layer.prunodes]


class _Latencies:
    """Latencies in microseconds, by layer and option; `fixed_us` is what is not searched."""

    def __init__(self, space: GPUNet, table: LatencyTable) -> None:
        self._us = {
            spec.name: {
                _key(option): 0.0
                if option is None
                else table.latency_us(block_of(spec, option).key)
                for option in spec.options
            }
            for spec in space.specs
        }
        outer = (space.stem_block, space.head_block)
        self.fixed_us = table.overhead_us + sum(table.latency_us(block.key) for block in outer)
        fastest = self.fixed_us + sum(min(options.values()) for options in self._us.values())
        if fastest <= 1:
            raise ValueError(
                f"latency table: the fastest network takes {fastest:g} us;"
                " allowed: above 1 us, for the loss has the power of its logarithm"
            )

    def of(self, spec: LayerSpec, option: Mapping[str, Any] | None) -> float:
        return self._us[spec.name][_key(option)]


def first_structure(space: GPUNet, config: Config) -> Structure:
    """Return all branches that a search starts with."""
    return {spec.name: list(_first_branches(spec, config)) for spec in space.specs}


def most_blocks(structure: Structure) -> int:
    """Return the number of branches of the largest layer."""
    return max(map(len, structure.values()))


def _first_branches(spec: LayerSpec, config: Config) -> Iterator[dict[str, Any]]:
    kinds = [
        {"kernel_size": size, "se": se}
        for size, se in itertools.product(spec.kernel_sizes, (False, True))
    ]
    masks = None
    if spec.kind == "conv":
        options = [{"kernel_size": size} for size in spec.kernel_sizes]
    elif config.prunode:
        options, masks = kinds, asdict(first_masks(spec.max_hidden, spec.granularity))
    else:
        widths = _widths(spec, config.num_widths)
        options = [{**kind, "hidden": width} for kind in kinds for width in widths]
    yield from ({"option": option, "masks": masks} for option in options)
    if spec.skippable and config.layer_skipping == "from_start":
        yield {"option": None, "masks": None}


def _widths(spec: LayerSpec, number: int | None) -> list[int]:
    every = spec.hidden_options
    if number is None or number >= len(every):
        return list(every)
    return [every[math.ceil((i + 1) * len(every) / number) - 1] for i in range(number)]


def _key(option: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return () if option is None else tuple(option.get(k) for k in ("kernel_size", "se", "hidden"))


def _copy_prefixes(source: nn.Module, target: nn.Module) -> None:
    """Copy every tensor's leading part: a narrow block's channels are a wide one's first."""
    wide = source.state_dict()
    with torch.no_grad():
        for name, tensor in target.state_dict().items():
            tensor.copy_(whole(wide[name])[tuple(slice(size) for size in tensor.shape)])
