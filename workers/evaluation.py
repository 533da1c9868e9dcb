"""What a network makes of a split: loss, accuracy and predicted classes.

Legend: B batch, C channels, H x W pixels, K classes, N samples of the split.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from workers.augment import normalise
from workers.datasets import Data, Split


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, accuracy in [0, 1], and the predicted classes (int16, on the CPU)."""

    loss: float
    accuracy: float
    predictions_N: torch.Tensor


def evaluate(model: nn.Module, split: Split, data: Data, *, batch_size: int = 512) -> Evaluation:
    """Return loss, accuracy and predictions of a network on a split of `data`.

    The model is in evaluation mode meanwhile; its modules' modes are restored.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    predictions = []
    with torch.inference_mode():
        for index_B in torch.split(torch.arange(len(split)), batch_size):
            images_BCHW, labels_B = (tensor.to(device) for tensor in split.batch(index_B))
            x_BCHW = normalise(images_BCHW, data.mean, data.std)
            logits_BK = model(x_BCHW.contiguous(memory_format=torch.channels_last)).float()
            classes_B = logits_BK.argmax(1)
            loss += functional.cross_entropy(logits_BK, labels_B, reduction="sum")
            correct += (classes_B == labels_B).sum()
            predictions.append(classes_B.to(torch.int16))
    for module, training in modes.items():
        module.training = training
    predictions_N = torch.cat(predictions).cpu()
    return Evaluation(loss.item() / len(split), correct.item() / len(split), predictions_N)
