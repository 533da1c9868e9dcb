"""The search for the best chain of widths within a capacity, by labels.

A label is a partial chain: where it ends, what it is worth and what it costs. Labels grow layer by
layer. Of two that end at one width the one that costs no less and is worth no more is dropped, and
so is every label whose bound (`relaxation`) does not exceed the best chain known. When none is
left, that chain is proven (Desrochers and Soumis, "A Generalized Permanent Labelling Algorithm for
the Shortest Path Problem with Time Windows", 1988).

Legend: V widths of a layer, P labels, Q labels of one layer more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.methods.reds.chain import Chain, Integers
from workers.methods.reds.relaxation import Floats, Path, Relaxation, path_of

FACTORS = (1.0, 0.5, 0.7, 0.85, 0.95, 1.05, 1.18, 1.4, 2.0)  # of the best price: a bound each
AT_ONCE = 1 << 22  # pairs of a label and a width that are looked at together
ROUNDING = 1e-10  # of bounds, which are floating-point numbers


@dataclass(frozen=True)
class Labels:
    """Partial chains up to one layer; `parent_P` counts the labels of the layer before."""

    place_P: Integers
    score_P: Integers
    cost_P: Integers
    parent_P: Integers

    def __len__(self) -> int:
        return len(self.place_P)

    def at(self, chosen_P: Integers | slice) -> Labels:
        """Return some of the labels."""
        fields = (self.place_P, self.score_P, self.cost_P, self.parent_P)
        return Labels(*(field_P[chosen_P] for field_P in fields))


class LabelSearch:
    """An instance with what bounds its labels.

    Args:
        chain: the instance.
        capacity: the most that a chain may cost.
        price: of a unit of cost (`relaxation.best_price`).
    """

    def __init__(self, chain: Chain, capacity: int, price: float) -> None:
        self.chain, self.capacity = chain, capacity
        self.relaxations = [Relaxation(chain, price * factor) for factor in FACTORS]

    def run(self, best: Path, kept: int) -> tuple[Path, int]:
        """Return the best chain, at least the one given, and what no chain exceeds in score.

        Args:
            best: a chain within the capacity.
            kept: labels of a layer; those of the highest bounds stay.
        """
        layers, missed = [_origin()], 0.0
        for layer in range(len(self.chain.widths)):
            labels = _undominated(self._longer(layers[-1], layer, best.score))
            if len(labels) > kept:
                bound_P = self._bound(labels, layer)
                order_P = np.argpartition(-bound_P, kept)
                missed = max(missed, float(bound_P[order_P[kept:]].max()))
                labels = labels.at(order_P[:kept])
            layers.append(labels)
        if len(layers[-1]):  # what was missed may have left lesser ones
            best = max(best, path_of(self.chain, _places(layers)), key=lambda path: path.score)
        return best, max(best.score, int(missed * (1 + ROUNDING)))

    def _longer(self, labels: Labels, layer: int, best_score: int) -> Labels:
        """Return the labels of one layer more that respect the capacity and may beat the best."""
        step = max(1, AT_ONCE // len(self.chain.widths[layer]))
        starts = range(0, max(1, len(labels)), step)
        parts = [self._crossed(labels, layer, best_score, start, start + step) for start in starts]
        return Labels(
            np.concatenate([part.place_P for part in parts]),
            np.concatenate([part.score_P for part in parts]),
            np.concatenate([part.cost_P for part in parts]),
            np.concatenate([part.parent_P for part in parts]),
        )

    def _crossed(
        self, labels: Labels, layer: int, best_score: int, start: int, stop: int
    ) -> Labels:
        """Return every label in [start, stop) with every width of the next layer, if it may win."""
        some, needed = labels.at(slice(start, stop)), (best_score + 1) * (1 - ROUNDING)
        score_PV = some.score_P[:, None] + self.chain.scores[layer][some.place_P]
        cost_PV = some.cost_P[:, None] + self.chain.costs[layer][some.place_P]
        # The sharpest bound of one price first: few pairs are left for the others.
        bound_PV = score_PV + self.relaxations[0].to_come[layer]
        bound_PV += self.relaxations[0].price * (self.capacity - cost_PV)
        pairs = np.nonzero((cost_PV <= self.capacity) & (bound_PV >= needed))
        longer = Labels(pairs[1], score_PV[pairs], cost_PV[pairs], pairs[0] + start)
        return longer.at(np.nonzero(self._bound(longer, layer) >= needed)[0])

    def _bound(self, labels: Labels, layer: int) -> Floats:
        """Return what a whole chain that begins with each label is worth at most."""
        left_P = self.capacity - labels.cost_P
        added = [
            relaxed.to_come[layer][labels.place_P] + relaxed.price * left_P
            for relaxed in self.relaxations
        ]
        bound_P: Floats = labels.score_P + np.minimum.reduce(added)
        return bound_P


def _origin() -> Labels:
    zero = np.zeros(1, dtype=np.int64)
    return Labels(zero, zero, zero, zero)


def _undominated(labels: Labels) -> Labels:
    """Return the labels than which none at the same width costs no more and is worth no less."""
    if not len(labels):
        return labels
    ordered = labels.at(np.lexsort((-labels.score_P, labels.cost_P, labels.place_P)))
    # Higher places get higher numbers, so that one running maximum serves all places.
    rank_P = ordered.place_P * (ordered.score_P.max() + 1) + ordered.score_P
    highest_P = np.maximum.accumulate(rank_P)
    better_P = np.concatenate([[True], rank_P[1:] > highest_P[:-1]])
    return ordered.at(np.nonzero(better_P)[0])


def _places(layers: Sequence[Labels]) -> list[int]:
    """Return the places of the best of the last labels, traced back to the first layer."""
    index = int(layers[-1].score_P.argmax())
    places: list[int] = []
    for labels in layers[:0:-1]:
        places.insert(0, int(labels.place_P[index]))
        index = int(labels.parent_P[index])
    return places
