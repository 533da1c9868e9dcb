"""Image operations in batches, each image with its own amount; AutoAugment's set of them.

Images are uint8; amounts (B,) are float32 on the CPU, in the unit that each operation states.
Shapes: B images of a batch, C channels, H x W pixels; per channel P pixels and V = 256 values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

Entry = float | torch.Tensor


def affine(images_BCHW: torch.Tensor, matrix_B23: torch.Tensor) -> torch.Tensor:
    """Sample the images at matrix @ (x, y, 1), in pixels from the upper left corner."""
    height, width = images_BCHW.shape[2:]
    size_2 = torch.tensor([width, height], dtype=torch.float32)
    # From grid_sample's -1 .. 1 to pixels, through the matrix, and back.
    theta_B22 = matrix_B23[:, :, :2] * size_2 / size_2[:, None]
    shift_B2 = (matrix_B23[:, :, :2] @ (size_2 / 2) + matrix_B23[:, :, 2]) * 2 / size_2 - 1
    theta_B23 = torch.cat([theta_B22, shift_B2[:, :, None]], 2).to(images_BCHW.device)
    grid_BHW2 = functional.affine_grid(theta_B23, list(images_BCHW.shape), align_corners=False)
    return sampled(images_BCHW, grid_BHW2)


def sampled(images_BCHW: torch.Tensor, grid_BHW2: torch.Tensor) -> torch.Tensor:
    """Return the images at `grid_sample`'s coordinates: bilinear, black outside."""
    x_BCHW = functional.grid_sample(images_BCHW.float(), grid_BHW2, align_corners=False)
    return x_BCHW.round_().clamp_(0, 255).to(torch.uint8)


def _matrix(a: Entry, b: Entry, c: Entry, d: Entry, e: Entry, f: Entry) -> torch.Tensor:
    """Return matrices ((a, b, c), (d, e, f)) of numbers and of amounts per image, (B, 2, 3)."""
    given = [torch.as_tensor(entry, dtype=torch.float32) for entry in (a, b, c, d, e, f)]
    batch = max(entry.numel() for entry in given)
    return torch.stack([entry.expand(batch) for entry in given], 1).view(-1, 2, 3)


