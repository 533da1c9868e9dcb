"""Data sets: shapes, fixed and disjoint splits, damaged and missing files, sharing, proxies."""

import gzip
import hashlib
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from workers.datasets import DATASETS, Data, TensorSplit, base, from_arrays, proxy, to_arrays
from workers.datasets import digits as digits_module
from workers.datasets.splits import moments, stratified

NOWHERE = Path("nowhere")


@pytest.fixture(scope="module")
def digits() -> Data:
    return digits_module.load(digits_module.Config(), NOWHERE)


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARETORAY_DOWNLOAD", raising=False)


def fingerprint(data: Data) -> str:
    contents = hashlib.sha256()
    for split in (data.train, data.val, data.test):
        for tensor in split.batch(torch.arange(len(split))):
            contents.update(tensor.numpy().tobytes())
    return contents.hexdigest()[:12]


def hundred_classes() -> Data:
    labels = torch.arange(100).repeat_interleave(6)
    split = TensorSplit(torch.zeros(600, 1, 2, 2, dtype=torch.uint8), labels)
    return Data("made_up", split, split, split, 100, (0.5,), (0.5,))


def image_tree(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> None:
    """Noise in ImageNet's layout; a class' images have its number as their red value."""
    for part in ("train", "val"):
        for number, name in enumerate(classes):
            folder = root / "pictures" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                colour = (20 + 100 * number, 5 * index, 128)
                Image.new("RGB", (40 + index, 30), colour).save(folder / f"{index}.jpg", quality=95)


def test_describe_agrees_with_what_digits_load(digits: Data) -> None:
    shape, classes = digits_module.describe(digits_module.Config(), NOWHERE)
    images, labels = digits.train.batch(torch.arange(5))
    assert images.shape[1:] == shape
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert digits.num_classes == classes == 10
    assert digits.train.samples_N.max() == 255  # type: ignore[attr-defined]
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1079, 359, 359)


def test_splits_are_fixed_and_disjoint(digits: Data) -> None:
    assert fingerprint(digits) == "a55e1fd9d051"
    splits = (digits.train, digits.val, digits.test)
    rows = [{image.tobytes() for image in s.batch(torch.arange(len(s)))[0].numpy()} for s in splits]
    assert sum(map(len, rows)) == len(set.union(*rows))


def test_splits_are_stratified(digits: Data) -> None:
    for split in (digits.val, digits.test):
        assert torch.bincount(split.labels_N).min() >= 34
        assert torch.bincount(split.labels_N).max() <= 38


def test_stratified_draws_the_same_share_of_each_class() -> None:
    labels = torch.tensor([0] * 40 + [1] * 20 + [2])
    drawn, left = stratified(labels, 0.25, seed=1)
    assert torch.bincount(labels[drawn]).tolist() == [10, 5, 1]
    assert torch.cat([drawn, left]).sort().values.equal(torch.arange(61))
    assert drawn.equal(stratified(labels, 0.25, seed=1)[0])
    assert not drawn.equal(stratified(labels, 0.25, seed=2)[0])


def test_moments_are_the_plain_ones() -> None:
    images = torch.randint(0, 256, (7, 2, 5, 3), dtype=torch.uint8)
    mean, std = moments(images)
    values = images.double() / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(values.std((0, 2, 3), correction=0).tolist())


def test_arrays_carry_a_data_set_read_only_and_uncopied(digits: Data) -> None:
    arrays = dict(to_arrays(digits) or {})
    for array in arrays.values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = from_arrays(arrays)
    assert fingerprint(again) == fingerprint(digits)
    assert (again.name, again.mean, again.std) == (digits.name, digits.mean, digits.std)
    assert again.val.labels_N.data_ptr() == arrays["val_labels"].ctypes.data


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_absent_files_are_named_with_a_remedy(name: str, tmp_path: Path) -> None:
    entry = DATASETS[name]
    with pytest.raises(FileNotFoundError, match=f"dataset {name}: .* is missing; set PARETORAY_DA"):
        entry.describe(entry.Config(), tmp_path)


def test_fashion_mnist(data_root: Path) -> None:
    entry = DATASETS["fashion_mnist"]
    shape, classes = entry.describe(entry.Config(), data_root)
    data = entry.load(entry.Config(val_fraction=0.1), data_root)
    assert data.train.batch(torch.tensor([0]))[0].shape[1:] == shape == (1, 28, 28)
    assert (len(data.train), len(data.val), len(data.test), classes) == (54000, 6000, 10000, 10)
    assert torch.bincount(data.val.labels_N).tolist() == [600] * 10
    assert data.mean + data.std == pytest.approx((0.2860, 0.3530), abs=5e-4)  # as published
    assert fingerprint(data) == "5a2c3f30889b"


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "fashion-mnist" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    whole = gzip.compress(bytes([0, 0, 8, 3]) + bytes(12 + 784))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(whole[:-9])
    entry = DATASETS["fashion_mnist"]
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: damaged .*fetch it again"):
        entry.load(entry.Config(), tmp_path)


