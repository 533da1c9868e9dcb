"""Augmentation: one draw an image, repeatable, and each operation as torchvision defines it."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from workers import image_ops as ops
from workers.augment import Augmentation, augmented, erase, normalise, transform
from workers.draws import Draws, cut
from workers.image_ops import OPERATIONS

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
ONE_EACH = {
    "crop": Augmentation(min_crop_area=0.3),
    "pad": Augmentation(pad=4),
    "flip": Augmentation(flip=True),
    "rand_augment": Augmentation(policy="rand_augment"),
    "imagenet": Augmentation(policy="auto_augment_imagenet"),
    "cifar10": Augmentation(policy="auto_augment_cifar10"),
    "svhn": Augmentation(policy="auto_augment_svhn"),
    "erase": Augmentation(erase=0.5),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(generator(seed), cut(count, 0, 1))


def photo(channels: int = 3, size: tuple[int, int] = (24, 32)) -> torch.Tensor:
    """A smooth image with an edge, so that interpolation and rounding differ little."""
    y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in size), indexing="ij")
    planes = [(x * 140 + y * 60 + 20), (60 + 120 * y), (200 - 150 * x * y)]
    image = torch.stack(planes[:channels])
    image[:, size[0] // 2 :, : size[1] // 3] += 40
    return image.clamp(0, 255).to(torch.uint8)


def run(images: torch.Tensor, config: Augmentation, seed: int = 0) -> torch.Tensor:
    mean, std = MEAN[: images.shape[1]], STD[: images.shape[1]]
    return augmented(images, config, draws(len(images), seed), mean=mean, std=std)


@pytest.mark.parametrize("config", ONE_EACH.values(), ids=ONE_EACH)
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_images_get_different_draws(config: Augmentation, channels: int) -> None:
    images = photo(channels).expand(64, -1, -1, -1)
    distinct = {bytes(image.numpy().tobytes()) for image in run(images, config)}
    assert len(distinct) >= (2 if config.flip else 10)


@pytest.mark.parametrize("config", ONE_EACH.values(), ids=ONE_EACH)
def test_a_seed_repeats_and_the_batch_is_left_alone(config: Augmentation) -> None:
    images = photo().expand(16, -1, -1, -1).clone()
    before = images.clone()
    first, again, other = (run(images, config, seed) for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)
    assert images.equal(before)
    assert first.dtype == torch.float32
    assert first.shape == images.shape


def test_default_does_nothing() -> None:
    images = photo()[None]
    assert transform(images, Augmentation(), draws(1)) is images
    expected = tv.normalize(images.float() / 255, MEAN, STD)
    torch.testing.assert_close(run(images, Augmentation()), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(normalise(images, MEAN, STD), expected, atol=1e-5, rtol=0)


def test_pad_and_flip_give_shifted_and_mirrored_images() -> None:
    images = torch.randint(1, 256, (1, 2, 5, 6), generator=generator(), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))[0]
    crops = [padded[:, y : y + 5, x : x + 6] for y in range(3) for x in range(3)]
    allowed = crops + [crop.flip(2) for crop in crops]
    config = Augmentation(pad=1, flip=True)
    seen = set()
    for image in transform(images.expand(500, -1, -1, -1), config, draws(500)):
        matches = [i for i, crop in enumerate(allowed) if image.equal(crop)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 18


def test_erasing_covers_rectangles_of_the_stated_share() -> None:
    x = torch.zeros(400, 1, 40, 40)
    noisy = (erase(x, 0.25, draws(len(x))) != 0).squeeze(1)
    shares = noisy.float().mean((1, 2))
    assert 0.15 < (shares > 0).float().mean() < 0.35
    assert shares[shares > 0].min() > 0.01
    assert shares.max() < 0.36
    for mask in noisy[shares > 0]:
        assert mask.equal(mask.any(1)[:, None] & mask.any(0)[None])


def reference(name: str, image: torch.Tensor, amount: float) -> torch.Tensor:
    corner = {"angle": 0.0, "scale": 1.0, "interpolation": InterpolationMode.BILINEAR}
    degrees = torch.rad2deg(torch.atan(torch.tensor(amount))).item()
    width, height = image.shape[2], image.shape[1]
    shifted = {"translate": [0, 0], "shear": [0.0, 0.0], **corner}
    return {
        "ShearX": lambda: tv.affine(image, **shifted | {"shear": [degrees, 0.0], "center": [0, 0]}),
        "ShearY": lambda: tv.affine(image, **shifted | {"shear": [0.0, degrees], "center": [0, 0]}),
        "TranslateX": lambda: tv.affine(image, **shifted | {"translate": [amount * width, 0]}),
        "TranslateY": lambda: tv.affine(image, **shifted | {"translate": [0, amount * height]}),
        "Rotate": lambda: tv.rotate(image, amount, InterpolationMode.BILINEAR),
        "Brightness": lambda: tv.adjust_brightness(image, 1 + amount),
        "Color": lambda: tv.adjust_saturation(image, 1 + amount),
        "Contrast": lambda: tv.adjust_contrast(image, 1 + amount),
        "Sharpness": lambda: tv.adjust_sharpness(image, 1 + amount),
        "Posterize": lambda: tv.posterize(image, int(amount)),
        "Solarize": lambda: tv.solarize(image, amount),
        "AutoContrast": lambda: tv.autocontrast(image),
        "Equalize": lambda: tv.equalize(image),
        "Invert": lambda: tv.invert(image),
        "SolarizeAdd": lambda: torch.where(
            image < 128, (image.int() + round(amount)).clamp(max=255), image
        ).to(torch.uint8),
    }[name]()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_agree_with_torchvision(
    name: str, sign: int, severity: float, channels: int
) -> None:
    image, operation = photo(channels), OPERATIONS[name]
    amount = operation.amount(torch.tensor([severity]), torch.tensor([sign]))
    ours = operation.apply(image[None], amount)[0]
    difference = (ours.int() - reference(name, image, amount.item()).int()).abs()
    # Sampling at a pixel's rim may round the other way; everything else is within a grey level.
    assert (difference > 1).float().mean() < 0.01


def test_each_image_has_its_own_amount() -> None:
    images = photo().expand(3, -1, -1, -1)
    amounts = torch.tensor([-20.0, 0.0, 20.0])
    together = ops.rotate(images, amounts)
    alone = torch.cat([ops.rotate(images[:1], amount[None]) for amount in amounts])
    assert together.equal(alone)
    assert together[1].equal(images[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"erase": 1.5}, r"erase: 1.5 is outside \[0, 1\]"),
        ({"min_crop_area": 0.0}, r"min_crop_area: 0.0 is outside \(0, 1\]"),
        ({"magnitude": 11.0}, r"magnitude: 11.0 is outside \[0, 10\]"),
        ({"pad": -1}, "pad: -1 is negative"),
        ({"shift_ms": 1000.0}, r"shift_ms: 1000.0 is outside \[0, 1000\)"),
        ({"noise_share": 1.2}, r"noise_share: 1.2 is outside \[0, 1\]"),
        ({"noise_volume": -0.1}, r"noise_volume: -0.1 is outside \[0, 1\]"),
    ],
)
def test_impossible_amounts_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Augmentation(), **wrong)
