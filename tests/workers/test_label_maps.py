"""Data sets with maps of labels: splits, what is ignored, sizes, absent and damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.workers.camvid import SPLITS, write_camvid
from workers.datasets import DATASETS, IGNORED, truth

CAMVID, PARTS = DATASETS["camvid"], DATASETS["part_labels"]


def test_camvid_pads_with_black_that_is_ignored(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    config = CAMVID.Config()
    assert CAMVID.describe(config, tmp_path) == ((3, 256, 256), 11)
    data = CAMVID.load(config, tmp_path)
    assert {name: len(getattr(data, name)) for name in SPLITS} == SPLITS
    images, labels = data.train.batch(torch.arange(3))
    assert images[:, 0, 56:200, 32:224].unique(dim=0)[:, 0, 0].tolist() == [0, 50, 100]
    assert images[:, 0, 100, 100].tolist() == [0, 50, 100]  # frames come in order of their names
    assert images[:, 2].bool().sum((1, 2)).tolist() == [192 * 144] * 3
    assert (labels[:, 56:200, 32:128] == 3).all()
    assert (labels != IGNORED).sum() == 3 * 96 * 144
    assert len(truth(data.val)) == 2 * 96 * 144
    assert data.mean == pytest.approx((50 / 255, 101 / 255, 249 / 255))  # without the padding
    assert data.std[1] == pytest.approx((2 / 3) ** 0.5 / 255)


def test_camvid_resizes(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    config = CAMVID.Config(size="resized_128x96")
    assert CAMVID.describe(config, tmp_path) == ((3, 96, 128), 11)
    images, labels = CAMVID.load(config, tmp_path).val.batch(torch.tensor([1]))
    assert images.shape == (1, 3, 96, 128)
    assert labels[0].unique(dim=0).tolist() == [[3] * 64 + [IGNORED] * 64]


def test_a_damaged_camvid_is_named(tmp_path: Path) -> None:
    write_camvid(tmp_path, leave_out="val/f1")
    with pytest.raises(ValueError, match=r"camvid_192x144\.tar: damaged .*val.*f1"):
        CAMVID.load(CAMVID.Config(), tmp_path)
    archive = tmp_path / "camvid" / "camvid_192x144.tar"
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"camvid_192x144\.tar: damaged .*; fetch it again"):
        CAMVID.load(CAMVID.Config(), tmp_path)


def test_the_published_camvid(data_root: Path) -> None:
    data = CAMVID.load(CAMVID.Config(size="resized_128x96"), data_root)
    assert (len(data.train), len(data.val), len(data.test)) == (367, 101, 233)
    shares = torch.bincount(truth(data.train), minlength=11) / len(truth(data.train))
    assert shares.argsort(descending=True)[:3].tolist() == [3, 1, 0]  # road, building, sky
    assert (data.train.labels_N == IGNORED).float().mean().item() == pytest.approx(0.04, abs=0.001)
    assert data.train.batch(torch.tensor([0]))[1].max() <= 10


FACES = {
    "train": [("Ann_Lee", 1), ("Ann_Lee", 12)],
    "validation": [("Bo", 3)],
    "test": [("Cy_de_Vries", 1), ("Bo", 2)],
}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Faces whose upper half is hair, whose lower left is skin, and a background."""
    folder = tmp_path / "part-labels"
    colours = np.zeros((250, 250, 3), np.uint8)
    colours[:125, :, 0] = 255
    colours[125:, :125, 1] = 255
    colours[125:, 125:, 2] = 255
    (folder / "parts_lfw_funneled_gt_images").mkdir(parents=True)
    for split, names in FACES.items():
        for name, number in names:
            (folder / "lfw_funneled" / name).mkdir(parents=True, exist_ok=True)
            face = f"{name}_{number:04d}"
            picture = Image.new("RGB", (250, 250), (20 * number, 0, 0))
            picture.save(folder / "lfw_funneled" / name / f"{face}.jpg")
            Image.fromarray(colours).save(folder / "parts_lfw_funneled_gt_images" / f"{face}.ppm")
        lines = "".join(f"{name} {number}\n" for name, number in names)
        (folder / f"parts_{split}.txt").write_text(lines)
    return tmp_path


def test_part_labels_are_read_as_published(parts: Path) -> None:
    config = PARTS.Config()
    assert PARTS.describe(config, parts) == ((3, 256, 256), 3)
    data = PARTS.load(config, parts)
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 2)
    images, labels = data.train.batch(torch.arange(2))
    assert images[:, 0, 128, 128].tolist() == pytest.approx([20, 240], abs=3)
    assert (labels[0, 3:128, 3:253] == 0).all()
    assert (labels[0, 128:253, 3:128] == 1).all()
    assert (labels[0, 128:253, 128:253] == 2).all()
    assert (labels[0] == IGNORED).sum() == 256**2 - 250**2


def test_black_pixels_have_no_label(parts: Path) -> None:
    path = parts / "part-labels" / "parts_lfw_funneled_gt_images" / "Ann_Lee_0001.ppm"
    with Image.open(path) as image:
        colours = np.array(image)
    colours[10:20, 30:70] = 0
    Image.fromarray(colours).save(path)
    _, labels = PARTS.load(PARTS.Config(), parts).train.batch(torch.arange(2))
    black = torch.zeros(256, 256, dtype=torch.bool)
    black[13:23, 33:73] = True
    assert (labels[0][black] == IGNORED).all()
    assert labels[0][~black].equal(labels[1][~black])


def test_part_labels_names_what_is_wrong(parts: Path) -> None:
    folder = parts / "part-labels"
    masks = folder / "parts_lfw_funneled_gt_images"
    Image.new("RGB", (40, 250)).save(masks / "Bo_0003.ppm")
    with pytest.raises(ValueError, match="image and labels of Bo_0003 differ in size"):
        PARTS.load(PARTS.Config(), parts)
    (masks / "Ann_Lee_0012.ppm").unlink()
    with pytest.raises(ValueError, match=r"Ann_Lee_0012\.ppm: not a readable image"):
        PARTS.load(PARTS.Config(), parts)
    (folder / "parts_train.txt").write_text("Ann_Lee\n")
    with pytest.raises(ValueError, match=r"parts_train\.txt: expected a name and a number in ever"):
        PARTS.load(PARTS.Config(), parts)
    (folder / "parts_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset part_labels: .*parts_test\.txt is missi"):
        PARTS.describe(PARTS.Config(), parts)
