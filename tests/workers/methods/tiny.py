"""A search problem that trains in seconds: a small GPUNet on synthetic 8x8 images."""

from __future__ import annotations

import torch

from cost_models.latency_table import LatencyTable, Timing
from search_spaces.base import SearchSpace
from search_spaces.gpunet import Config as SpaceConfig
from search_spaces.gpunet import GPUNet
from workers.datasets import Data
from workers.datasets.base import TensorSplit
from workers.protocol import Problem, State


def tiny_space(**options) -> GPUNet:
    options = {"max_expand_ratio": 4, "granularity": 8, "num_classes": 4, **options}
    return GPUNet(SpaceConfig(preset="gpunet_8", **options))


def tiny_table(space: SearchSpace, scale: float = 1.0) -> LatencyTable:
    """Latencies that grow with a block's parameters, as if computing were all that counts."""
    entries = {}
    for block in space.all_blocks():
        num_params = sum(parameter.numel() for parameter in block.build().parameters())
        entries[block.key] = Timing(scale * (1 + num_params / 100), 0.0)
    return LatencyTable("none", "made_up", "1", 1, 1, "float32", 5 * scale, entries)


SPACE = tiny_space()
TABLE = tiny_table(SPACE)


def tiny_split(size: int, seed: int) -> TensorSplit:
    """Noise with a brighter quarter: the quarter is the class."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 128, (size, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 4, (size,), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[:, row : row + 4, column : column + 4] += 64
    return TensorSplit(images, labels)


def tiny_problem(seed: int = 0, start: State | None = None, space: GPUNet | None = None) -> Problem:
    space = space or SPACE
    table = TABLE if space is SPACE else tiny_table(space)
    data = Data("tiny", tiny_split(160, 1), tiny_split(40, 2), tiny_split(40, 3), 4, (0.3,), (0.2,))
    return Problem(
        space=space,
        data=data,
        table=table,
        cost=lambda architecture: table.network_ms(space.blocks(architecture)),
        seed=seed,
        device=torch.device("cpu"),
        start=start,
    )
