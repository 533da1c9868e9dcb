"""Speech Commands in both editions: splits, silence and noise, absent and damaged files."""

from __future__ import annotations

import csv
import hashlib
import sys
import wave
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from workers.audio_ops import CLIP_SAMPLES
from workers.datasets import DATASETS
from workers.datasets.speech_folder import CLASSES, UNPACKED, WORDS
from workers.inputs import network_input

SPEECH = DATASETS["speech_commands"]


@pytest.fixture
def without_flac(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package soundfile: it reads arrays under the names of FLAC files."""
    module = ModuleType("soundfile")
    module.__spec__ = ModuleSpec("soundfile", None)

    def read(path: Path, dtype: str) -> tuple[np.ndarray, int]:
        try:
            return np.load(path).astype(dtype), 16_000
        except ValueError as error:
            raise RuntimeError("Format not recognised") from error

    module.read = read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "soundfile", module)


def write_small(root: Path) -> Path:
    """Six clips of every class, whose samples are 100 times the class plus the clip's number."""
    folder = root / "speech-commands"
    folder.mkdir()
    rows = [("label", "index", "split")]
    for number, label in enumerate(CLASSES):
        values = np.repeat(100 * number + np.arange(6), CLIP_SAMPLES)
        with (folder / f"{label}.flac").open("wb") as file:
            np.save(file, values)
        splits = ("test", "train", "train", "val", "train", "test")
        rows += [(label, str(index), split) for index, split in enumerate(splits)]
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.mark.usefixtures("without_flac")
def test_the_small_edition_is_cut_as_its_list_says(tmp_path: Path) -> None:
    folder = write_small(tmp_path)
    config = SPEECH.Config(stride_ms=40)
    assert SPEECH.describe(config, tmp_path) == ((1, 25, 10), 12)
    data = SPEECH.load(config, tmp_path)
    for split, clips in ((data.train, (1, 2, 4)), (data.val, (3,)), (data.test, (0, 5))):
        samples, labels = split.batch(torch.arange(len(split)))
        expected = {(n, 100 * n + clip) for n in range(12) for clip in clips}
        assert set(zip(labels.tolist(), samples[:, 77].tolist(), strict=True)) == expected
    assert data.front_end is not None
    assert data.front_end.noise_MT[:, 0].tolist() == [1, 2, 4]  # silence, for training
    (folder / "go.flac").write_bytes(b"cut short")
    with pytest.raises(ValueError, match=r"go\.flac: damaged \(Format not recognised\); fetch"):
        SPEECH.load(config, tmp_path)


@pytest.mark.usefixtures("without_flac")
def test_a_list_of_other_clips_is_refused(tmp_path: Path) -> None:
    folder = write_small(tmp_path)
    with (folder / "clips.csv").open("a") as file:
        file.write("go,6,train\n")
    with pytest.raises(ValueError, match=r"clips\.csv: damaged, or not of these clips"):
        SPEECH.load(SPEECH.Config(), tmp_path)


def test_the_package_that_reads_flac_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.datasets.speech_commands.find_spec", lambda _: None)
    write_small(tmp_path)
    with pytest.raises(ValueError, match=r"needs the package soundfile.*pip install"):
        SPEECH.describe(SPEECH.Config(), tmp_path)


def test_the_small_edition_is_the_published_recordings(data_root: Path) -> None:
    pytest.importorskip("soundfile")
    data = SPEECH.load(SPEECH.Config(), data_root)
    assert (len(data.train), len(data.val), len(data.test)) == (2776, 412, 832)
    with (data_root / "speech-commands" / "clips.csv").open(newline="") as file:
        sums = [row["pcm_sha1"] for row in csv.DictReader(file) if row["split"] == "val"]
    samples, _ = data.val.batch(torch.arange(len(data.val)))
    assert [hashlib.sha1(clip.tobytes()).hexdigest() for clip in samples.numpy()] == sums
    x = network_input(data.train.batch(torch.arange(2776))[0], data)
    std, mean = torch.std_mean(x, (0, 1, 2), correction=0)
    assert mean.abs().max() < 1e-3
    assert (std - 1).abs().max() < 1e-3


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Ten clips of each word and of two others: speakers 0-7 train, 8 validate, 9 test."""
    folder = tmp_path / "speech-commands" / UNPACKED
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for number, word in enumerate((*WORDS, "bed", "cat")):
        for speaker in range(10):
            name = f"{word}/{speaker:08x}_nohash_0.wav"
            length = CLIP_SAMPLES - 100 * number
            write_wav(folder / name, np.full(length, 10 * number + speaker + 1))
            if speaker > 7:
                lists["validation" if speaker == 8 else "testing"].append(name)
    for name, lines in lists.items():
        (folder / f"{name}_list.txt").write_text("\n".join(lines) + "\n")
    hum = np.repeat([20_000] * 8 + [0] + [-20_000], CLIP_SAMPLES)  # 8 s, 1 s and 1 s
    hum[8 * CLIP_SAMPLES : 9 * CLIP_SAMPLES] = [20_000, -20_000] * (CLIP_SAMPLES // 2)
    for name in ("hum", "rain"):
        write_wav(folder / "_background_noise_" / f"{name}.wav", hum)
    return tmp_path


def test_the_full_edition_follows_the_published_lists(full: Path) -> None:
    config = SPEECH.Config(edition="full")
    assert SPEECH.describe(config, full) == ((1, 49, 10), 12)
    data = SPEECH.load(config, full)
    words = torch.arange(2, 12)
    for split, speakers in ((data.train, range(8)), (data.val, (8,)), (data.test, (9,))):
        samples, labels = split.batch(torch.arange(len(split)))
        tenth = len(speakers)  # of ten clips a speaker
        counts = torch.bincount(labels, minlength=12)
        assert counts.tolist() == [tenth, tenth, *[len(speakers)] * 10]
        heard = {(int(n), int(v)) for n, v in zip(labels, samples[:, 0], strict=True) if n > 1}
        assert heard == {(int(n), 10 * (int(n) - 2) + s + 1) for n in words for s in speakers}
        last = samples[labels == 11][:, -901:-898]
        assert (last[:, 0] > 0).all()
        assert (last[:, 1:] == 0).all()  # clips of less than a second end in zeros
        unknown = samples[labels == 1][:, 0] - 1
        assert {int(value) % 10 for value in unknown} <= set(speakers)
        assert (unknown >= 100).all()


def test_no_split_hears_the_noise_of_another(full: Path) -> None:
    data = SPEECH.load(SPEECH.Config(edition="full"), full)
    assert data.front_end is not None
    assert data.front_end.noise_MT.equal(torch.full((16, CLIP_SAMPLES), 20_000, dtype=torch.int16))
    train, val, test = (
        split.batch((split.labels_N == 0).nonzero()[:, 0])[0]
        for split in (data.train, data.val, data.test)
    )
    assert train.min() > 0
    assert val[:, ::2].min() > 0 > val[:, 1::2].max()
    assert test.max() < 0
    assert len({abs(int(clip[0])) for clip in (*train, *val, *test)}) > 5  # volumes are drawn


def test_the_full_edition_names_what_is_wrong(full: Path) -> None:
    folder = full / "speech-commands" / UNPACKED
    config = SPEECH.Config(edition="full")
    write_wav(folder / "yes" / "00000000_nohash_0.wav", np.zeros(9), rate=8000)
    with pytest.raises(ValueError, match=r"_0\.wav: expected one channel of 16 bits at 16 kHz"):
        SPEECH.load(config, full)
    (folder / "yes" / "00000000_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"_0\.wav: not a readable WAV file"):
        SPEECH.load(config, full)
    (folder / "testing_list.txt").unlink()
    with pytest.raises(ValueError, match=r"a file is absent or damaged .*testing_list\.txt"):
        SPEECH.load(config, full)


def test_download_is_tried_when_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SPEECH.Config(edition="full")
    with pytest.raises(FileNotFoundError, match="or PARETORAY_DOWNLOAD=1 to have it downloaded"):
        SPEECH.describe(config, tmp_path)
    monkeypatch.setenv("PARETORAY_DOWNLOAD", "1")
    asked: list[str] = []

    def fetch(url: str, path: str, hash_prefix: str) -> None:
        assert Path(path).parent.is_dir()
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setattr("torchaudio.datasets.speechcommands.download_url_to_file", fetch)
    with pytest.raises(ValueError, match=r"a file is absent or damaged \(no network\)"):
        SPEECH.load(config, tmp_path)
    assert [url.rsplit("/", 1)[-1] for url in asked] == ["speech_commands_v0.02.tar.gz"]
