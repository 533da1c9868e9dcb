"""What clipped-Lasso subnets refuse before anything runs: a space, a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.base import SearchSpace
from search_spaces.slimmable_resnet import SlimmableResNet
from workers.methods.clipped_lasso.config import Config

SHAPES_PRETRAINING = (
    "pretrain_epochs",
    "batch_size",
    "lr",
    "lr_drops",
    "momentum",
    "weight_decay",
    "amp",
    "augment",
)


IGNORED = {  # by a penalty
    "clipped": ("width_mult",),
    "group": ("a", "width_mult"),
    "none": ("lambda_", "a"),
}


def check(space: SearchSpace, config: Config, points: Sequence[Config], cost: str) -> None:
    """Refuse what cannot be generated, or not from one start (`protocol.Method.check`).

    Args:
        space: the study's.
        config: the settings that the full network is trained with.
        points: the settings of every point of the sweep.
        cost: name of the study's cost; any will do.

    Raises:
        ValueError: names the key, what was given and what is allowed.
    """
    del cost
    resnet = resnet_of(space)
    for point in (config, *points):
        for name in SHAPES_PRETRAINING:
            given, trained = getattr(point, name), getattr(config, name)
            if given != trained:
                raise ValueError(
                    f"{name}: a point has {given}, but all points start from one network, which"
                    f" was trained with {trained}; allowed: {trained}, or a study for each value"
                )
        for name in IGNORED[point.penalty]:
            if getattr(point, name) != getattr(config, name):
                key = name.rstrip("_")
                raise ValueError(
                    f"{key}: penalty {point.penalty} has no use for it; allowed: a sweep over {key}"
                    " in an entry of its own, of penalties that have"
                )
    shares = [p.width_mult for p in points if (p.penalty, p.widths) == ("none", "any")]
    if shares and resnet.uniform(min(shares)) == resnet.presets["full"]:
        raise ValueError(
            f"width_mult: {min(shares)} is the full network, and widths any lie between it and a"
            " narrower one; allowed: a smaller share, or widths own"
        )
    if any(point.penalty != "none" for point in points) and not _is_free(resnet):
        raise ValueError(
            "space.shortcut: identity ties the widths of a group's blocks, so that no filter can"
            " vanish by itself; allowed: conv1x1, or penalty none"
        )


def resnet_of(space: SearchSpace) -> SlimmableResNet:
    """Return the space as one whose filters can be penalised.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(space, SlimmableResNet):
        raise ValueError(
            f"space: clipped_lasso needs slimmable_resnet; {space.name} is not allowed"
        )
    return space


def _is_free(space: SlimmableResNet) -> bool:
    return all(spec.writes == spec.second for spec in space.specs)
