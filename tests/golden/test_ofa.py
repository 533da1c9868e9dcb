"""Numbers of Cai et al., "Once for All: Train One Network and Specialize it for Efficient
Deployment" (2020), and of the page of the authors' code, which lists networks with their costs.
"""

import pytest

from cost_models import COST_MODELS
from search_spaces.base import Architecture, SearchSpace
from search_spaces.ofa_mobilenet_v3 import Config, OFAMobileNetV3
from search_spaces.ofa_resnet50 import Config as ResNetConfig
from search_spaces.ofa_resnet50 import OFAResNet50

# Network note8_lat@31ms_top1@72.8 of the page; what blocks beyond the depth are given is not used.
NOTE8: Architecture = {
    "ks": [5, 3, 3, 3, 5, 5, 3, 3, 3, 3, 5, 3, 3, 5, 7, 3, 3, 3, 5, 5],
    "e": [3, 3, 3, 3, 4, 3, 3, 3, 4, 4, 4, 4, 4, 3, 4, 3, 6, 3, 3, 3],
    "d": [2, 2, 3, 3, 4],
    "r": 152,
}
# Network flops@595M_top1@80.0 of the page; stage 1 has three blocks.
FLOPS595: Architecture = {
    "ks": [3, 5, 3, None, 5, 5, 3, 5, 7, 5, 3, 5, 3, 5, 7, 3, 3, 3, 5, 3],
    "e": [3, 4, 3, None, 4, 4, 6, 3, 6, 6, 3, 4, 6, 6, 6, 4, 6, 6, 6, 3],
    "d": [3, 4, 4, 4, 4],
    "r": 236,
}


def mobilenet(width: str, *resolutions: int) -> OFAMobileNetV3:
    return OFAMobileNetV3(Config(preset=f"paper_{width}", resolutions=resolutions or None))


def cost(name: str, space: SearchSpace, architecture: Architecture) -> float:
    return COST_MODELS[name].function(space.layers(architecture))


def test_size_of_the_mobilenet_v3_space() -> None:
    """Section 3.1: ((3 x 3)^2 + (3 x 3)^3 + (3 x 3)^4)^5, about 2 x 10^19, for each of 25 sizes."""
    per_resolution = (9**2 + 9**3 + 9**4) ** 5
    assert mobilenet("w1.0", 224).size() == mobilenet("w1.2", 224).size() == per_resolution
    assert f"{per_resolution:.0e}" == "2e+19"
    assert mobilenet("w1.0").size() == 25 * per_resolution


def test_size_of_the_resnet50_space() -> None:
    """2 stems, 3^6 widths, and stages of 2, 2, 4 and 2 blocks that always run, or two more."""
    space = OFAResNet50(ResNetConfig(preset="paper", resolutions=(224,)))
    stages = [sum(3**depth for depth in (least, least + 1, least + 2)) for least in (2, 2, 4, 2)]
    assert stages == [117, 117, 1053, 117]
    assert space.size() == 2 * 3**6 * 117**3 * 1053 == 2_458_914_796_962


def test_features_of_a_resnet50() -> None:
    """The predictor of `ofa_resnet50_example` reads one number for each option: 82, of 8 sizes.

    It encodes the residual convolution of the stem and no other depth: those show in the blocks.
    """
    sizes = (128, 144, 160, 176, 192, 224, 240, 256)
    space = OFAResNet50(ResNetConfig(preset="paper", resolutions=sizes))
    depths = {f"d.{number}" for number in range(1, 5)}
    assert sum(len(c.options) for c in space.choices if c.name not in depths) == 82


@pytest.mark.parametrize(
    ("width", "smallest", "largest"),
    [("w1.0", 121_278_672, 566_170_656), ("w1.2", 193_078_200, 843_101_040)],
)
def test_macs_of_mobilenet_v3(width, smallest, largest) -> None:
    """At 224 pixels, computed from the authors' code: 121.3M to 566.2M and 193.1M to 843.1M."""
    space = mobilenet(width, 224)
    assert cost("macs", space, space.presets["min"]) == smallest
    assert cost("macs", space, space.presets["max"]) == largest


def test_macs_of_resnet50() -> None:
    """At 224 pixels, computed from the authors' code: 962M to 7,492M."""
    space = OFAResNet50(ResNetConfig(preset="paper", resolutions=(224,)))
    assert cost("macs", space, space.presets["min"]) == 962_192_128
    assert cost("macs", space, space.presets["max"]) == 7_491_643_904


@pytest.mark.parametrize(
    ("width", "architecture", "macs", "params"),
    [("w1.0", NOTE8, "101M", "4.6M"), ("w1.2", FLOPS595, "595M", "9.1M")],
    ids=["note8", "flops595"],
)
def test_published_networks(width, architecture, macs, params) -> None:
    """Columns #MACs and #Params of the page."""
    space = mobilenet(width, architecture["r"])
    assert f"{cost('macs', space, architecture) / 1e6:.0f}M" == macs
    assert f"{cost('num_params', space, architecture) / 1e6:.1f}M" == params
