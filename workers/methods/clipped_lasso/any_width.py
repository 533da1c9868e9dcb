"""Training of every width between a narrowest network and the full one (section V-A).

The sandwich rule and in-place distillation of Yu and Huang, "Universally Slimmable Networks and
Improved Training Techniques", 2019: in every step the full network learns from the labels; the
narrowest one and two of random width learn from the full one's answers. Only the narrowest network
is not theirs: its widths are not uniform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from search_spaces.base import Architecture
from search_spaces.slimmable_resnet import SlimmableResNet
from workers.evaluation import lifted
from workers.methods.clipped_lasso.dynamic import leading
from workers.quick_norms import quick_norms

RANDOM_WIDTHS = 2  # in a step, beside the narrowest and the widest
MOST_KEPT = 512  # networks of 0.25 MB; ratios reach 517 of ResNet-20 from a quarter, 2,929 of -18


class AnyWidthNetwork(nn.Module):
    """A full network of which every narrower one is the leading part, batch norms included.

    The running statistics are of all widths together: a width that is to be used alone needs its
    own (`workers.calibration`).

    Args:
        space: of the networks.
        narrowest: channel counts at ratio 0.
        ratios: the widths to deliver, 0 for the narrowest to 1 for the full network.

    Raises:
        ValueError: the narrowest network is the full one, or a ratio is outside [0, 1].
    """

    def __init__(
        self, space: SlimmableResNet, narrowest: Architecture, ratios: Sequence[float]
    ) -> None:
        super().__init__()
        if narrowest == space.presets["full"]:
            raise ValueError(
                "widths: any lie between the full network and a narrower one, but no subnet is"
                " narrower; allowed: own, or a larger lambda, a or zero_below"
            )
        self.space, self.narrowest, self.ratios = space, narrowest, tuple(ratios)
        self.architectures = tuple(between(space, narrowest, ratio) for ratio in ratios)
        self.full = space.build(space.presets["full"])
        self._skeletons: dict[tuple[int, ...], nn.Module] = {}

    def forward(self, x_BCHW: torch.Tensor, ratio: float = 1.0) -> torch.Tensor:
        """Return the logits (batch, classes) of the network of a width.

        Raises:
            ValueError: the ratio is outside [0, 1].
        """
        skeleton = self._skeleton(between(self.space, self.narrowest, ratio))
        skeleton.train(self.training)
        logits_BK: torch.Tensor = functional_call(skeleton, self._parts(skeleton), (x_BCHW,))
        return logits_BK

    def standalone(self, index: int) -> dict[str, torch.Tensor]:
        """Return the state dict of a delivered width as a network by itself."""
        return self._parts(self._skeleton(self.architectures[index]))

    def _parts(self, skeleton: nn.Module) -> dict[str, torch.Tensor]:
        tensors = {**dict(self.full.named_parameters()), **dict(self.full.named_buffers())}
        shapes = skeleton.state_dict()
        return {name: leading(tensors[name], like.shape) for name, like in shapes.items()}

    def _skeleton(self, architecture: Architecture) -> nn.Module:
        """Return a network without memory for its tensors; the latest `MOST_KEPT` are kept."""
        key = tuple(architecture.values())
        if key not in self._skeletons:
            if len(self._skeletons) == MOST_KEPT:
                del self._skeletons[next(iter(self._skeletons))]
            with torch.device("meta"):
                self._skeletons[key] = quick_norms(self.space.build(architecture))
        return self._skeletons[key]


def between(space: SlimmableResNet, narrowest: Architecture, ratio: float) -> Architecture:
    """Return the widths at a ratio, the nearest that are offered: low + ratio (full - low).

    "The same ratio" of section V-A, read such that both ends are hit.

    Raises:
        ValueError: the ratio is outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio: {ratio} is outside [0, 1]")
    found = {}
    for choice in space.choices:
        low, full = narrowest[choice.name], choice.options[-1]
        wanted = math.floor(low + ratio * (full - low) + 0.5)
        found[choice.name] = min(choice.options, key=lambda option: abs(option - wanted))
    return found


def even_ratios(count: int) -> list[float]:
    """Return ratios from 0 to 1, evenly spaced.

    Raises:
        ValueError: there are fewer than two.
    """
    if count < 2:
        raise ValueError(f"count: {count} ratios do not reach from 0 to 1; allowed: 2 or above")
    return [index / (count - 1) for index in range(count)]


def sandwich_losses(
    network: AnyWidthNetwork, x: torch.Tensor, labels: torch.Tensor, draws: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield the full network's cross entropy, then that of others against its probabilities."""
    logits_BK = lifted(network(x))
    yield functional.cross_entropy(logits_BK, labels)
    taught_BK = logits_BK.detach().softmax(1)
    for ratio in (0.0, *torch.rand(RANDOM_WIDTHS, generator=draws).tolist()):
        yield functional.cross_entropy(lifted(network(x, ratio)), taught_BK)
