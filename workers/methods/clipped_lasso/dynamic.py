"""One network that runs as any of its subnets, by real slices of shared weights.

Subnets share what convolutions and the classifier hold: each computes with the leading filters and
channels that its widths name. Batch norms are every subnet's own (Yu et al., "Slimmable Neural
Networks", section 3.3).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from search_spaces.base import Architecture
from search_spaces.slimmable_resnet import SlimmableResNet
from workers.quick_norms import quick_norms

WEIGHTS, SUBNETS = "weights.safetensors", "subnets.json"  # of a product
DECIMALS = 6  # of a ratio


class SlicedConv(nn.Module):
    """A convolution with the leading filters and channels of a wider one.

    Args:
        narrow: gives the number of both.
        wide: holds the weights, which are not this module's own.
    """

    def __init__(self, narrow: nn.Conv2d, wide: nn.Conv2d) -> None:
        super().__init__()
        self.filters, self.channels = narrow.weight.shape[:2]
        self._wide = (wide,)  # in a tuple, which torch does not look into

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the narrow convolution's output."""
        (wide,) = self._wide
        weight_OIHW = wide.weight[: self.filters, : self.channels]
        return functional.conv2d(x_BCHW, weight_OIHW, None, wide.stride, wide.padding)


class SlicedLinear(nn.Module):
    """A classifier that reads the leading features of a wider one; arguments as `SlicedConv`."""

    def __init__(self, narrow: nn.Linear, wide: nn.Linear) -> None:
        super().__init__()
        self.features = narrow.in_features
        self._wide = (wide,)

    def forward(self, x_BF: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        (wide,) = self._wide
        return functional.linear(x_BF, wide.weight[:, : self.features], wide.bias)


class DynamicNetwork(nn.Module):
    """A network that computes as one of its subnets at a time; at first, as the last of them.

    Args:
        space: of the subnets.
        architectures: the subnets' channel counts.
        ratios: how wide each subnet is between the narrowest (0) and the full network (1), where
            that is what tells them apart.

    Raises:
        ValueError: there are no subnets, or not as many ratios.
    """

    def __init__(
        self,
        space: SlimmableResNet,
        architectures: Sequence[Architecture],
        ratios: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if not architectures or (ratios and len(ratios) != len(architectures)):
            raise ValueError(
                f"subnets: {len(architectures)} with {len(ratios)} ratios are no network"
            )
        self.space, self.architectures = space, tuple(architectures)
        self.shared = without_norms(space.build(space.presets["full"]))
        self.subnets = nn.ModuleList(
            sliced(space.build(architecture), self.shared) for architecture in architectures
        )
        self._by_ratio = {round(ratio, DECIMALS): index for index, ratio in enumerate(ratios)}
        self._active = len(self.subnets) - 1

    def set_subnet(self, subnet: int | float) -> None:
        """Compute as another subnet from now on; it takes the same short time for all.

        Args:
            subnet: its number, an int, narrowest first; or the ratio of its width, a float, to six
                decimals.

        Raises:
            ValueError: there is no such subnet.
        """
        index: int | None = None
        if isinstance(subnet, float):
            index = self._by_ratio.get(round(subnet, DECIMALS))
        elif isinstance(subnet, int) and 0 <= subnet < len(self.subnets):
            index = subnet
        if index is None:
            raise ValueError(
                f"subnet: {subnet!r} is not there; allowed: a number from 0 to"
                f" {len(self.subnets) - 1}, or a ratio of {[*self._by_ratio]}"
            )
        self._active = index

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, classes) of the subnet that was set."""
        logits_BK: torch.Tensor = self.subnets[self._active](x_BCHW)
        return logits_BK

    def standalone(self, index: int) -> dict[str, torch.Tensor]:
        """Return the state dict of a subnet as a network by itself, as `space.build` makes it."""
        own, shared = self.subnets[index].state_dict(), self.shared.state_dict()
        with torch.device("meta"):
            shapes = self.space.build(self.architectures[index]).state_dict()
        return {
            name: own[name] if name in own else leading(shared[name], like.shape)
            for name, like in shapes.items()
        }


def load_dynamic(space: SlimmableResNet, folder: str | Path) -> DynamicNetwork:
    """Return the network that a study left in `products/<trial>`, in evaluation mode.

    Args:
        space: the study's: `build_space(load(DIR).config)`.
        folder: holds the two files.

    Raises:
        FileNotFoundError: it does not.
        ValueError: they are of another space, or of another method's study.
    """
    folder = Path(folder)
    try:
        subnets: list[dict[str, Any]] = json.loads((folder / SUBNETS).read_text())["subnets"]
        ratios = [subnet["ratio"] for subnet in subnets if subnet["ratio"] is not None]
        network = DynamicNetwork(space, [subnet["widths"] for subnet in subnets], ratios)
        network.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder}: not a product of clipped_lasso in this space") from error
    return network.eval()


def leading(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return the leading part of a tensor that has this shape, as a view."""
    return tensor[tuple(slice(size) for size in shape)]


def without_norms(network: nn.Module) -> nn.Module:
    """Return the network with batch norms replaced by nothing: what subnets share."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, nn.Identity())
    return network


def sliced(network: nn.Module, wide: nn.Module) -> nn.Module:
    """Return the network with its convolutions and classifier replaced by slices of a wider one."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            conv = cast(nn.Conv2d, wide.get_submodule(name))
            network.set_submodule(name, SlicedConv(module, conv))
        elif isinstance(module, nn.Linear):
            linear = cast(nn.Linear, wide.get_submodule(name))
            network.set_submodule(name, SlicedLinear(module, linear))
    return quick_norms(network)
