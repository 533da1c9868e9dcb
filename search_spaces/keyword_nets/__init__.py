"""The keyword-spotting networks that REDS slices (Corti et al., 2023), with free widths.

They are the DNN, CNN and DS-CNN of "Hello Edge" (Zhang et al., 2017) in sizes S and L, and
`vision`, REDS's DS-CNN for small images. An architecture gives the width of every hidden layer:
`{"conv1": 64, "separable1": 40, ...}`, units of a fully connected layer and filters of a
convolution. A separable layer's width is that of its 1x1 convolution; its depthwise one has as many
channels as it reads.

Layers form a chain. The module of a layer is named as its choice; it reads the width of the layer
before, the first the input's channels, and the last, `classifier`, has a unit for every class.
Behind a flattened map each unit or filter owns a run of neighbouring inputs. All networks of a
space have the same tensors, and those of a narrower network are the leading slices of the full
one's.
"""

from search_spaces.keyword_nets.networks import Config, LayerSpec
from search_spaces.keyword_nets.space import KeywordNets

__all__ = ["Config", "KeywordNets", "LayerSpec"]
