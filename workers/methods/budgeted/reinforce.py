"""The gradient of an expectation over architectures (supplement, Eq. 11 to 18), with a baseline.

For D = cross entropy + lambda max(0, cost - budget) of a drawn architecture H,

    grad E[D] = E[(D - b) grad log P(H)] + E[grad cross entropy],

where b does not depend on H. The weights learn by the second term; the logits by the first.
"""

from __future__ import annotations

import torch

from workers.draws import Part
from workers.ranks import average_tensors


def advantages(objective_B: torch.Tensor, part: Part) -> torch.Tensor:
    """Return every sample's objective less the mean of the others in the batch of all ranks.

    Leaving the sample itself out keeps the gradient unbiased. A batch of one has no baseline.

    Args:
        objective_B: D of this rank's samples; all ranks call this together.
        part: which part of the batch they are.
    """
    mean, count = part.mean(objective_B), part.batch
    average_tensors([mean])
    return (objective_B - mean) * (count / (count - 1)) if count > 1 else objective_B
