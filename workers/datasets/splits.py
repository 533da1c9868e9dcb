"""Cutting data sets: stratified splits, and proxies that are cheaper to search on.

Shapes: N samples, M of them chosen, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from workers.datasets.base import Data, Split, TensorSplit

SPLIT_SEED = 0  # a data set's splits never depend on the study's seed
MIN_CLASSES = 10


def stratified(
    labels_N: torch.Tensor, fraction: float, *, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the same share of every class, rounded, and at least one sample of each.

    Returns:
        The indices drawn and the indices left, each ascending, int64.
    """
    labels_N = labels_N.cpu()
    generator = torch.Generator().manual_seed(seed)
    drawn_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for label in torch.bincount(labels_N).nonzero()[:, 0]:
        members = (labels_N == label).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        drawn_N[members[order[: max(1, round(fraction * len(members)))]]] = True
    return drawn_N.nonzero()[:, 0], (~drawn_N).nonzero()[:, 0]


def resident(
    name: str, train: TensorSplit, test: TensorSplit, *, val_fraction: float, num_classes: int
) -> Data:
    """Cut validation from train, and take mean and standard deviation from what is left."""
    held, kept = stratified(train.labels_N, val_fraction, seed=SPLIT_SEED)
    val, train = train.subset(held), train.subset(kept)
    mean, std = moments(train.samples_N)
    return Data(name, train, val, test, num_classes, mean, std)


def moments(images_NCHW: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images, as values in [0, 1]."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images_NCHW.unbind(1):
        # Counts are whole numbers, so the figures are the same on every machine.
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(mean.item())
        stds.append((share * (values - mean).square()).sum().sqrt().item())
    return tuple(means), tuple(stds)


def proxy(
    data: Data, *, classes: float | None = None, images: float | None = None, seed: int
) -> Data:
    """Return the data set with a share of its classes, of its images, or of both.

    Train and validation shrink; test is left alone. Classes keep their numbers and `num_classes`
    stays, so the networks (head included) are those that are built for all the data.

    Args:
        data: the whole data set.
        classes: share of the classes, in (0, 1]; the same ones in train and validation.
        images: share of the samples of each class, in (0, 1]; of all, where labels are maps.
        seed: determines which.

    Raises:
        ValueError: fewer than 10 classes would be left, or labels are maps of several.
    """
    train, val = data.train, data.val
    if classes is not None and classes < 1:
        kept = draw_classes(data.num_classes, classes, seed)
        train, val = _of_classes(train, kept), _of_classes(val, kept)
    if images is not None and images < 1:
        train, val = (_share(split, images, seed) for split in (train, val))
    return replace(data, train=train, val=val)


def draw_classes(num_classes: int, share: float, seed: int) -> torch.Tensor:
    """Return the classes that a proxy keeps, in random order.

    Raises:
        ValueError: fewer than 10 would be left.
    """
    count = round(share * num_classes)
    if count < MIN_CLASSES:
        raise ValueError(
            f"proxy.classes: {share} of {num_classes} classes leaves {count};"
            f" at least {MIN_CLASSES} must be left"
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_classes, generator=generator)[:count]


def _share(split: Split, share: float, seed: int) -> Split:
    labels_N = split.labels_N
    if labels_N.dim() > 1:  # an image with a map of labels has no class of its own
        labels_N = torch.zeros(len(split), dtype=torch.int64)
    return split.subset(stratified(labels_N, share, seed=seed)[0])


def _of_classes(split: Split, classes: torch.Tensor) -> Split:
    if split.labels_N.dim() > 1:
        raise ValueError("proxy.classes: every map of labels holds many; allowed: proxy.images")
    return split.subset(torch.isin(split.labels_N.cpu(), classes).nonzero()[:, 0])
