import math

import pytest

from workers.schedules import cosine, exponential, grown, linear, steps


def test_cosine_falls_from_one_to_zero() -> None:
    values = [cosine(step, 10) for step in range(11)]
    assert values[0] == 1
    assert values[5] == pytest.approx(0.5)
    assert values[10] == pytest.approx(0)
    assert values == sorted(values, reverse=True)
    assert cosine(2.5, 10) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert cosine(12, 10) == cosine(10, 10)


def test_exponential_is_a_staircase() -> None:
    assert exponential(2.39, 0.97, 2.4) == 1
    assert exponential(2.4, 0.97, 2.4) == pytest.approx(0.97)
    assert exponential(450, 0.97, 2.4) == pytest.approx(0.97**187)


def test_steps_are_at_shares_of_all_progress() -> None:
    assert [steps(done, (0.5, 0.75)) for done in (0, 0.49, 0.5, 0.74, 0.75, 1)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert steps(0.9, ()) == 1


def test_grown_is_even_in_the_exponent() -> None:
    assert [grown(step, 4, 0.01) for step in (0, 2, 4, 5)] == pytest.approx([0.01, 0.1, 1, 1])
    assert grown(0, 0, 0.01) == 1


def test_linear_reaches_its_end_and_stays() -> None:
    assert linear(0, 5, 1e-6, 0.06) == 1e-6
    assert linear(2, 4, 1.0, 2.0) == 1.5
    assert linear(9, 5, 1e-6, 0.06) == 0.06
    assert linear(0, 0, 1e-6, 0.06) == 0.06
