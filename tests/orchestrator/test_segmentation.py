"""A study of networks that segment: its figures and predictions are of labelled pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from orchestrator import load
from tests.orchestrator import tiny
from tests.workers.camvid import write_camvid
from workers.metrics import mean_iou, negative_flip_rate

STUDY = """\
study: maps
method: {name: random, num_candidates: 3}
space: {name: conv_fabric, columns: 2, scales: 2, filters: 2, head: segmentation}
dataset: {name: camvid, size: resized_128x96}
cost: macs
finish: all
training: {epochs: 1, batch_size: 3, augment: {flip: true}}
report: {test_all: true}
"""


@pytest.mark.slow
def test_figures_and_predictions_are_of_labelled_pixels(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    file = tmp_path / "maps.yaml"
    file.write_text(STUDY)
    ended = tiny.serial(file, tmp_path / "maps", environment={"PARETORAY_DATA": str(tmp_path)})
    assert (ended.code, ended.err) == (0, "")
    study = load(str(tmp_path / "maps"))
    records = study.finished()
    assert len(records) == 3
    for split, images in (("val", 2), ("test", 1)):
        labels = study.labels(split)
        assert labels is not None
        assert labels.tolist() == [3] * (images * 96 * 64)  # the left half of every image
        for record in records:
            classes = study.predicted(split)[record["candidate"]]
            assert record[f"{split}_accuracy"] == pytest.approx(np.mean(classes == labels))
            assert record[f"{split}_mean_iou"] == mean_iou(classes, labels)
    reference = study.front()[0]
    predicted, labels = study.predicted("val"), study.labels("val")
    assert labels is not None
    for record in records:
        if record["nfr"] is not None:
            rate = negative_flip_rate(
                predicted[record["nfr_reference"]], predicted[record["candidate"]], labels
            )
            assert record["nfr"] == rate
    model = tmp_path / "maps" / "models" / reference["candidate"] / "model.onnx"
    session = onnxruntime.InferenceSession(model)
    assert session.get_outputs()[0].shape == ["batch", 11, 96, 128]
