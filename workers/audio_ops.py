"""Clips of speech in batches: shifted, mixed with noise, and turned into features.

Shapes: B clips of a batch, T = CLIP_SAMPLES of a clip, M clips of noise, F frames of K = 10
coefficients. Draws are made on the CPU, so those of a run are the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torchaudio
from torch.nn import functional

from workers.draws import Draws

SAMPLE_RATE = 16_000
CLIP_MS = 1000
CLIP_SAMPLES = SAMPLE_RATE * CLIP_MS // 1000
WINDOW_MS = 40
NUM_COEFFICIENTS = 10
FULL_SCALE = 32_768  # of int16 samples


@dataclass(frozen=True)
class FrontEnd:
    """How the clips of a data set become features: the time between frames, and its noise.

    `noise_MT` are int16 clips of which training may mix some into its own.
    """

    stride_ms: int
    noise_MT: torch.Tensor


def num_frames(stride_ms: int) -> int:
    """Return the frames of a clip: 49 at a stride of 20 ms, 25 at 40 ms."""
    return 1 + (CLIP_MS - WINDOW_MS) // stride_ms


def mfcc(clips_BT: torch.Tensor, stride_ms: int) -> torch.Tensor:
    """Return mel-frequency cepstral coefficients (B, 1, F, K), float32, of int16 clips.

    Windows of 40 ms that lie wholly inside the clip; 40 mel bands from 20 Hz to 4 kHz and their
    logarithm, as TensorFlow's operation has them by default.
    """
    transform = _transform(stride_ms, clips_BT.device)
    features_BKF: torch.Tensor = transform(clips_BT.float() / FULL_SCALE)
    return features_BKF.transpose(1, 2).unsqueeze(1)


@lru_cache
def _transform(stride_ms: int, device: torch.device) -> torch.nn.Module:
    window = SAMPLE_RATE * WINDOW_MS // 1000
    spectrum = {
        "n_fft": window,
        "hop_length": SAMPLE_RATE * stride_ms // 1000,
        "center": False,
        "n_mels": 40,
        "f_min": 20.0,
        "f_max": 4000.0,
    }
    transform: torch.nn.Module = torchaudio.transforms.MFCC(
        SAMPLE_RATE, NUM_COEFFICIENTS, log_mels=True, melkwargs=spectrum
    )
    return transform.to(device)


def shifted(clips_BT: torch.Tensor, shift_ms: float, draws: Draws) -> torch.Tensor:
    """Return the clips moved in time, each by up to `shift_ms` either way; zeros move in."""
    limit = round(SAMPLE_RATE * shift_ms / 1000)
    batch, length = clips_BT.shape
    start_B = draws.integers(0, 2 * limit + 1)
    padded_BT = functional.pad(clips_BT, (limit, limit))
    place_B = torch.arange(batch, device=clips_BT.device)
    return padded_BT.unfold(1, length, 1)[place_B, start_B.to(clips_BT.device)]


def with_noise(
    clips_BT: torch.Tensor,
    noise_MT: torch.Tensor,
    draws: Draws,
    *,
    share: float,
    volume: float,
) -> torch.Tensor:
    """Return the clips, int16, with noise added to a share of them.

    Args:
        clips_BT: int16.
        noise_MT: int16; each clip gets one of these, drawn anew.
        draws: all random numbers come from it.
        share: the probability that a clip gets any.
        volume: the most that the noise is multiplied by; drawn evenly from 0 on.
    """
    index_B = draws.integers(0, len(noise_MT))
    chosen_B = draws.uniform() < share
    volume_B = volume * draws.uniform() * chosen_B
    noise_BT = noise_MT[index_B.to(noise_MT.device)].to(clips_BT.device)
    mixed_BT = clips_BT + noise_BT * volume_B.to(clips_BT.device)[:, None]
    return mixed_BT.round_().clamp_(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)
