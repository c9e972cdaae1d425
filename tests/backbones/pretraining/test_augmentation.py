"""The paper's choices of augmentation for pre-training (MAE, table 1e), against torchvision."""

from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation

from backbones.images.colours import colour_jitter
from backbones.images.crops import evaluation_crop, random_square
from backbones.images.reading import read_image
from backbones.pretraining.images import UnlabelledImages
from backbones.pretraining.settings import PretrainingAugmentation

JITTER = (0.4, 0.4, 0.2, 0.1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.effect_noise((90, 64), 80).convert("RGB").resize((90, 64)).save(path)
    return path


def draw(path: Path, epoch: int, **augment: object) -> torch.Tensor:
    settings = PretrainingAugmentation.model_validate(augment)
    image: torch.Tensor = UnlabelledImages([path], 48, settings, 0)[(0, epoch)]["images"]
    return image


def test_none_is_the_centre_and_never_another(picture: Path) -> None:
    expected = evaluation_crop(read_image(picture), 48)
    assert all(torch.equal(draw(picture, epoch, crop="none", flip=0), expected) for epoch in range(3))


def test_a_fixed_size_is_that_of_a_resized_random_square(picture: Path) -> None:
    """7/8 of the short side, at places that differ; torchvision's resize and crop find the same one."""
    image = read_image(picture)
    rng = Random(3)
    found, again = random_square(image, 56, 7 / 8, rng), Random(3)
    top, left = again.randint(0, 64 - 56), again.randint(0, 90 - 56)
    assert torch.equal(found, v2.functional.resized_crop(image, top, left, 56, 56, [56, 56]))
    assert len({draw(picture, epoch, crop="fixed", flip=0).sum().item() for epoch in range(20)}) > 10
    assert random_square(image[:, :1, :1], 4, 7 / 8, rng).shape == (3, 4, 4)


def test_jitter_is_torchvisions_for_equal_draws(picture: Path) -> None:
    image = read_image(picture)
    adjust = [adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue]
    factors = {adjusting: [] for adjusting in adjust}
    for seed in range(200):
        rng = Random(seed)
        drawn = [rng.uniform(1 - strength, 1 + strength) for strength in JITTER[:3]] + [rng.uniform(-0.1, 0.1)]
        expected = image
        for which in rng.sample(range(4), 4):
            expected = adjust[which](expected, drawn[which])
        if seed < 5:
            assert torch.equal(colour_jitter(image, JITTER, Random(seed)), expected)
        for adjusting, factor in zip(adjust, drawn, strict=True):
            factors[adjusting].append(factor)
    ranges = [(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)]
    for drawn, (low, high) in zip(factors.values(), ranges, strict=True):
        assert low <= min(drawn) < low + 0.05 * (high - low) and high - 0.05 * (high - low) < max(drawn) <= high


def test_no_strength_changes_nothing_and_no_draw_of_the_crop(picture: Path) -> None:
    plain = [draw(picture, epoch) for epoch in range(3)]
    still = [draw(picture, epoch, colour_jitter=[0, 0, 0, 0]) for epoch in range(3)]
    jittered = [draw(picture, epoch, colour_jitter=JITTER) for epoch in range(3)]
    assert all(torch.equal(one, other) for one, other in zip(plain, still, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(plain, jittered, strict=True))
    assert (plain[0].float().mean() - jittered[0].float().mean()).abs() < 80
