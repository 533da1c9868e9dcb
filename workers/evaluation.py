"""What a network makes of a split: loss, accuracy and predicted classes.

Legend: B batch, K classes, N samples of the split or, where labels are maps, its labelled pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from workers.datasets import IGNORED, Data, Split, truth
from workers.inputs import network_input
from workers.metrics import mean_iou

BATCH_SIZE = 512
MAX_PIXELS = 2**20  # of a batch of label maps: 16 images of 256 x 256


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, accuracy in [0, 1], and the predicted classes (int16, on the CPU).

    Where labels are maps, all are of the labelled pixels, in the order of `datasets.truth`, and
    there is the mean intersection over union.
    """

    loss: float
    accuracy: float
    predictions_N: torch.Tensor
    mean_iou: float | None = None

    def metrics(self, split: str) -> dict[str, float]:
        """Return the figures under the names of the results table, such as `val_accuracy`."""
        found = {f"{split}_accuracy": self.accuracy, f"{split}_loss": self.loss}
        return found | ({} if self.mean_iou is None else {f"{split}_mean_iou": self.mean_iou})


def evaluate(
    model: nn.Module, split: Split, data: Data, *, batch_size: int | None = None
) -> Evaluation:
    """Return loss, accuracy and predictions of a network on a split of `data`.

    The model is in evaluation mode meanwhile; its modules' modes are restored.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    predictions = []
    with torch.inference_mode():
        for index_B in torch.split(torch.arange(len(split)), batch_size or _batch_size(split)):
            samples_B, labels_B = (tensor.to(device) for tensor in split.batch(index_B))
            x_BCHW = network_input(samples_B, data)
            logits_BK = model(x_BCHW.contiguous(memory_format=torch.channels_last)).float()
            logits_BK, labels_B = counted(logits_BK, labels_B)
            classes_B = logits_BK.argmax(1)
            loss += functional.cross_entropy(logits_BK, labels_B, reduction="sum")
            correct += (classes_B == labels_B).sum()
            predictions.append(classes_B.to(torch.int16))
    for module, training in modes.items():
        module.training = training
    predictions_N = torch.cat(predictions).cpu()
    count = len(predictions_N)
    iou = mean_iou(predictions_N, truth(split).cpu()) if split.labels_N.dim() > 1 else None
    return Evaluation(loss.item() / count, correct.item() / count, predictions_N, iou)


def lifted(logits_BK: torch.Tensor) -> torch.Tensor:
    """Return logits in single precision or better, whatever precision computed them."""
    return logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))


def counted(logits_BK: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and labels that count: all, or those of a map's labelled pixels, in a row.

    Torch's loss of whole maps would differ from run to run on a GPU.
    """
    if labels_B.dim() == 1:
        return logits_BK, labels_B
    labelled_BHW = labels_B != IGNORED
    return logits_BK.movedim(1, -1)[labelled_BHW], labels_B[labelled_BHW]


def _batch_size(split: Split) -> int:
    if split.labels_N.dim() == 1:
        return BATCH_SIZE
    return min(BATCH_SIZE, max(1, MAX_PIXELS // split.labels_N[0].numel()))
