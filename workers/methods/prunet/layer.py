"""A searched layer of the supernet: branches that compete, until one is left.

A branch is a Prunode (one kind of block, two widths), a `Single` (a block of fixed width) or a
`Skip` (the identity). Legend: N branches of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import nn

from search_spaces.gpunet import LayerSpec, build_block
from workers.methods.prunet.config import Config
from workers.methods.prunet.prunode import Masks, Prunode


class Mix(NamedTuple):
    """One draw for one layer: coefficients of its branches, and of their large widths, (N,)."""

    branches_N: torch.Tensor
    large_N: torch.Tensor


class Single(nn.Module):
    """A block of fixed width as a branch."""

    def __init__(self, spec: LayerSpec, option: Mapping[str, Any]) -> None:
        super().__init__()
        self.option = dict(option)
        self.block = build_block(spec, option)
        self.theta = nn.Parameter(torch.zeros(()))

    def options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the option, twice: both widths are the same."""
        return self.option, self.option

    def chosen(self) -> dict[str, Any]:
        """Return the option."""
        return self.option

    def forward(self, x_BCHW: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Return the block's output, shape (batch, *out_shape)."""
        y_BCHW: torch.Tensor = self.block(x_BCHW)
        return y_BCHW


class Skip(nn.Module):
    """The identity as a branch: choosing it removes the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(()))

    def options(self) -> tuple[None, None]:
        """Return the option of no layer, twice."""
        return None, None

    def chosen(self) -> None:
        """Return the option of no layer."""

    def forward(self, x_BCHW: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return x_BCHW


Branch = Prunode | Single | Skip


class MixedLayer(nn.Module):
    """One searched layer: branches that compete, until one is left (Eq. 3).

    A skip that was inserted late multiplies its output by `phi` and its rival's by `lambda_`.
    """

    def __init__(self, spec: LayerSpec, branches: Sequence[Mapping[str, Any]], config: Config):
        super().__init__()
        self.spec = spec
        self.config = config
        self.branches = nn.ModuleDict()
        for branch in branches:
            self._add(_branch(spec, branch))
        self._set_thetas(1 / len(branches))

    def __iter__(self) -> Iterator[Branch]:
        return iter(self.branches.values())  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.branches)

    @property
    def prunodes(self) -> list[Prunode]:
        """The branches whose width is searched."""
        return [branch for branch in self if isinstance(branch, Prunode)]

    def probabilities(self) -> list[float]:
        """Return the branches' probabilities, without noise."""
        exponentials = [math.exp(branch.theta.item()) for branch in self]
        return [value / sum(exponentials) for value in exponentials]

    def mix(self, noise_3N: torch.Tensor) -> Mix:
        """Draw coefficients from Gumbel(0, 1) noise: N for the branches, 2N for their widths."""
        theta_N = torch.stack([branch.theta for branch in self])
        noise_N, large_N, small_N = noise_3N.view(3, -1)
        # Eq. 4, with j in the denominator's sum. Two-way, the softmax is a sigmoid.
        none = theta_N.new_zeros(())
        weight_N = torch.stack([b.weight if isinstance(b, Prunode) else none for b in self])
        temperature = self.config.temperature
        branches_N = torch.softmax((theta_N + noise_N) / temperature, 0)
        return Mix(branches_N, torch.sigmoid((weight_N + large_N - small_N) / temperature))

    def forward(self, x_BCHW: torch.Tensor, mix: Mix) -> torch.Tensor:
        """Return the mix of all branches' outputs, shape (batch, *out_shape)."""
        large = mix.large_N.unbind()
        if len(self) == 1:
            y_BCHW: torch.Tensor = next(iter(self))(x_BCHW, large[0])
            return y_BCHW
        factors = self._factors()
        total: torch.Tensor | None = None
        for branch, coefficient, probability, factor in zip(
            self, mix.branches_N.unbind(), large, factors, strict=True
        ):
            y_BCHW = branch(x_BCHW, probability) * (coefficient * factor)
            total = y_BCHW if total is None else total + y_BCHW
        assert total is not None
        return total

    def prune(self, threshold: float, *, last: bool) -> None:
        """Remove branches below the threshold, the least likely first, never the last one.

        Probabilities are renormalised between removals. A skip takes the penultimate block's place
        with equal odds (section 3.2.3) and is safe until the next call; at the last epoch none is
        inserted, since nothing could decide about it any more.
        """
        while len(self) > 1:
            probabilities = self.probabilities()
            lowest = min(range(len(self)), key=probabilities.__getitem__)
            if probabilities[lowest] >= threshold:
                return
            may_skip = self.spec.skippable and self.config.layer_skipping == "late"
            skip_is_new = not any(isinstance(branch, Skip) for branch in self)
            self._keep([index for index in range(len(self)) if index != lowest])
            if len(self) == 1 and may_skip and skip_is_new and not last:
                rival = next(iter(self)).theta
                self._add(Skip().to(rival.device))
                self._set_thetas(rival.item())
                return

    def collapse(self) -> None:
        """Keep the likeliest branch alone; the first one of a tie."""
        probabilities = self.probabilities()
        self._keep([max(range(len(self)), key=probabilities.__getitem__)])

    def structure(self) -> list[dict[str, Any]]:
        """Return the branches as JSON values."""
        return [
            {"option": branch.kind, "masks": asdict(branch.masks)}
            if isinstance(branch, Prunode)
            else {"option": branch.chosen(), "masks": None}
            for branch in self
        ]

    def _factors(self) -> list[float]:
        """Return the outputs' factors: phi and lambda while a skip that came late has a rival."""
        skips = [isinstance(branch, Skip) for branch in self]
        if self.config.layer_skipping != "late" or not any(skips):
            return [1.0] * len(self)
        return [self.config.phi if skip else self.config.lambda_ for skip in skips]

    def _set_thetas(self, value: float) -> None:
        with torch.no_grad():
            for branch in self:
                branch.theta.fill_(value)

    def _add(self, branch: Branch) -> None:
        self.branches[_name(branch)] = branch

    def _keep(self, indices: Sequence[int]) -> None:
        items = list(self.branches.items())
        self.branches = nn.ModuleDict(dict(items[index] for index in indices))


def _branch(spec: LayerSpec, record: Mapping[str, Any]) -> Branch:
    option, masks = record["option"], record["masks"]
    if option is None:
        return Skip()
    if masks is None:
        return Single(spec, option)
    return Prunode(spec, **option, masks=Masks(**masks))


def _name(branch: Branch) -> str:
    option = branch.kind if isinstance(branch, Prunode) else branch.chosen()
    if option is None:
        return "skip"
    name = f"k{option['kernel_size']}" + ("_se" if option.get("se") else "")
    return name + (f"_h{option['hidden']}" if "hidden" in option else "")