def shear_x(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Shift every row by `amount` times its distance from the top."""
    return affine(images_BCHW, _matrix(1, amount_B, 0, 0, 1, 0))


def shear_y(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Shift every column by `amount` times its distance from the left."""
    return affine(images_BCHW, _matrix(1, 0, 0, amount_B, 1, 0))


def translate_x(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Shift to the right by a share of the width."""
    return affine(images_BCHW, _matrix(1, 0, -amount_B * images_BCHW.shape[3], 0, 1, 0))


def translate_y(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Shift downwards by a share of the height."""
    return affine(images_BCHW, _matrix(1, 0, 0, 0, 1, -amount_B * images_BCHW.shape[2]))


def rotate(images_BCHW: torch.Tensor, degrees_B: torch.Tensor) -> torch.Tensor:
    """Turn counter-clockwise about the centre."""
    height, width = images_BCHW.shape[2:]
    sin_B, cos_B = torch.sin(torch.deg2rad(degrees_B)), torch.cos(torch.deg2rad(degrees_B))
    shift_x_B = width / 2 - cos_B * width / 2 + sin_B * height / 2
    shift_y_B = height / 2 - sin_B * width / 2 - cos_B * height / 2
    return affine(images_BCHW, _matrix(cos_B, -sin_B, shift_x_B, sin_B, cos_B, shift_y_B))


def _blended(
    images_BCHW: torch.Tensor, other_BCHW: torch.Tensor, amount_B: torch.Tensor
) -> torch.Tensor:
    """Move from `other` (amount -1) through the image (0) and beyond."""
    factor_B111 = (1 + amount_B).to(images_BCHW.device)[:, None, None, None]
    x_BCHW = torch.lerp(other_BCHW.float(), images_BCHW.float(), factor_B111)
    return x_BCHW.clamp_(0, 255).to(torch.uint8)


def _grey(images_BCHW: torch.Tensor) -> torch.Tensor:
    if images_BCHW.shape[1] != 3:
        return images_BCHW.float()
    weights_C11 = images_BCHW.new_tensor([0.2989, 0.587, 0.114], dtype=torch.float32)[:, None, None]
    return (images_BCHW.float() * weights_C11).sum(1, keepdim=True).floor_()


def brightness(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Blend with black: -1 is black, 0 the image."""
    return _blended(images_BCHW, torch.zeros_like(images_BCHW), amount_B)


def colour(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Blend with the grey image: -1 is grey, 0 the image."""
    return _blended(images_BCHW, _grey(images_BCHW).expand_as(images_BCHW), amount_B)


def contrast(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Blend with the mean grey: -1 is uniform, 0 the image."""
    mean_B111 = _grey(images_BCHW).mean((1, 2, 3), keepdim=True)
    return _blended(images_BCHW, mean_B111.expand_as(images_BCHW), amount_B)


def sharpness(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Blend with a smoothed image (borders kept): -1 is smooth, 0 the image."""
    channels, height, width = images_BCHW.shape[1:]
    if min(height, width) < 3:
        return images_BCHW
    kernel_33 = torch.ones(3, 3, device=images_BCHW.device)
    kernel_33[1, 1] = 5
    kernel_C133 = (kernel_33 / 13).expand(channels, 1, 3, 3)
    smooth_BCHW = images_BCHW.float()
    inner_BCHW = functional.conv2d(smooth_BCHW, kernel_C133, groups=channels)
    smooth_BCHW[:, :, 1:-1, 1:-1] = inner_BCHW.round_()
    return _blended(images_BCHW, smooth_BCHW, amount_B)


def posterize(images_BCHW: torch.Tensor, bits_B: torch.Tensor) -> torch.Tensor:
    """Keep the highest bits of every value."""
    mask_B = (256 - 2 ** (8 - bits_B.long())).to(torch.uint8)
    return images_BCHW & mask_B.to(images_BCHW.device)[:, None, None, None]


def solarize(images_BCHW: torch.Tensor, threshold_B: torch.Tensor) -> torch.Tensor:
    """Invert the values at and above the threshold."""
    threshold_B111 = threshold_B.to(images_BCHW.device)[:, None, None, None]
    return torch.where(images_BCHW >= threshold_B111, 255 - images_BCHW, images_BCHW)


def solarize_add(images_BCHW: torch.Tensor, amount_B: torch.Tensor) -> torch.Tensor:
    """Add the amount to the values below 128."""
    amount_B111 = amount_B.to(images_BCHW.device)[:, None, None, None]
    raised_BCHW = (images_BCHW + amount_B111.round()).clamp(max=255).to(torch.uint8)
    return torch.where(images_BCHW < 128, raised_BCHW, images_BCHW)


def invert(images_BCHW: torch.Tensor, unused_B: torch.Tensor) -> torch.Tensor:
    """Return the negative."""
    return 255 - images_BCHW


def auto_contrast(images_BCHW: torch.Tensor, unused_B: torch.Tensor) -> torch.Tensor:
    """Stretch every channel to the whole range; a uniform channel stays."""
    low_BC11 = images_BCHW.amin((2, 3), keepdim=True).float()
    high_BC11 = images_BCHW.amax((2, 3), keepdim=True).float()
    uniform_BC11 = low_BC11 == high_BC11
    scale_BC11 = torch.where(uniform_BC11, 1.0, 255 / (high_BC11 - low_BC11).clamp(min=1))
    low_BC11 = torch.where(uniform_BC11, 0.0, low_BC11)
    return ((images_BCHW - low_BC11) * scale_BC11).clamp_(0, 255).to(torch.uint8)


def equalize(images_BCHW: torch.Tensor, unused_B: torch.Tensor) -> torch.Tensor:
    """Make the histogram of every channel flat, as PIL's ImageOps.equalize."""
    values_BCP = images_BCHW.flatten(2).long()
    count_BCV = torch.zeros(*values_BCP.shape[:2], 256, dtype=torch.long, device=values_BCP.device)
    count_BCV.scatter_add_(2, values_BCP, torch.ones_like(values_BCP))
    last_BC1 = count_BCV.gather(2, values_BCP.amax(2, keepdim=True))
    step_BC1 = (values_BCP.shape[2] - last_BC1) // 255
    before_BCV = count_BCV.cumsum(2) - count_BCV
    table_BCV = ((before_BCV + step_BC1 // 2) // step_BC1.clamp(min=1)).clamp(max=255)
    equal_BCP = torch.where(step_BC1 == 0, values_BCP, table_BCV.gather(2, values_BCP))
    return equal_BCP.to(torch.uint8).view_as(images_BCHW)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation, and its amount at severity 0 and 1; the sign of a signed one is drawn."""

    apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    start: float = 0.0
    end: float = 0.0
    signed: bool = False
    whole: bool = False

    def amount(self, severity_B: torch.Tensor, sign_B: torch.Tensor) -> torch.Tensor:
        """Return the amounts at severities in [0, 1], with signs of -1 or 1."""
        amount_B = self.start + (self.end - self.start) * severity_B
        amount_B = amount_B.round() if self.whole else amount_B
        return amount_B * sign_B if self.signed else amount_B


# Ranges of AutoAugment's Table 6, as torchvision reads them; names as in torchvision's policies.
OPERATIONS: Mapping[str, Operation] = {
    "ShearX": Operation(shear_x, 0, 0.3, signed=True),
    "ShearY": Operation(shear_y, 0, 0.3, signed=True),
    "TranslateX": Operation(translate_x, 0, 150 / 331, signed=True),
    "TranslateY": Operation(translate_y, 0, 150 / 331, signed=True),
    "Rotate": Operation(rotate, 0, 30, signed=True),
    "Brightness": Operation(brightness, 0, 0.9, signed=True),
    "Color": Operation(colour, 0, 0.9, signed=True),
    "Contrast": Operation(contrast, 0, 0.9, signed=True),
    "Sharpness": Operation(sharpness, 0, 0.9, signed=True),
    "Posterize": Operation(posterize, 8, 4, whole=True),
    "Solarize": Operation(solarize, 255, 0),
    "SolarizeAdd": Operation(solarize_add, 0, 110),
    "AutoContrast": Operation(auto_contrast),
    "Equalize": Operation(equalize),
    "Invert": Operation(invert),
}
