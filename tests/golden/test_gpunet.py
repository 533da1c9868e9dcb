"""Numbers that Kierat et al., "Tiered Pruning for Efficient Differentiable Inference-Aware Neural
Architecture Search" print about their space and its hand-made network, GPUNet-1.
"""

import math

import pytest

from cost_models import COST_MODELS
from search_spaces.gpunet import Config, GPUNet

# Section 3.1: options of all layers, a Prunode counted by its widths; +1 is skipping.
PRINTED_PRODUCT = 3**2 * 24 * 65 * 64 * 97**2 * 96 * 161 * 160 * 289**4 * 288 * 449**4


@pytest.fixture
def printed() -> GPUNet:
    """The space of the printed product, which has one Fused-IRB fewer in stage 2."""
    return GPUNet(Config(preset="gpunet1_printed"))


def test_gpunet1() -> None:
    """Table 2: 12.7M parameters; GPUNet-1 (Wang et al., 2022): 3.3 G MACs, cut off, not rounded."""
    space = GPUNet(Config(preset="gpunet1_supernet"))
    layers = space.layers(space.presets["gpunet1"])
    assert COST_MODELS["num_params"].function(layers) == 12_704_192
    assert COST_MODELS["macs"].function(layers) == 3_375_338_624
    assert COST_MODELS["weight_bytes"].function(layers) == 4 * 12_704_192


def test_size_of_the_printed_space(printed: GPUNet) -> None:
    """Section 3.1: 1.7e39."""
    assert printed.size() == PRINTED_PRODUCT
    assert f"{printed.size():.1e}" == "1.7e+39"


def test_size_of_the_searched_space() -> None:
    """One layer more per stage than GPUNet-1: 18 IRBs, the most that Table 5 shows."""
    space = GPUNet(Config(preset="gpunet1_supernet"))
    assert space.size() == 65 * PRINTED_PRODUCT
    assert sum(spec.kind != "conv" for spec in space.specs) == 18


def test_size_without_skips(printed: GPUNet) -> None:
    """Table 3, first optimisation: 7.1e38, the product without its "+1"."""
    blocks = (len(spec.options) - spec.skippable for spec in printed.specs)
    assert f"{math.prod(blocks):.1e}" == "7.1e+38"


def test_size_of_fbnets_space(printed: GPUNet) -> None:
    """Section 3.1, comparison: 2^2 8^17 = 9e15, two kernels for convolutions, eight blocks else."""
    blocks = (2 if spec.kind == "conv" else 8 for spec in printed.specs)
    assert f"{math.prod(blocks):.0e}" == "9e+15"


def test_size_with_two_blocks_and_skips(printed: GPUNet) -> None:
    """Table 3, third optimisation: 3^2 9^17 = 1.5e17; it counts a skip in all layers."""
    options = (3 if spec.kind == "conv" else 9 for spec in printed.specs)
    assert f"{math.prod(options):.1e}" == "1.5e+17"
