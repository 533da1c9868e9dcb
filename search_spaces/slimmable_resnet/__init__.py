"""ResNet-20 and ResNet-18 with free channel counts, and with the tied ones of slimmable networks.

Yang et al., "Non-uniform DNN Structured Subnets Sampling for Dynamic Inference", section IV-A and
Figure 5; Yu et al., "Slimmable Neural Networks" (S-NN).

An architecture gives the output channels of every convolution that is free, under the paper's
names: `{"conv1": 16, "conv2": 9, ...}`. `conv1` is the stem; each residual block has two.

* `shortcut: conv1x1`: a 1x1 convolution in every shortcut frees all counts. It runs at its block's
  input resolution; where the block halves the map, a 2x2 average pool follows. A batch norm stands
  behind it, and it begins near the identity; the paper leaves both open.
* `shortcut: identity`: the blocks of a group have equal outputs, which its first layer's choice
  gives. Between groups ResNet-20 pools 2x2 and appends zero channels (or drops channels), and
  ResNet-18 has a strided 1x1 convolution.

The module of a convolution has its name; `shortcut3` is added to the output of `conv3` and has its
width. All networks of a space have the same tensors, and those of a narrower network are the
leading slices of the full one's.
"""

from search_spaces.slimmable_resnet.networks import Config, ResidualSpec
from search_spaces.slimmable_resnet.space import SlimmableResNet

__all__ = ["Config", "ResidualSpec", "SlimmableResNet"]
