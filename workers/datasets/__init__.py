"""The data sets that studies can name; docs/data.md says how each is split."""

from collections.abc import Mapping

from workers.datasets import (
    camvid,
    cifar10,
    cifar10_jpeg,
    cifar100,
    digits,
    fashion_mnist,
    image_folder,
    part_labels,
    speech_commands,
)
from workers.datasets.base import (
    IGNORED,
    Data,
    Dataset,
    Kind,
    Split,
    TensorSplit,
    data_root,
    from_arrays,
    to_arrays,
    truth,
)
from workers.datasets.splits import proxy

__all__ = [
    "DATASETS",
    "IGNORED",
    "Data",
    "Dataset",
    "Kind",
    "Split",
    "TensorSplit",
    "data_root",
    "from_arrays",
    "proxy",
    "to_arrays",
    "truth",
]

DATASETS: Mapping[str, Dataset] = {
    "digits": digits.DATASET,
    "fashion_mnist": fashion_mnist.DATASET,
    "cifar10": cifar10.DATASET,
    "cifar100": cifar100.DATASET,
    "cifar10_jpeg": cifar10_jpeg.DATASET,
    "image_folder": image_folder.DATASET,
    "camvid": camvid.DATASET,
    "part_labels": part_labels.DATASET,
    "speech_commands": speech_commands.DATASET,
}
