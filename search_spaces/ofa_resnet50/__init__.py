"""The ResNet-50 space of Once-for-all: depth, expand ratio, width, resolution.

Cai et al., "Once for All: Train One Network and Specialize it for Efficient Deployment", 2020, and
the authors' code, where it is `ofa_resnet50`. Preset `paper` is the published supernet;
`resnet_28`, `resnet_32` and `resnet_64` are the same idea for images of 28, 32 and 64 pixels, with
expand ratios and widths that stay apart when they are rounded.

An architecture is `{"d": [...], "e": [...], "w": [...], "r": 224}`. `d` has 2 first where the stem
keeps its residual convolution and 0 where it does not, then how many blocks every stage runs beyond
those that it always does; `e` is the expand ratio of every block, and `null` for blocks that do not
run (whatever else is given there is accepted); `w` says by index which width the stem's first and
last convolutions and every stage have; `r` is the resolution. `e.3` is the name of a choice, the
fourth entry of `e`.

The published count of architectures, 2.46e12 at a resolution, takes the first `w` to have three
options. In the paper's size the narrower two are both rounded to 24 channels: they remain two
architectures, of equal networks.

A network of resolution r first resizes its images to r x r, bilinearly, if the data set's size is
another; its records, and so its costs, are those at r. `search_spaces.elastic.Supernet` holds all
networks in one set of weights.
"""

from search_spaces.ofa_resnet50.presets import PRESETS, Config
from search_spaces.ofa_resnet50.space import OFAResNet50

__all__ = ["PRESETS", "Config", "OFAResNet50"]
