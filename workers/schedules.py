"""Values over progress: pure functions, no state to save or restore."""

from __future__ import annotations

import math
from collections.abc import Iterable


def cosine(step: float, steps: float) -> float:
    """Return a factor that falls from 1 to 0 along half a cosine wave.

    SGDR without restarts (Loshchilov & Hutter, 2017, Eq. 5). Progress beyond `steps` gives 0.
    """
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps)))


def exponential(epoch: float, rate: float, every: float) -> float:
    """Return `rate` to the number of whole periods of `every` epochs that have passed.

    A staircase, as GPUNet's and EfficientNet's "x 0.97 every 2.4 epochs".
    """
    return float(rate ** math.floor(epoch / every))


def steps(done: float, drops: Iterable[float]) -> float:
    """Return a tenth for each of `drops` that has passed; both are shares of all progress."""
    return float(0.1 ** sum(done >= share for share in drops))


def grown(step: float, steps: float, start: float) -> float:
    """Return a factor that grows from `start` to 1, evenly in the exponent, during `steps`.

    Progress beyond `steps`, and no steps at all, give 1.
    """
    return 1.0 if step >= steps else start ** (1.0 - step / steps)


def linear(step: float, steps: float, start: float, end: float) -> float:
    """Return the value on the straight line from `start` to `end`, which it reaches at `steps`.

    Progress beyond `steps`, and no steps at all, give `end`.
    """
    if step >= steps:
        return end
    return start + (end - start) * step / steps
