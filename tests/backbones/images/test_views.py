"""What a trained network sees of an image, against torchvision's and timm's transforms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from backbones.images import crops
from backbones.images.crops import evaluation_crop
from backbones.images.reading import UnreadableImage, read_image
from backbones.images.views import View
from tests.support.image_examples import largest_difference, save_tagged

SIZES = [(333, 500), (512, 601), (40, 33), (640, 57), (224, 224), (257, 256)]


def as_torchvision(path: Path, resized: int | tuple[int, int], size: int, mode: str) -> Image.Image:
    """As MAE's evaluation has it: ImageFolder's loader, Resize, CenterCrop."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    steps = [transforms.Resize(resized, InterpolationMode(mode)), transforms.CenterCrop(size)]
    return transforms.Compose(steps)(image)


@pytest.fixture(params=["jpeg", "subsampled", "png", "cmyk", "grey", "palette", "grey16", "alpha", "turned"])
def file(request: pytest.FixtureRequest, photo: Image.Image, tmp_path: Path) -> Path:
    """The photograph as a file of some kind, of odd sides."""
    image, path = photo.resize((333, 501)), tmp_path / f"{request.param}.image"
    match request.param:
        case "jpeg" | "subsampled":
            image.save(path, "JPEG", quality=85, subsampling=0 if request.param == "jpeg" else 2)
        case "cmyk":
            image.convert("CMYK").save(path, "JPEG")
        case "grey":
            image.convert("L").save(path, "JPEG")
        case "palette":
            image.convert("P").save(path, "PNG")
        case "grey16":
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 7).save(path, "PNG")
        case "alpha":
            image.putalpha(image.convert("L"))
            image.save(path, "PNG")
        case "turned":
            save_tagged(image, path, 6, format="JPEG")
        case _:
            image.save(path, "PNG")
    return path


def test_pillows_pixels_are_those_of_maes_evaluation(file: Path) -> None:
    """Whatever the file is: colours are converted as ImageFolder does, and images are not turned by their EXIF."""
    expected = transforms.functional.pil_to_tensor(as_torchvision(file, 256, 224, "bicubic"))
    assert torch.equal(View(224, decoder="pillow").read(file), expected)


@pytest.mark.parametrize("sides", SIZES)
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", ["short", "square"])
def test_every_view_has_torchvisions_pixels(
    photo: Image.Image, tmp_path: Path, sides: tuple[int, int], mode: str, shape: str
) -> None:
    photo.resize(sides).save(tmp_path / "photo.jpg")
    wanted = (232, 232) if shape == "square" else 232
    expected = as_torchvision(tmp_path / "photo.jpg", wanted, 224, mode)
    view = View(224, resized=232, shape=shape, interpolation=mode)  # type: ignore[arg-type]
    assert largest_difference(view.read(tmp_path / "photo.jpg"), expected) <= 2
    exact = View(224, resized=232, shape=shape, interpolation=mode, decoder="pillow")  # type: ignore[arg-type]
    assert torch.equal(exact.read(tmp_path / "photo.jpg"), transforms.functional.pil_to_tensor(expected))


@pytest.mark.parametrize(("size", "ratio"), [(224, 0.9), (224, 0.95), (384, 1.0), (256, 0.875)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_pillows_pixels_are_those_of_timms_transforms(
    photo: Image.Image, tmp_path: Path, size: int, ratio: float, mode: str
) -> None:
    photo.resize((431, 357)).save(tmp_path / "photo.jpg")
    timms = create_transform(size, interpolation=mode, crop_pct=ratio, normalize=False)
    with Image.open(tmp_path / "photo.jpg") as image:
        expected = timms(image.convert("RGB"))
    view = View(size, ratio, interpolation=mode, decoder="pillow")  # type: ignore[arg-type]
    assert torch.equal(view.read(tmp_path / "photo.jpg"), expected)


def test_without_settings_it_is_the_evaluation_crop(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "photo.jpg")
    for size, ratio in ((224, None), (96, 0.5), (384, None)):
        expected = evaluation_crop(read_image(tmp_path / "photo.jpg"), size, ratio)
        assert torch.equal(View(size, ratio).read(tmp_path / "photo.jpg"), expected)


def test_a_long_strip_is_trimmed_before_pillow_resizes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "MAX_RESIZED_PIXELS", 2**20)
    Image.new("RGB", (60_000, 2), (9, 8, 7)).save(tmp_path / "strip.png")
    for decoder in ("auto", "pillow"):
        seen = View(224, decoder=decoder).read(tmp_path / "strip.png")  # type: ignore[arg-type]
        assert seen.shape == (3, 224, 224) and seen.amin((1, 2)).tolist() == [9, 8, 7]


def test_pillow_names_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(UnreadableImage, match=r"broken\.jpg: unreadable image"):
        View(224, decoder="pillow").read(tmp_path / "broken.jpg")
