"""Sizes of fabrics against enumeration, where they are small enough."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.base import SearchSpace
from search_spaces.conv_fabric import ConvFabric
from search_spaces.fabric import paths
from search_spaces.fabric.paths import Ends, count_networks, on_paths
from search_spaces.resnet_fabric import ResNetFabric

SMALL = [
    ResNetFabric(ResNetFabric.Config(depth=8)),
    *(
        ConvFabric(ConvFabric.Config(columns=columns, scales=scales, in_shape=(1, 4, 4)))
        for columns, scales in [(1, 3), (2, 2), (2, 3), (3, 2)]
    ),
    ConvFabric(
        ConvFabric.Config(columns=2, scales=3, head="segmentation", in_shape=(1, 4, 4)),
    ),
]


@pytest.mark.parametrize("space", SMALL, ids=lambda s: f"{s.name}-{len(s.choices)}-edges")
def test_size_equals_enumeration(space: SearchSpace) -> None:
    networks = set()
    names = [choice.name for choice in space.choices]
    for options in itertools.product(*(choice.options for choice in space.choices)):
        networks.add(tuple(space.canonical(dict(zip(names, options, strict=True)))))
    networks.discard(())
    assert space.size() == len(networks)


def enumerated(edges: Sequence[Ends]) -> int:
    """Count the networks among all sets of edges."""
    sink = max(target for _, target in edges)
    networks = {
        tuple(on_paths(edges, on, sink))
        for count in range(len(edges) + 1)
        for on in itertools.combinations(range(len(edges)), count)
    }
    return len(networks - {()})


def test_one_edge_of_each_parallel_pair_in_a_deeper_fabric() -> None:
    """Depth 14 has 28 edges; without its second edges between two nodes it can be enumerated."""
    fabric = ResNetFabric(ResNetFabric.Config(depth=14)).fabric
    numbers = {node.name: number for number, node in enumerate(fabric.nodes)}
    edges = list(dict.fromkeys((numbers[e.source], numbers[e.target]) for e in fabric.edges))
    assert len(edges) == 14
    assert count_networks(edges) == enumerated(edges)


@st.composite
def graphs(draw: st.DrawFn) -> list[Ends]:
    """Up to nine edges between up to six nodes, parallel ones too; edges into a node come first."""
    num_nodes = draw(st.integers(2, 6))
    pairs = list(itertools.combinations(range(num_nodes), 2))
    edges = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=8))
    return sorted([*edges, (0, num_nodes - 1)], key=lambda ends: ends[1])


@given(graphs())
def test_counting_equals_enumeration(edges: list[Ends]) -> None:
    assert count_networks(edges) == enumerated(edges)


@pytest.mark.parametrize(
    "space",
    [ResNetFabric(ResNetFabric.Config(depth=110)), ConvFabric()],
    ids=lambda space: space.name,
)
def test_large_sizes_do_not_depend_on_the_order_of_elimination(space, monkeypatch) -> None:
    size, chosen = space.size(), paths._order
    assert isinstance(size, int)
    assert 2**90 < size < 2 ** len(space.choices)
    monkeypatch.setattr(paths, "_order", lambda neighbours: chosen(neighbours)[::-1])
    assert space.size() == size


def test_sizes_do_not_depend_on_which_order_is_chosen(monkeypatch) -> None:
    space = ResNetFabric(ResNetFabric.Config(depth=32))
    breadth_first = space.size()
    monkeypatch.setattr(paths, "_order", sorted)
    assert space.size() == breadth_first
