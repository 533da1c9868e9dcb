"""Whatever is killed, a study ends with what the undisturbed one found: a run of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.chaos import KINDS, NODES, STUDY, Chaos
from tests.cluster.local_cluster import local_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    with local_cluster(*[{"num_cpus": 1}] * NODES, num_cpus=1) as cluster:
        yield Chaos(cluster, tmp_path_factory.mktemp("chaos"), STUDY)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_nothing_is_there_twice(chaos: Chaos, kind: str) -> None:
    kill, ending = chaos.disturbed(kind, seed=0)
    assert ending.killed, f"nothing was killed: {kill}"
    assert ending.problem is None