def pickled(path: Path, contents: dict[str, object]) -> str:
    path.write_bytes(pickle.dumps(contents))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "key", "folder", "classes"),
    [
        ("cifar10", "labels", "cifar-10/cifar-10-batches-py", 10),
        ("cifar100", "fine_labels", "cifar-100/cifar-100-python", 100),
    ],
)
def test_published_cifar_files_are_read(
    name: str, key: str, folder: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    labels = [number % classes for number in range(10 * classes)]
    pixels = np.zeros((len(labels), 3072), np.uint8)
    pixels[:, :1024] = 200  # red comes first
    contents = {"data": pixels, key: labels}
    names = {"label_names": list(map(str, range(classes)))}
    sums = {part: pickled(tmp_path / folder / part, contents) for part in ("train", "test")}
    meta = {"filename": "meta", "key": "label_names"}
    meta["md5"] = pickled(tmp_path / folder / "meta", names)
    cifar = getattr(torchvision.datasets, name.upper())
    monkeypatch.setattr(cifar, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(cifar, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(cifar, "meta", meta)

    entry = DATASETS[name]
    data = entry.load(entry.Config(), tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (9 * classes, classes, 10 * classes)
    assert data.train.batch(torch.tensor([0]))[0][0, :, 0, 0].tolist() == [200, 0, 0]
    assert data.val.labels_N.sort().values.tolist() == list(range(classes))

    (tmp_path / folder / "test").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="a file is absent or damaged"):
        entry.load(entry.Config(), tmp_path)


@pytest.mark.slow
def test_cifar10_jpeg_is_decoded_once(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETORAY_CACHE", str(tmp_path))
    entry = DATASETS["cifar10_jpeg"]
    data = entry.load(entry.Config(), data_root)
    assert (len(data.train), len(data.val), len(data.test)) == (45000, 5000, 10000)
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    (cached,) = tmp_path.iterdir()
    stamp = cached.stat().st_mtime_ns
    again = entry.load(entry.Config(), data_root)
    assert fingerprint(again) == fingerprint(data)
    assert cached.stat().st_mtime_ns == stamp
    cached.write_bytes(cached.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged; delete it to have it made again"):
        entry.load(entry.Config(), data_root)


def test_image_folder_decodes_resizes_and_crops(tmp_path: Path) -> None:
    image_tree(tmp_path)
    entry = DATASETS["image_folder"]
    config = entry.Config(path="pictures", resolution=16, crop_pct=0.8, val_fraction=0.2)
    assert entry.describe(config, tmp_path) == ((3, 16, 16), 2)
    data = entry.load(config, tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 20)
    images, labels = data.test.batch(torch.tensor([19, 0]))
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [1, 0]
    assert images[0, :, 8, 8].tolist() == pytest.approx([120, 45, 128], abs=4)
    subset = data.test.subset(torch.tensor([19, 3]))
    assert subset.batch(torch.tensor([0]))[0].equal(images[:1])
    assert to_arrays(data) is None
    assert len(proxy(data, images=0.5, seed=0).train) == 8


def test_image_folder_names_what_is_wrong(tmp_path: Path) -> None:
    image_tree(tmp_path, count=3)
    entry = DATASETS["image_folder"]
    config = entry.Config(path="pictures", resolution=8, val_fraction=0.4)
    data = entry.load(config, tmp_path)
    broken = tmp_path / "pictures" / "val" / "cat" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cat/0\.jpg: not a readable image"):
        data.test.batch(torch.tensor([0]))
    (tmp_path / "pictures" / "val" / "zebra").mkdir()
    with pytest.raises(ValueError, match="different classes, such as 'zebra'"):
        entry.describe(config, tmp_path)
    with pytest.raises(ValueError, match=r"crop_pct: 1\.5 is outside"):
        entry.Config(crop_pct=1.5)


def test_proxy_of_images_is_stratified_and_leaves_test_alone(digits: Data) -> None:
    small = proxy(digits, images=0.2, seed=3)
    shares = torch.bincount(small.train.labels_N) / torch.bincount(digits.train.labels_N)
    assert shares.sub(0.2).abs().max() < 0.01
    assert small.test is digits.test
    assert small.train.labels_N.equal(proxy(digits, images=0.2, seed=3).train.labels_N)
    whole = proxy(digits, seed=3)
    assert whole == digits


def test_proxy_of_classes_keeps_the_same_ones_under_their_numbers() -> None:
    data = hundred_classes()
    small = proxy(data, classes=0.2, seed=5)
    kept = small.train.labels_N.unique()
    assert len(kept) == 20
    assert kept.equal(small.val.labels_N.unique())
    assert len(small.train) == 120
    assert small.num_classes == 100
    assert not kept.equal(proxy(data, classes=0.2, seed=6).train.labels_N.unique())
    assert len(proxy(data, classes=0.2, images=0.5, seed=5).val) == 60


def test_proxy_leaves_at_least_ten_classes() -> None:
    with pytest.raises(ValueError, match=r"proxy.classes: 0.05 of 100 classes leaves 5; at least"):
        proxy(hundred_classes(), classes=0.05, seed=0)


def test_data_root_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETORAY_DATA", str(tmp_path))
    assert base.data_root() == tmp_path
    monkeypatch.delenv("PARETORAY_DATA")
    work = tmp_path / "project"
    work.mkdir()
    monkeypatch.chdir(work)
    assert base.data_root() == base.cache_root() / "data"
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert base.data_root().resolve() == tmp_path / "shared" / "data"


def test_download_is_tried_when_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETORAY_DOWNLOAD", "1")
    asked: list[bool] = []

    def fetch(folder: Path, *, download: bool) -> None:
        asked.append(download)
        raw = folder / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for prefix, count in (("train", 20), ("t10k", 10)):
            images = bytes([0, 0, 8, 3]) + bytes(12 + 784 * count)
            labels = bytes([0, 0, 8, 1]) + bytes(4) + bytes(range(10)) * (count // 10)
            (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images)
            (raw / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fetch)
    entry = DATASETS["fashion_mnist"]
    assert entry.describe(entry.Config(), tmp_path) == ((1, 28, 28), 10)
    data = entry.load(entry.Config(val_fraction=0.5), tmp_path)
    assert asked == [True]
    assert (len(data.train), len(data.val), len(data.test)) == (10, 10, 10)
