"""Which networks exist. `SPACES` maps a name to its space."""

from collections.abc import Mapping
from typing import Any, Protocol

from search_spaces.base import SearchSpace
from search_spaces.conv_fabric import ConvFabric
from search_spaces.gpunet import GPUNet
from search_spaces.keyword_nets import KeywordNets
from search_spaces.ofa_mobilenet_v3 import OFAMobileNetV3
from search_spaces.ofa_resnet50 import OFAResNet50
from search_spaces.resnet_fabric import ResNetFabric
from search_spaces.slimmable_resnet import SlimmableResNet
from search_spaces.torch_module import TorchModule


class SpaceClass(Protocol):
    """A class of spaces: its options, and what makes a space of them."""

    Config: Any

    def __call__(self, config: Any = None) -> SearchSpace:
        """Return the space with these options, or with its defaults."""
        ...


SPACES: Mapping[str, SpaceClass] = {
    "conv_fabric": ConvFabric,
    "gpunet": GPUNet,
    "keyword_nets": KeywordNets,
    "ofa_mobilenet_v3": OFAMobileNetV3,
    "ofa_resnet50": OFAResNet50,
    "resnet_fabric": ResNetFabric,
    "slimmable_resnet": SlimmableResNet,
    "torch_module": TorchModule,
}
