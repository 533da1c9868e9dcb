"""How calls are timed: in turn, beside others, without the rounds that something disturbed."""

from __future__ import annotations

import pytest
from torch import nn

from cost_models import backends
from cost_models.backends import COPIES, Call, Work, in_turn, timed


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "SECONDS", 0.01)


def test_disturbed_rounds_do_not_count() -> None:
    """A third of the rounds is ten times slower; medians are those of the others."""
    calls = 0

    def disturbed() -> float:
        nonlocal calls
        calls += 1
        return 100.0 if calls % 3 == 0 else 10.0

    first, second = timed([disturbed, lambda: 5.0], 30)
    assert (first.median_us, first.iqr_us) == (10.0, 0.0)
    assert (second.median_us, second.iqr_us) == (5.0, 0.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_few_modules_are_timed_beside_copies_of_their_own(count: int) -> None:
    prepared: list[Work] = []
    called: list[int] = []

    def prepare(work: Work, threads: int) -> Call:
        assert threads == 2
        prepared.append(work)
        place = len(prepared)

        def call() -> float:
            called.append(place)
            return float(work.shape[0])

        return call

    works = [Work(nn.ReLU(), (index,)) for index in range(1, count + 1)]
    timings = in_turn(prepare, works, threads=2, repeats=5)
    assert [timing.median_us for timing in timings] == [work.shape[0] for work in works]
    assert len(prepared) >= COPIES
    assert {prepared.count(work) for work in works} == {len(prepared) // count}
    places = list(range(1, len(prepared) + 1))
    assert called == places * (len(called) // len(places))
