"""Records of made-up networks whose modules read one another in a given way, or in a random one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from search_spaces.base import Layer

SHAPE = (1, 1, 1)


def network(reads: Mapping[str, Sequence[str]], layers_each: int = 1) -> list[Layer]:
    """Return layers of modules, of which a module's first reads the last ones of others."""
    layers: list[Layer] = []
    for module, sources in reads.items():
        inputs = tuple(f"{source}.{layers_each - 1}" for source in sources)
        for index in range(layers_each):
            layers.append(
                Layer(f"{module}.{index}", "conv", SHAPE, SHAPE, inputs=inputs, module=module)
            )
            inputs = (layers[-1].name,)
    return layers


def chain(length: int, name: str = "chain") -> dict[str, list[str]]:
    """Return modules that each read the one before."""
    return {f"{name}{i}": [f"{name}{i - 1}"] if i else [] for i in range(length)}


@st.composite
def random_reads(draw: st.DrawFn, most: int = 12) -> dict[str, list[str]]:
    """Draw up to `most` modules, each of which reads up to three of those before it."""
    reads: dict[str, list[str]] = {"m0": []}
    for index in range(1, draw(st.integers(1, most))):
        sources = st.lists(st.sampled_from(list(reads)), unique=True, max_size=3)
        reads[f"m{index}"] = draw(sources)
    return reads
