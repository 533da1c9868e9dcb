"""How many networks a graph holds: sets of edges that all lie on paths from source to sink.

In a graph without cycles these are the sets under which every inner node has an edge into it if
and only if it has one out of it, and source and sink are used. A dynamic program takes in one node
after the other with its edges to the earlier ones; of those that still wait for edges, it knows
whether they have edges in and out.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence


def count_networks(edges: Sequence[tuple[int, int]]) -> int:
    """Return the exact number of networks; k parallel edges join two nodes in 2^k - 1 ways.

    Args:
        edges: (from, to) of nodes in topological order, the source 0, the sink the last.
    """
    sink = max(target for _, target in edges)
    parallel = Counter(edges)
    neighbours: dict[int, set[int]] = defaultdict(set)
    for source, target in parallel:
        neighbours[source].add(target)
        neighbours[target].add(source)
    states = {_into(0) | _out_of(sink): 1}  # as if edges led in from outside, and out again
    taken: set[int] = set()
    for node in _order(neighbours):
        for other in neighbours[node] & taken:
            ends = (min(node, other), max(node, other))
            states = _joined(states, *ends, ways=2 ** parallel[ends] - 1)
        taken.add(node)
        for other in {node, *neighbours[node]}:
            if other in taken and neighbours[other] <= taken:
                states = _closed(states, other)
    return sum(states.values())


def _into(node: int) -> int:
    """Return the bit of a state that tells of edges into a node."""
    return 1 << 2 * node


def _out_of(node: int) -> int:
    return 2 << 2 * node


def _joined(states: Mapping[int, int], source: int, target: int, ways: int) -> dict[int, int]:
    """Return the states with and without edges between two nodes."""
    joined: dict[int, int] = defaultdict(int, states)
    for state, count in states.items():
        joined[state | _out_of(source) | _into(target)] += ways * count
    return joined


def _closed(states: Mapping[int, int], node: int) -> dict[int, int]:
    """Return the states that a node allows which has all its edges, without that node."""
    both = _into(node) | _out_of(node)
    closed: dict[int, int] = defaultdict(int)
    for state, count in states.items():
        if state & both in (0, both):
            closed[state & ~both] += count
    return closed


def _order(neighbours: Mapping[int, set[int]]) -> list[int]:
    """Return all nodes in the one of two orders under which fewer wait at the same time.

    Topological order follows the columns of a convolutional fabric; breadth-first order runs
    along all groups of a ResNet fabric at once, which are connected in mirrored order.
    """
    orders = sorted(neighbours), _breadth_first(neighbours)
    return min(orders, key=lambda order: _most_waiting(neighbours, order))


def _breadth_first(neighbours: Mapping[int, set[int]]) -> list[int]:
    order = {0: None}  # a dict keeps the order of insertion
    queue = deque(order)
    while queue:
        new = [node for node in sorted(neighbours[queue.popleft()]) if node not in order]
        order |= dict.fromkeys(new)
        queue += new
    return list(order)


def _most_waiting(neighbours: Mapping[int, set[int]], order: Sequence[int]) -> int:
    taken = [set(order[: end + 1]) for end in range(len(order))]
    return max(sum(not neighbours[node] <= nodes for node in nodes) for nodes in taken)
