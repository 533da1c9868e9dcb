"""What PruNet refuses before anything runs: a space, a cost or a sweep that it cannot search."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.base import SearchSpace
from workers.methods.prunet.config import Config
from workers.methods.prunet.supernet import first_structure, most_blocks
from workers.methods.prunet.supernet_training import searchable

COST = "latency_ms"
SHAPES_PRETRAINING = (
    "temperature",
    "warmup_epochs",
    "epochs",  # the weights' learning rate falls over warm-up and search
    "batch_size",
    "arch_fraction",
    "weight_lr",
    "weight_decay",
    "prunode",
    "num_widths",
    "amp",
    "augment",
)


def check(space: SearchSpace, config: Config, points: Sequence[Config], cost: str) -> None:
    """Refuse what cannot be searched, or not from one pretraining (`protocol.Method.check`).

    Args:
        space: the study's.
        config: the settings that pretraining runs with.
        points: the settings of every point of the sweep.
        cost: name of the study's cost.

    Raises:
        ValueError: names the key, what was given and what is allowed.
    """
    gpunet = searchable(space)
    if cost != COST:
        raise ValueError(f"cost: prunet searches by latency; {cost} is not allowed: use {COST}")
    start = first_structure(gpunet, config)
    for point in (config, *points):
        for name in SHAPES_PRETRAINING:
            _check_equal(name, config, point)
        if first_structure(gpunet, point) != start:
            _check_equal("layer_skipping", config, point)
        point.first_threshold(most_blocks(start))


def _check_equal(name: str, config: Config, point: Config) -> None:
    given, pretrained = getattr(point, name), getattr(config, name)
    if given != pretrained:
        raise ValueError(
            f"{name}: a point has {given}, but all points start from one pretraining, which has"
            f" {pretrained}; allowed: {pretrained}, or a study for each value"
        )
