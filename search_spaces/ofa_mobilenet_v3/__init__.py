"""The MobileNetV3 space of Once-for-all: kernel, expand ratio, depth, resolution.

Cai et al., "Once for All: Train One Network and Specialize it for Efficient Deployment", 2020,
section 4.1, and the authors' code. Presets `paper_w1.0` and `paper_w1.2` are the published
supernets; `mbv3_28`, `mbv3_32` and `mbv3_64` are the same idea for images of 28, 32 and 64 pixels.

An architecture is `{"ks": [...], "e": [...], "d": [...], "r": 224}`: kernel size and expand ratio
of every block, depth of every stage, resolution. A stage of depth d runs its first d blocks; for
the others `ks` and `e` have `null`, and whatever else is given there is accepted. `ks.3` is the
name of a choice, the fourth entry of `ks`.

A network of resolution r first resizes its images to r x r, bilinearly, if the data set's size is
another; its records, and so its costs, are those at r. `search_spaces.elastic.Supernet` holds all
networks in one set of weights.
"""

from search_spaces.ofa_mobilenet_v3.presets import PRESETS, Config
from search_spaces.ofa_mobilenet_v3.space import OFAMobileNetV3

__all__ = ["PRESETS", "Config", "OFAMobileNetV3"]
