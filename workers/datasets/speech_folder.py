"""Speech Commands in its published form: a folder a word, lists of the splits, long noises.

The lists are what the hash of a speaker's name gave, so that a speaker is in one split only, and
stays there in later versions. Shapes: N clips, M clips of noise, T samples of a clip.
"""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torchaudio.datasets import SPEECHCOMMANDS

from workers.audio_ops import CLIP_SAMPLES, SAMPLE_RATE
from workers.datasets.base import TensorSplit, may_download, require
from workers.datasets.splits import SPLIT_SEED

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "_silence_", "_unknown_"
CLASSES = (SILENCE, UNKNOWN, *WORDS)
UNPACKED = "SpeechCommands/speech_commands_v0.02"
SUBSETS = {"train": "training", "val": "validation", "test": "testing"}
SPANS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}  # of the noises
SHARE = 0.1  # of unknown words, and of silence, to the clips of the ten words

Samples: TypeAlias = npt.NDArray[np.int16]


def published(folder: Path) -> tuple[dict[str, TensorSplit], torch.Tensor]:
    """Return the splits, and noise (M, T) that training may mix in.

    To the clips of the ten words come, each a tenth as many, clips of other words, drawn once for
    all, and "silence": cuts from the long noises at volumes from 0 to 1. Each split has its own
    part of the noises.

    Raises:
        FileNotFoundError: the noises are absent.
        ValueError: a file is absent or damaged.
    """
    subsets = {split: _listed(folder, subset) for split, subset in SUBSETS.items()}
    noises = folder / UNPACKED / "_background_noise_"
    require("speech_commands", noises, downloadable=False)
    recordings = [_read_wav(path) for path in sorted(noises.glob("*.wav"))]
    if not recordings or min(map(len, recordings)) < 10 * CLIP_SAMPLES:
        raise ValueError(f"{noises}: expected recordings of 10 s or more; fetch them again")
    parts = {
        split: [noise[round(start * len(noise)) : round(end * len(noise))] for noise in recordings]
        for split, (start, end) in SPANS.items()
    }
    splits = {split: _split(subsets[split], parts[split]) for split in SUBSETS}
    whole = [noise[: len(noise) // CLIP_SAMPLES * CLIP_SAMPLES] for noise in parts["train"]]
    return splits, torch.from_numpy(np.concatenate(whole)).view(-1, CLIP_SAMPLES)


def _listed(folder: Path, subset: str) -> list[tuple[Path, str]]:
    """Return the files of a subset with their words; fetch them first where that is allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)  # torchaudio does not
        listed = SPEECHCOMMANDS(folder, subset=subset, download=may_download())
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{folder / UNPACKED}: a file is absent or damaged ({error})") from error
    metadata = [listed.get_metadata(index) for index in range(len(listed))]
    return [(folder / "SpeechCommands" / path, word) for path, _, word, *_ in metadata]


def _split(files: Sequence[tuple[Path, str]], noises: Sequence[Samples]) -> TensorSplit:
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    known = [(path, CLASSES.index(word)) for path, word in files if word in WORDS]
    others = [(path, CLASSES.index(UNKNOWN)) for path, word in files if word not in WORDS]
    count = round(SHARE * len(known))
    drawn = torch.randperm(len(others), generator=generator)[:count].tolist()
    chosen = [*known, *(others[index] for index in drawn)]
    clips_NT = np.zeros((len(chosen) + count, CLIP_SAMPLES), np.int16)
    for clip_T, (path, _) in zip(clips_NT, chosen, strict=False):
        samples = _read_wav(path)[:CLIP_SAMPLES]
        clip_T[: len(samples)] = samples  # some clips are shorter than a second
    for clip_T in clips_NT[len(chosen) :]:
        clip_T[:] = _cut(noises, generator)
    labels = [label for _, label in chosen] + [CLASSES.index(SILENCE)] * count
    return TensorSplit(torch.from_numpy(clips_NT), torch.tensor(labels))


def _cut(noises: Sequence[Samples], generator: torch.Generator) -> Samples:
    """Return a second of one of the noises, at a volume of up to 1."""
    noise = noises[int(torch.randint(len(noises), (), generator=generator))]
    start = int(torch.randint(len(noise) - CLIP_SAMPLES + 1, (), generator=generator))
    volume = torch.rand((), generator=generator).item()
    return np.round(noise[start : start + CLIP_SAMPLES] * volume).astype(np.int16)


def _read_wav(path: Path) -> Samples:
    try:
        with wave.open(str(path)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            if form != (1, 2, SAMPLE_RATE):
                raise ValueError(f"{path}: expected one channel of 16 bits at 16 kHz")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (EOFError, OSError, wave.Error) as error:
        raise ValueError(f"{path}: not a readable WAV file ({error})") from error
