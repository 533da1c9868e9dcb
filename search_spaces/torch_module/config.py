"""Options of the space."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
RESERVED = {
    "num_classes": "is the space's",
    "weights": "would be trained elsewhere; networks start from new weights",
}


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes follow the data set, else they are ImageNet's.

    Args:
        function: what makes the full network, as `package.module:function`; its code is run.
        options: that the function is called with, besides `num_classes`.
        in_shape: of a sample.
        num_classes: that the function is called with.
        channel_multiple: a choice offers the multiples of as many channels below the group's most,
            and the most. More of them make the knapsacks of REDS larger.
    """

    function: str = "torchvision.models:mobilenet_v2"
    options: dict[str, Any] = field(default_factory=dict)
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    channel_multiple: int = 8

    def __post_init__(self) -> None:
        """Refuse what is no name, options that are not free, and impossible sizes."""
        if not NAME.fullmatch(self.function):
            raise ValueError(
                f"function: {self.function!r} is no name; allowed: package.module:function"
            )
        for name, reason in RESERVED.items():
            if name in self.options:
                raise ValueError(f"options.{name}: is not allowed; it {reason}")
        for name in ("num_classes", "channel_multiple"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {self.in_shape} has a dimension below 1")
