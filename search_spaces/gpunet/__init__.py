"""The GPUNet-style layered supernet of PruNet (Kierat et al., "Tiered Pruning", Table 1).

Every layer offers blocks that differ in kernel size, squeeze-and-excitation and the number of
hidden channels; layers that keep their shape can be skipped. Preset `gpunet1_supernet` is the
paper's space (its own GPUNet-1 has one layer fewer per stage); `gpunet_8`, `gpunet_28` and
`gpunet_32` are the same idea for images of 8, 28 and 32 pixels.

An architecture maps each layer to `null` (skipped), to `{"kernel_size": k}` (plain convolution) or
to `{"kernel_size": k, "se": bool, "hidden": channels}`.
"""

from search_spaces.gpunet.modules import (
    ConvBlock,
    GPUNetwork,
    InvertedResidual,
    LayerSpec,
    SqueezeExcite,
    build_block,
)
from search_spaces.gpunet.presets import PRESETS, Config, Preset, Stage
from search_spaces.gpunet.space import GPUNet, block_of

__all__ = [
    "PRESETS",
    "Config",
    "ConvBlock",
    "GPUNet",
    "GPUNetwork",
    "InvertedResidual",
    "LayerSpec",
    "Preset",
    "SqueezeExcite",
    "Stage",
    "block_of",
    "build_block",
]
