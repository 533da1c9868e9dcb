"""What benchmarks/reds_solve.py sets beside the product's knapsacks."""

import numpy as np
import pytest

from benchmarks.reds_solve import MODULES, bounds, of_module, promising, show_gaps
from tests.workers.methods.test_reds_knapsack import enumerated, made_up
from workers.methods.reds import relaxation


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_and_owe_nothing_to_the_product(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    chain = made_up(rng, layers=3, units=6)
    capacity = (chain.least_cost + chain.full_cost) // 3
    monkeypatch.delattr(relaxation.Relaxation, "path")
    best = enumerated(chain, capacity)
    largest = [bound_UV.max() for bound_UV in bounds(chain, capacity)]
    assert largest == pytest.approx([largest[0]] * 3)  # the best chain passes through all layers
    assert best <= largest[0] * (1 + 1e-9)
    pairs = promising(chain, capacity, best)
    kept = [width_V[pair_UV.any(0)] for width_V, pair_UV in zip(chain.widths, pairs, strict=True)]
    narrowed = chain.between([w[0] for w in kept], [w[-1] for w in kept])
    assert enumerated(narrowed, capacity) == best


def test_gaps_of_torchvision_networks_are_printed(capsys):
    assert "resnet18" in MODULES
    show_gaps("resnet18", of_module("resnet18", pixels=32))
    line = capsys.readouterr().out
    assert line.startswith("resnet18, 24 fractions: ")
    assert 0 < float(line.split("largest gap ")[1].split(",")[0]) < 0.01
