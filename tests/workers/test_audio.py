"""Clips of speech: their features, and what training does to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn

from workers.audio_ops import CLIP_SAMPLES, FrontEnd, mfcc, num_frames, shifted, with_noise
from workers.augment import Augmentation
from workers.datasets import Data, TensorSplit, from_arrays, to_arrays
from workers.draws import Draws, cut
from workers.evaluation import evaluate
from workers.inputs import network_input, training_batch
from workers.training import Recipe, train

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(generator(seed), cut(count, 0, 1))


def noise(count: int, volume: int = 3000, seed: int = 0) -> torch.Tensor:
    size = (count, CLIP_SAMPLES)
    return torch.randint(-volume, volume, size, generator=generator(seed), dtype=torch.int16)


def tones(count: int, seed: int) -> TensorSplit:
    """Noisy tones of 300 and of 1200 Hz: the class is the pitch."""
    labels = torch.arange(count) % 2
    hertz = torch.where(labels == 1, 1200.0, 300.0)
    tone = torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(CLIP_SAMPLES) / 16_000)
    return TensorSplit((3000 * tone).to(torch.int16) + noise(count, 1000, seed), labels)


@pytest.fixture(scope="module")
def pitches() -> Data:
    front_end = FrontEnd(40, noise(3))
    mean, std = (-10.0,) + (0.0,) * 9, (10.0,) * 10
    return Data("pitches", tones(40, 1), tones(12, 2), tones(12, 3), 2, mean, std, front_end)


def listener() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(25 * 10, 2))


# --- Features ---


def coefficients(clip: np.ndarray, stride: int) -> np.ndarray:
    """MFCC from their definition: power of Hann windows, HTK's mel triangles, log, DCT-II."""
    starts = range(0, CLIP_SAMPLES - 640 + 1, stride)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(640) / 640)
    frames = np.stack([clip[start : start + 640] * window for start in starts])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel_ends = 2595 * np.log10(1 + np.array([20, 4000]) / 700)
    corners = 700 * (10 ** (np.linspace(*mel_ends, 42) / 2595) - 1)
    hertz = np.linspace(0, 8000, 321)[:, None]
    rising = (hertz - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - hertz) / (corners[2:] - corners[1:-1])
    bands = power @ np.clip(np.minimum(rising, falling), 0, None)
    return scipy.fft.dct(np.log(bands + 1e-6), norm="ortho")[:, :10]


@pytest.mark.parametrize(("stride_ms", "frames"), [(20, 49), (40, 25)])
def test_features_are_those_of_the_definition(stride_ms: int, frames: int) -> None:
    clips = noise(2)
    found = mfcc(clips, stride_ms)
    assert found.shape == (2, 1, frames, 10) == (2, 1, num_frames(stride_ms), 10)
    for clip, features in zip(clips.numpy() / 32_768, found, strict=True):
        expected = coefficients(clip, 16 * stride_ms)
        np.testing.assert_allclose(features[0].numpy(), expected, atol=2e-3)


def test_a_frame_sees_its_window_of_40_ms_alone() -> None:
    clips = noise(1)
    changed = clips.clone()
    changed[0, 320 * 10 + 640 :] = 0
    same = (mfcc(clips, 20) == mfcc(changed, 20)).all(-1)[0, 0]
    assert same[:11].all()  # frame 10 ends where the change begins
    assert not same[11:].any()


def test_networks_see_features_of_mean_0_and_deviation_1(pitches: Data) -> None:
    clips, _ = pitches.train.batch(torch.arange(4))
    expected = (mfcc(clips, 40) - torch.tensor(pitches.mean)) / torch.tensor(pitches.std)
    assert network_input(clips, pitches).equal(expected)


# --- Augmentation ---


def test_clips_move_either_way_and_zeros_move_in() -> None:
    clips = torch.arange(1, CLIP_SAMPLES + 1, dtype=torch.int16).expand(200, -1)
    moved = shifted(clips, 100, draws(200))
    offsets = set()
    for clip in moved:
        place = int(clip.nonzero()[0])
        by = place - int(clip[place]) + 1  # sample i holds i + 1
        expected = torch.arange(CLIP_SAMPLES) - by + 1
        expected[(expected < 1) | (expected > CLIP_SAMPLES)] = 0
        assert clip.equal(expected.to(torch.int16))
        offsets.add(by)
    assert min(offsets) < -1400
    assert max(offsets) > 1400
    assert max(map(abs, offsets)) <= 1600
    assert len(offsets) > 150


def test_a_share_of_the_clips_gets_noise_up_to_the_volume() -> None:
    quiet, loud = torch.zeros(500, CLIP_SAMPLES, dtype=torch.int16), noise(3, 30_000)
    mixed = with_noise(quiet, loud, draws(500), share=0.8, volume=0.1)
    peaks = mixed.abs().amax(1) / 30_000
    assert mixed.dtype == torch.int16
    assert (peaks > 0).float().mean().item() == pytest.approx(0.8, abs=0.05)
    assert 0.09 < peaks.max() <= 0.1
    assert peaks[peaks > 0].mean().item() == pytest.approx(0.05, abs=0.01)
    full = torch.full((1, CLIP_SAMPLES), 32_767, dtype=torch.int16)
    assert with_noise(full, loud, draws(1), share=1, volume=1).amin() >= 0  # no wrapping round


def test_draws_follow_from_the_generator_and_labels_stay(pitches: Data) -> None:
    clips, labels = pitches.train.batch(torch.arange(8))
    augmentation = Augmentation(shift_ms=50, noise_share=0.5)

    def run(seed: int, chosen: Augmentation = augmentation) -> torch.Tensor:
        x, same = training_batch(clips, labels, pitches, chosen, draws(8, seed))
        assert same.equal(labels)
        return x

    assert run(1).equal(run(1))
    assert not run(1).equal(run(2))
    assert run(1, Augmentation()).equal(network_input(clips, pitches))
    with pytest.raises(ValueError, match=r"augment\.flip: True cannot be done to clips; allowed"):
        run(1, Augmentation(flip=True))


def test_training_repeats_bit_for_bit_and_draws_anew_each_epoch(pitches: Data) -> None:
    recipe = Recipe(epochs=6, batch_size=20, optimizer="adam", lr=0.01)
    recipe = replace(recipe, augment=Augmentation(shift_ms=100, noise_share=0.8))

    def run(seed: int) -> tuple[nn.Module, list[float]]:
        model = listener()
        steps = list(train(model, pitches, recipe, seed=seed, device=CPU))
        return model, [step.metrics["train_loss"] for step in steps]

    model, losses = run(0)
    assert run(0)[1] == losses
    assert run(1)[1] != losses
    first, again = (evaluate(model, pitches.val, pitches) for _ in range(2))
    assert first.loss == again.loss
    assert first.accuracy == 1
    frozen = replace(recipe, lr=1e-30, schedule="constant", epochs=2)
    model = listener()
    a, b = (p.metrics["train_loss"] for p in train(model, pitches, frozen, seed=0, device=CPU))
    assert abs(a - b) > 1e-4  # the same weights meet other clips


def test_arrays_carry_clips_and_front_end(pitches: Data) -> None:
    arrays = dict(to_arrays(pitches) or {})
    again = from_arrays(arrays)
    assert again.front_end is not None
    assert again.front_end.stride_ms == 40
    assert again.front_end.noise_MT.data_ptr() == arrays["noise"].ctypes.data
    clips, labels = again.val.batch(torch.arange(12))
    assert clips.equal(pitches.val.batch(torch.arange(12))[0])
    assert clips.dtype == torch.int16
    assert labels.dtype == torch.int64
