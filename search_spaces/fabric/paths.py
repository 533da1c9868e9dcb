"""Paths through a graph: which edges lie on one, and how many sets of edges all do.

Nodes are numbers in topological order, the source 0, the sink the last; edges are pairs of them
and may be parallel.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

Ends = tuple[int, int]
"""Source and target of an edge."""


def on_paths(edges: Sequence[Ends], on: Iterable[int], sink: int) -> list[int]:
    """Return the indices, among `on`, of edges on a path of such edges from node 0 to the sink.

    Args:
        edges: all edges into a node before any edge out of it.
        on: indices of the edges to go by, ascending.
        sink: the last node.
    """
    reached, reaching = {0}, {sink}
    forward = []
    for index in on:
        source, target = edges[index]
        if source in reached:
            reached.add(target)
            forward.append(index)
    kept = []
    for index in reversed(forward):
        source, target = edges[index]
        if target in reaching:
            reaching.add(source)
            kept.append(index)
    return kept[::-1]


def count_networks(edges: Sequence[Ends]) -> int:
    """Return the exact number of sets of edges, not empty, that all lie on paths of the set.

    These are the sets under which every inner node has an edge into it if and only if it has one
    out of it, and source and sink are used. A dynamic program takes in one node after the other,
    with its edges to earlier ones; a state tells of every node that still waits for edges whether
    it has edges in and out. k parallel edges join two nodes in 2^k - 1 ways.
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
