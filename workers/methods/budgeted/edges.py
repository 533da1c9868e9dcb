"""Random edges: drawing architectures, their probabilities, and the edges that they use.

Shapes: B samples, each with an architecture of its own; E edges in order of creation, which is
topological. Draws are kept edge by edge, as (E, B).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from search_spaces.base import Architecture
from search_spaces.fabric import Fabric


@dataclass(frozen=True)
class Draw:
    """Edges drawn for every sample: `offered_EB` could be drawn, `on_EB` were."""

    offered_EB: torch.Tensor
    on_EB: torch.Tensor

    def log_prob_B(self, logits_E: torch.Tensor) -> torch.Tensor:  # noqa: N802
        """Return the log-probability of every sample's architecture, differentiable in the logits.

        An edge that could not be drawn adds no term.
        """
        signs_EB = 2.0 * self.on_EB - 1.0
        terms_EB = functional.logsigmoid(signs_EB * logits_E[:, None])
        return (terms_EB * self.offered_EB).sum(0)


class Wiring:
    """Which nodes the edges of a fabric join, as numbers."""

    def __init__(self, fabric: Fabric) -> None:
        numbers = {node.name: number for number, node in enumerate(fabric.nodes)}
        self.names = [edge.name for edge in fabric.edges]
        self.ends = [(numbers[edge.source], numbers[edge.target]) for edge in fabric.edges]
        self.num_nodes = len(numbers)

    def draw(self, logits_E: torch.Tensor, uniform_EB: torch.Tensor) -> Draw:
        """Draw an architecture for every sample from uniform numbers in [0, 1).

        Edges are drawn in topological order; one whose source is not connected is not offered.

        Args:
            logits_E: of the edges' probabilities.
            uniform_EB: an edge is on where its number is below its probability.
        """
        below_EB = uniform_EB < logits_E.detach().sigmoid()[:, None]
        offered_EB = torch.zeros_like(below_EB)
        reached_VB = below_EB.new_zeros(self.num_nodes, below_EB.shape[1])
        reached_VB[0] = True
        for edge, (source, target) in enumerate(self.ends):
            offered_EB[edge] = reached_VB[source]
            reached_VB[target] |= reached_VB[source] & below_EB[edge]
        return Draw(offered_EB, below_EB & offered_EB)

    def pruned(self, on_EB: torch.Tensor) -> torch.Tensor:
        """Return the drawn edges that lie on a path to the last node; on none if there is no path.

        They lie on a path from the first node anyhow, or they would not have been offered.
        """
        kept_EB = torch.zeros_like(on_EB)
        leads_VB = on_EB.new_zeros(self.num_nodes, on_EB.shape[1])
        leads_VB[-1] = True
        for edge, (source, target) in reversed(list(enumerate(self.ends))):
            kept_EB[edge] = on_EB[edge] & leads_VB[target]
            leads_VB[source] |= kept_EB[edge]
        return kept_EB

    def drawable(self, open_E: torch.Tensor) -> torch.Tensor:
        """Return the edges that lie on a path, all other edges of which are open."""
        reached, leads = [False] * self.num_nodes, [False] * self.num_nodes
        reached[0] = leads[-1] = True
        is_open = open_E.tolist()
        for edge, (source, target) in enumerate(self.ends):
            reached[target] |= reached[source] and is_open[edge]
        for edge, (source, target) in reversed(list(enumerate(self.ends))):
            leads[source] |= leads[target] and is_open[edge]
        return torch.tensor([reached[source] and leads[target] for source, target in self.ends])

    def architecture(self, on_E: torch.Tensor) -> Architecture:
        """Return the architecture of these edges."""
        return {name: True for name, on in zip(self.names, on_E.tolist(), strict=True) if on}

    def best_path(self, costs_E: list[float]) -> Architecture:
        """Return the path from the first to the last node whose edges cost least together.

        Args:
            costs_E: of each edge, any finite number.
        """
        best: list[tuple[float, list[int]]] = [(0.0, [])]
        best += [(float("inf"), [])] * (self.num_nodes - 1)
        for edge, (source, target) in enumerate(self.ends):
            cost = best[source][0] + costs_E[edge]
            if cost < best[target][0]:
                best[target] = (cost, [*best[source][1], edge])
        return {self.names[edge]: True for edge in best[-1][1]}
