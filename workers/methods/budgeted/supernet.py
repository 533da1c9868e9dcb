"""The stochastic super network: a fabric in which every sample of a batch has its own edges.

Tensors: B samples, C channels, H rows, W columns; E edges in order of creation.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from search_spaces.fabric import HEAD, STEM, Fabric


class StochasticFabric(nn.Module):
    """A fabric's full network and a logit for each of its edges.

    Args:
        fabric: all its edges are built.
        logit_start: of every edge's logit.
    """

    def __init__(self, fabric: Fabric, logit_start: float) -> None:
        super().__init__()
        self.network = fabric.build(fabric.full)
        self.last = fabric.nodes[-1]
        self.logits_E = nn.Parameter(torch.full((len(fabric.edges),), logit_start))

    def forward(
        self,
        x_BCHW: torch.Tensor,
        gates_EB: torch.Tensor | None = None,
        used_E: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the head's output when sample b has the edges e with gates_EB[e, b] (Algorithm 1).

        Without gates every edge is on. Edges in `used_E` are computed, those of any sample unless
        given; of a sample without a path the head sees zeros.

        Args:
            x_BCHW: images as networks see them.
            gates_EB: drawn edges that lie on paths.
            used_E: at least every edge of a sample; ranks that gather weights share it.
        """
        if gates_EB is None:
            return cast("torch.Tensor", self.network(x_BCHW))
        used = (gates_EB.any(1) if used_E is None else used_E).tolist()
        all_on = gates_EB.all(1).tolist()
        gates_EB111 = gates_EB.to(x_BCHW.dtype)[:, :, None, None, None]
        maps_BCHW = {STEM: self._part(STEM)(x_BCHW)}
        sums_BCHW: dict[str, torch.Tensor] = {}
        for edge, step in enumerate(self.network.steps):
            if used[edge]:
                y_BCHW = self._part(step.edge)(maps_BCHW[step.source])
                gate = None if all_on[edge] else gates_EB111[edge]
                sums_BCHW[step.target] = _added(sums_BCHW.get(step.target), y_BCHW, gate)
            if step.completes_target and step.target in sums_BCHW:
                maps_BCHW[step.target] = self._part(step.target)(sums_BCHW.pop(step.target))
        last_BCHW = maps_BCHW.get(self.last.name)
        if last_BCHW is None:
            last_BCHW = x_BCHW.new_zeros(len(x_BCHW), *self.last.shape)
        return cast("torch.Tensor", self._part(HEAD)(last_BCHW))

    def _part(self, name: str) -> nn.Module:
        return cast("nn.Module", getattr(self.network, name))


def _added(
    sum_BCHW: torch.Tensor | None, y_BCHW: torch.Tensor, gate_B111: torch.Tensor | None
) -> torch.Tensor:
    """Return the sum with an edge's output added where its gate is open."""
    if gate_B111 is None:
        return y_BCHW if sum_BCHW is None else sum_BCHW + y_BCHW
    if sum_BCHW is None:
        return y_BCHW * gate_B111
    return torch.addcmul(sum_BCHW, y_BCHW, gate_B111)
