"""Cropping, mirroring and normalising images, against Pillow and torchvision."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from backbones.images import crops
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from backbones.images.pixels import normalise, to_pixels
from backbones.images.reading import read_image
from tests.support.image_examples import as_tensor, largest_difference

BICUBIC = InterpolationMode.BICUBIC
SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)


class TorchDraws(random.Random):
    """Draws what torchvision draws: from torch's generator, in single precision."""

    def uniform(self, a: float, b: float) -> float:
        return torch.empty(1).uniform_(a, b).item()

    def randint(self, a: int, b: int) -> int:
        return int(torch.randint(a, b + 1, (1,)).item())


@pytest.mark.parametrize(
    ("height", "width"), [(375, 500), (32, 32), (500, 333), (6000, 32), (40, 3000), (7, 2), (1, 1)]
)
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.08, 1.0)])
def test_rectangles_equal_torchvisions_for_equal_draws(height: int, width: int, scale: tuple[float, float]) -> None:
    image = torch.empty(3, height, width, device="meta")
    for seed in range(100):
        torch.manual_seed(seed)
        expected = RandomResizedCrop.get_params(image, list(scale), list(RATIO))
        torch.manual_seed(seed)
        assert crops.draw_rectangle(height, width, scale, RATIO, TorchDraws()) == tuple(expected)


def test_rectangles_are_distributed_as_torchvisions() -> None:
    height, width, count = 375, 500, 4000
    rng = random.Random(1)
    torch.manual_seed(2)
    image = torch.empty(3, height, width, device="meta")
    ours = np.array([crops.draw_rectangle(height, width, SCALE, RATIO, rng) for _ in range(count)])
    theirs = np.array([RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(count)])
    for statistic in (lambda r: r[:, 0], lambda r: r[:, 1], lambda r: r[:, 2] * r[:, 3], lambda r: r[:, 3] / r[:, 2]):
        assert ks_2samp(statistic(ours), statistic(theirs)).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(375, 500), (64, 64), (6000, 32)])
def test_single_try_is_cut_to_the_image_as_in_the_mae_references_linear_probing(height: int, width: int) -> None:
    rng, numbers = random.Random(3), np.random.default_rng(4)
    ours = np.array([crops.draw_rectangle(height, width, SCALE, RATIO, rng, tries=1) for _ in range(4000)])
    area = height * width * numbers.uniform(0.2, 1.0, 4000)
    aspect = np.exp(numbers.uniform(np.log(3 / 4), np.log(4 / 3), 4000))
    crop_height, crop_width = (
        np.minimum(np.rint(np.sqrt(x)), y) for x, y in ((area / aspect, height), (area * aspect, width))
    )
    top = np.floor(numbers.uniform(0, 1, 4000) * (height - crop_height + 1))
    for drawn, simulated in ((ours[:, 0], top), (ours[:, 2], crop_height), (ours[:, 3], crop_width)):
        assert ks_2samp(drawn, simulated).pvalue > 0.01
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()


@pytest.mark.parametrize("tries", [1, 10])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (6000, 32), (3, 4000)])
def test_random_crop_of_any_image_has_the_size_asked_for(height: int, width: int, tries: int) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for seed in range(5):
        crop = crops.random_resized_crop(image, 64, (1e-4, 1.0), RATIO, random.Random(seed), tries)
        assert crop.shape == (3, 64, 64)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("source", ["photo", "noise", "small"])
def test_random_crop_has_pillows_pixels(photo: Image.Image, source: str) -> None:
    image = {"photo": photo, "noise": noise(375, 500), "small": noise(32, 40)}[source]
    pixels = as_tensor(image)
    for seed in range(20):
        top, left, height, width = crops.draw_rectangle(image.height, image.width, SCALE, RATIO, random.Random(seed))
        expected = image.crop((left, top, left + width, top + height)).resize((224, 224), Image.Resampling.BICUBIC)
        crop = crops.random_resized_crop(pixels, 224, SCALE, RATIO, random.Random(seed))
        assert largest_difference(crop, expected) <= 2


@pytest.mark.parametrize("size", [48, 96, 224, 384])
@pytest.mark.parametrize(
    ("width", "height"), [(512, 600), (333, 500), (32, 32), (40, 33), (6000, 32), (32, 1500), (2001, 1503)]
)
def test_evaluation_crop_has_torchvisions_pixels(photo: Image.Image, width: int, height: int, size: int) -> None:
    image = photo.resize((width, height))
    resized = {48: 54, 96: 109, 224: 256, 384: 384}[size]
    expected = transforms.Compose([transforms.Resize(resized, BICUBIC), transforms.CenterCrop(size)])(image)
    assert largest_difference(crops.evaluation_crop(as_tensor(image), size), expected) <= 2


