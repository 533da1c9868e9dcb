"""Networks as a user would write them, for `torch_module`: those that it takes, and others."""

import torch
from torch import nn
from torch.nn import functional


class Tied(nn.Module):
    """Groups of 4 channels become groups of 6; then a squeeze, an excitation, and a flat map."""

    def __init__(
        self, num_classes: int, width: int = 16, in_channels: int = 2, frozen: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width).requires_grad_(not frozen)
        self.tied = nn.Conv2d(width, width * 6 // 4, 3, stride=2, groups=width // 4)
        self.squeeze = nn.Conv2d(width * 6 // 4, 8, 1)
        self.excite = nn.Conv2d(8, width * 6 // 4, 1)
        self.classifier = nn.Linear(width * 6 // 4 * 9, num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.tied(functional.relu(self.norm(self.stem(x_BCHW))))
        factors = functional.relu(self.squeeze(x_BCHW.mean((2, 3), keepdim=True)))
        x_BCHW = torch.sigmoid(self.excite(factors)) * x_BCHW
        return self.classifier(torch.flatten(x_BCHW, 1))


class Small(nn.Module):
    """A convolution and a classifier; what lies between them is given."""

    def __init__(self, num_classes: int, middle: str) -> None:
        super().__init__()
        self.middle = middle
        self.conv = nn.Conv2d(2, 16, 3, padding=1)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16, affine=False)
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, x_BCHW: torch.Tensor):
        y_BCHW = self.conv(x_BCHW)
        if self.middle == "view":
            y_BCHW = y_BCHW.view(-1, 16, 64)
        if self.middle == "twice":
            y_BCHW = self.again(self.again(y_BCHW))
        if self.middle == "norm":
            y_BCHW = self.norm(y_BCHW)
        if self.middle == "scalar":
            y_BCHW = y_BCHW * 2
        if self.middle == "branch" and y_BCHW.sum() > 0:
            y_BCHW = -y_BCHW
        if self.middle == "over channels":
            y_BCHW = y_BCHW + y_BCHW.mean(1)
        logits = self.classifier(y_BCHW.mean((2, 3)))
        return (logits, y_BCHW) if self.middle == "tuple" else logits


class Pooled(nn.Module):
    """A convolution and a pooling that ONNX has not: 2 x 2 positions become 3 x 3."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 4, stride=4)
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.classifier = nn.Linear(8 * 9, num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.conv(x_BCHW)), 1))


def not_a_module(num_classes: int) -> int:
    return num_classes
