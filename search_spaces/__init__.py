"""Which networks exist. `SPACES` maps a name to its space."""

from search_spaces.gpunet import GPUNet

SPACES = {"gpunet": GPUNet}