@pytest.mark.parametrize(
    ("size", "ratio", "resized"),
    [(448, 0.875, 512), (448, 1.0, 448), (224, 1.0, 224), (224, 0.9, 248), (224, 0.95, 235)],
)
def test_evaluation_crop_keeps_the_share_asked_for(photo: Image.Image, size: int, ratio: float, resized: int) -> None:
    """448 of 512 is mmpretrain's 448-pixel configuration; 248 and 235 are timm's crop_pct of 0.9 and 0.95."""
    expected = transforms.Compose([transforms.Resize(resized, BICUBIC), transforms.CenterCrop(size)])(photo)
    assert largest_difference(crops.evaluation_crop(as_tensor(photo), size, ratio), expected) <= 2


@pytest.mark.parametrize(("size", "ratio"), [(96, 0.875), (224, 0.875), (225, 1.0), (448, 1.0)])
def test_without_a_share_it_is_the_mae_references(photo: Image.Image, size: int, ratio: float) -> None:
    pixels = as_tensor(photo)
    assert torch.equal(crops.evaluation_crop(pixels, size), crops.evaluation_crop(pixels, size, ratio))


def test_6000_pixel_photograph_is_shrunk_as_by_pillow(photo: Image.Image, tmp_path: Path) -> None:
    photo.resize((6000, 4000)).save(tmp_path / "large.jpg")
    image = Image.open(tmp_path / "large.jpg")
    expected = transforms.Compose([transforms.Resize(256, BICUBIC), transforms.CenterCrop(224)])(image)
    assert largest_difference(crops.evaluation_crop(read_image(tmp_path / "large.jpg"), 224), expected) <= 2


@pytest.mark.parametrize("upright", [False, True])
def test_long_strip_is_cropped_at_its_centre_without_being_blown_up(
    upright: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "MAX_RESIZED_PIXELS", 2**20)
    strip = torch.zeros(3, 2, 600_000, dtype=torch.uint8)  # 59 GB if its short side became 256 as it is
    strip[:, :, 300_000:] = 255
    crop = crops.evaluation_crop(strip.transpose(1, 2) if upright else strip, 224)
    crop = (crop.transpose(1, 2) if upright else crop).int()
    assert crop.shape == (3, 224, 224)
    assert crop[:, :, :48].max() == 0
    assert crop[:, :, 176:].min() == 255
    assert (crop + crop.flip(-1) - 255).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(31, 20), (64, 64), (65, 90), (30, 101), (101, 30)])
def test_centre_crop_equals_torchvisions_with_padding(height: int, width: int) -> None:
    image = noise(height, width)
    assert largest_difference(crops.centre_crop(as_tensor(image), 64), transforms.CenterCrop(64)(image)) == 0


def test_flip_mirrors_with_the_probability_asked_for() -> None:
    image = torch.arange(24, dtype=torch.uint8).view(3, 2, 4)
    assert torch.equal(crops.horizontal_flip(image, random.Random(0), p=1.0)[:, :, 0], image[:, :, 3])
    assert torch.equal(crops.horizontal_flip(image, random.Random(0), p=0.0), image)
    rng = random.Random(0)
    flipped = sum(not torch.equal(crops.horizontal_flip(image, rng), image) for _ in range(2000))
    assert 900 < flipped < 1100


def test_same_generator_state_gives_the_same_augmentation(photo: Image.Image) -> None:
    image = as_tensor(photo)
    first, second, other = (crops.random_resized_crop(image, 48, SCALE, RATIO, random.Random(s)) for s in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("normalisation", [IMAGENET, HALF], ids=lambda each: each.label)
def test_normalisation_equals_torchvisions(normalisation: Normalisation) -> None:
    images = [noise(16, 20), Image.new("RGB", (20, 16), "white"), Image.new("RGB", (20, 16))]
    to_input = transforms.Compose([transforms.ToTensor(), transforms.Normalize(normalisation.mean, normalisation.std)])
    expected = torch.stack([to_input(image) for image in images])
    batch = torch.stack([as_tensor(image) for image in images])
    torch.testing.assert_close(normalise(batch, normalisation), expected, rtol=0, atol=1e-6)
    memory = torch.full(expected.shape, torch.nan)
    assert normalise(batch, normalisation, out=memory) is memory
    torch.testing.assert_close(memory, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(to_pixels(memory, normalisation), batch / 255, rtol=0, atol=1e-6)
    half = normalise(batch, normalisation, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, expected.to(torch.bfloat16), rtol=2**-8, atol=0)
