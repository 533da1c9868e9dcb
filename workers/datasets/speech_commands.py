"""Google Speech Commands v0.02 (Warden, 2018): ten words, other words and silence, a second each.

The edition `full` is what was published, read where torchaudio unpacks it. The edition `small` is
the published test set of 12 classes alone, cut so that no speaker is in two splits: 4,020 clips in
`<class>.flac`, one after another, and `clips.csv`, which lists them. Accuracies on the two are not
comparable.
"""

from __future__ import annotations

import csv
import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from search_spaces.base import Shape
from workers.audio_ops import CLIP_SAMPLES, NUM_COEFFICIENTS, FrontEnd, mfcc, num_frames
from workers.datasets.base import Data, Dataset, TensorSplit, require
from workers.datasets.speech_folder import CLASSES, SILENCE, UNPACKED, published

FOLDER = "speech-commands"
AT_ONCE = 500  # clips turned into features together


@dataclass(frozen=True)
class Config:
    """Options: which edition, and the time between frames (49 frames at 20 ms, 25 at 40 ms)."""

    edition: Literal["small", "full"] = "small"
    stride_ms: Literal[20, 40] = 20


def describe(config: Config, root: Path) -> tuple[Shape, int]:
    """Return the shape of a clip's features and the number of classes.

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
        ValueError: the package that reads FLAC files is absent.
    """
    if config.edition == "full":
        require("speech_commands", root / FOLDER / UNPACKED, downloadable=True)
    else:
        require("speech_commands", root / FOLDER / "clips.csv", downloadable=False)
        if find_spec("soundfile") is None:
            raise ValueError(
                "dataset speech_commands: edition small needs the package soundfile, which reads"
                " FLAC; pip install soundfile"
            )
    return (1, num_frames(config.stride_ms), NUM_COEFFICIENTS), len(CLASSES)


def load(config: Config, root: Path) -> Data:
    """Return the data: clips as they are, features being made where they are used.

    Raises:
        FileNotFoundError: the files are absent and may not be downloaded.
        ValueError: a file is damaged, or the package that reads it is absent.
    """
    describe(config, root)
    if config.edition == "full":
        splits, noise_MT = published(root / FOLDER)
    else:
        splits = _packed(root / FOLDER)
        train = splits["train"]
        noise_MT = train.samples_N[train.labels_N == CLASSES.index(SILENCE)]
    mean, std = _moments(splits["train"].samples_N, config.stride_ms)
    front_end = FrontEnd(config.stride_ms, noise_MT)
    return Data(
        "speech_commands",
        **splits,
        num_classes=len(CLASSES),
        mean=mean,
        std=std,
        front_end=front_end,
    )


def _packed(folder: Path) -> dict[str, TensorSplit]:
    clips = {name: _read_flac(folder / f"{name}.flac") for name in CLASSES}
    with (folder / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    splits = {}
    try:
        for split in ("train", "val", "test"):
            own = [(row["label"], int(row["index"])) for row in rows if row["split"] == split]
            samples_N = torch.stack([clips[label][index] for label, index in own])
            labels_N = torch.tensor([CLASSES.index(label) for label, _ in own])
            splits[split] = TensorSplit(samples_N, labels_N)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'clips.csv'}: damaged, or not of these clips ({error}); fetch it again"
        ) from error
    return splits


def _read_flac(path: Path) -> torch.Tensor:
    soundfile = importlib.import_module("soundfile")
    try:
        samples, _ = soundfile.read(path, dtype="int16")
        return torch.from_numpy(samples).view(-1, CLIP_SAMPLES)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged ({error}); fetch it again") from error


def _moments(clips_NT: torch.Tensor, stride_ms: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each coefficient.

    Rounded, so that machines whose Fourier transforms differ in the last bits agree.
    """
    parts = [mfcc(part_BT, stride_ms) for part_BT in torch.split(clips_NT, AT_ONCE)]
    std_K, mean_K = torch.std_mean(torch.cat(parts).double(), (0, 1, 2), correction=0)
    mean, std = (tuple(round(v, 3) for v in values_K.tolist()) for values_K in (mean_K, std_K))
    return mean, std


DATASET = Dataset(Config, describe, load, kind="clips")
