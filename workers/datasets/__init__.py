"""The data sets that studies can name; docs/data.md says how each is split."""

from collections.abc import Mapping

from workers.datasets import (
    cifar10,
    cifar10_jpeg,
    cifar100,
    digits,
    fashion_mnist,
    image_folder,
)
from workers.datasets.base import (
    Data,
    Dataset,
    Split,
    TensorSplit,
    data_root,
    from_arrays,
    to_arrays,
)
from workers.datasets.splits import proxy

__all__ = [
    "DATASETS",
    "Data",
    "Dataset",
    "Split",
    "TensorSplit",
    "data_root",
    "from_arrays",
    "proxy",
    "to_arrays",
]

DATASETS: Mapping[str, Dataset] = {
    "digits": digits.DATASET,
    "fashion_mnist": fashion_mnist.DATASET,
    "cifar10": cifar10.DATASET,
    "cifar100": cifar100.DATASET,
    "cifar10_jpeg": cifar10_jpeg.DATASET,
    "image_folder": image_folder.DATASET,
}
