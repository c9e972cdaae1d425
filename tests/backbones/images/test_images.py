"""Reading and cropping images, against Pillow, OpenCV and torchvision; finding them in folders."""

import io
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from backbones.errors import InputError
from backbones.images import crops
from backbones.images.folders import find_images, fingerprint, image_names
from backbones.images.reading import UnreadableImage, find_fault, quick_check, read_image

PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
BICUBIC = InterpolationMode.BICUBIC
SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A real photograph, 512 × 600."""
    return Image.open(PHOTO).convert("RGB")


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def largest_difference(image: torch.Tensor, other: Image.Image) -> int:
    assert image.shape == (3, other.height, other.width)
    return int(np.abs(as_array(image).astype(int) - np.asarray(other)).max())


def decode_with_pillow(path: Path) -> np.ndarray | None:
    try:
        return np.array(Image.open(path).convert("RGB"))
    except Exception:
        return None


# Reading


def test_photograph_has_pillows_pixels() -> None:
    image = read_image(PHOTO)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 600, 512)
    assert np.array_equal(as_array(image), np.array(Image.open(PHOTO).convert("RGB")))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2, "4:1:1"])
def test_every_kind_of_jpeg_has_pillows_pixels(
    photo: Image.Image, tmp_path: Path, subsampling: int | str, progressive: bool
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(photo.resize((301, 203)), subsampling=subsampling, progressive=progressive, quality=80))
    assert np.array_equal(as_array(read_image(path)), decode_with_pillow(path))


def test_cmyk_jpeg_keeps_its_colours(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    path.write_bytes(encode(photo.convert("CMYK"), quality=100, subsampling=0))
    assert Image.open(path).mode == "CMYK"
    image = read_image(path)
    assert np.abs(as_array(image).astype(int) - np.asarray(photo)).mean() < 2
    assert np.array_equal(as_array(image), decode_with_pillow(path))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    path = tmp_path / f"grey{suffix}"
    path.write_bytes(cv2.imencode(".pgm" if suffix == ".ppm" else suffix, grey)[1].tobytes())
    image = as_array(read_image(path))
    assert np.abs(image - grey[..., None] / 257).max() <= 1
    assert np.array_equal(image[..., 0], image[..., 1])


def test_16_bit_grey_looks_like_16_bit_colour(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    (tmp_path / "grey.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    (tmp_path / "colour.png").write_bytes(cv2.imencode(".png", np.stack([grey] * 3, -1))[1].tobytes())
    assert torch.equal(read_image(tmp_path / "grey.png"), read_image(tmp_path / "colour.png"))


def _with_alpha(photo: Image.Image) -> Image.Image:
    image = photo.copy()
    image.putalpha(77)
    return image


def _palette_with_transparency(photo: Image.Image) -> bytes:
    return encode(photo.quantize(64), "PNG", transparency=bytes(range(0, 128, 2)))


LOSSLESS: dict[str, Callable[[Image.Image], bytes]] = {
    "rgba.png": lambda photo: encode(_with_alpha(photo), "PNG"),
    "lossless.webp": lambda photo: encode(photo, "WEBP", lossless=True),
    "plain.bmp": lambda photo: encode(photo, "BMP"),
    "plain.ppm": lambda photo: encode(photo, "PPM"),
    "lzw.tiff": lambda photo: encode(photo, "TIFF", compression="tiff_lzw"),
    "named_wrongly.jpg": lambda photo: encode(photo, "PNG"),
}
CONVERTED: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {
    "grey.jpg": ("L", lambda photo: encode(photo.convert("L"), quality=100)),
    "grey.png": ("L", lambda photo: encode(photo.convert("L"), "PNG")),
    "grey_alpha.png": ("L", lambda photo: encode(_with_alpha(photo).convert("LA"), "PNG")),
    "bilevel.png": ("1", lambda photo: encode(photo.convert("1"), "PNG")),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_return_the_pixels_that_were_saved(photo: Image.Image, tmp_path: Path, name: str) -> None:
    small = photo.resize((61, 47))
    (tmp_path / name).write_bytes(LOSSLESS[name](small))
    assert largest_difference(read_image(tmp_path / name), small) == 0


@pytest.mark.parametrize("name", CONVERTED)
def test_grey_and_bilevel_images_become_rgb(photo: Image.Image, tmp_path: Path, name: str) -> None:
    mode, save = CONVERTED[name]
    (tmp_path / name).write_bytes(save(photo))
    difference = largest_difference(read_image(tmp_path / name), photo.convert(mode).convert("RGB"))
    assert difference <= (3 if name.endswith("jpg") else 0)


@pytest.mark.filterwarnings("ignore:Palette images")
def test_palette_keeps_its_colours_with_and_without_transparency(photo: Image.Image, tmp_path: Path) -> None:
    small = photo.resize((61, 47))
    expected = small.quantize(64).convert("RGB")
    (tmp_path / "plain.png").write_bytes(encode(small.quantize(64), "PNG"))
    (tmp_path / "transparent.png").write_bytes(_palette_with_transparency(small))
    assert Image.open(tmp_path / "transparent.png").info["transparency"]
    assert largest_difference(read_image(tmp_path / "plain.png"), expected) == 0
    assert largest_difference(read_image(tmp_path / "transparent.png"), expected) == 0


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / "two.gif").n_frames == 2
    assert largest_difference(read_image(tmp_path / "two.gif"), frames[0]) == 0


def test_exif_orientation_is_ignored_as_in_the_reference(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.resize((40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 30, 40)


# Broken files


def _claiming_huge_sides(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", 60000, 60000) + jpeg[start + 4 :]


BROKEN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty.jpg": ("empty", lambda _: b""),
    "text.jpg": ("text, not an image", lambda _: "Grüße, this is a text.\n".encode() * 99),
    "noise.png": ("known format", lambda _: random.Random(0).randbytes(999)),
    "cut.jpg": ("truncated", lambda jpeg: jpeg[: len(jpeg) // 2]),
    "without_end.jpg": ("truncated", lambda jpeg: jpeg[:-2]),
    "only_start.jpg": ("known format", lambda _: b"\xff\xd8"),
    "zeros_after_half.jpg": ("truncated", lambda jpeg: jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2)),
    "huge.jpg": ("178,956,970 pixels", _claiming_huge_sides),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    why, breaks = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(breaks(PHOTO.read_bytes()))
    with pytest.raises(UnreadableImage, match=why) as caught:
        read_image(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert find_fault(path) == caught.value.why


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    assert find_fault(tmp_path / "absent.jpg") == "No such file or directory" == quick_check(tmp_path / "absent.jpg")
    assert find_fault(tmp_path) == "Is a directory" == quick_check(tmp_path)


def test_32_bit_pixels_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    assert "range is unknown" in (find_fault(tmp_path / "float.tiff") or "")


def test_cut_and_damaged_jpegs_are_judged_as_pillow_judges_them(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "damaged.jpg"
    verdicts = []
    for seed in range(300):
        rng = random.Random(seed)
        jpeg = bytearray(encode(photo.resize((90, 70)), quality=85, progressive=seed % 2 == 0))
        damage = rng.choice(("cut", "drop", "overwrite"))
        start = rng.randrange(2, len(jpeg))
        if damage == "cut":
            del jpeg[start:]
        elif damage == "drop":
            del jpeg[start : start + rng.randint(1, 300)]
        else:
            jpeg[start] = rng.randrange(256)
        path.write_bytes(jpeg)
        expected, why = decode_with_pillow(path), find_fault(path)
        assert (expected is None) == (why is not None), (seed, damage, why)
        if expected is None:
            assert damage != "cut" or quick_check(path) == why
        else:
            assert np.array_equal(as_array(read_image(path)), expected), seed
            assert quick_check(path) is None, seed
        verdicts.append(why is None)
    assert 50 < sum(verdicts) < 250


def test_harmless_oddities_are_read(tmp_path: Path) -> None:
    jpeg = PHOTO.read_bytes()
    for name, data in {"trailing": jpeg + b"x" * 5000, "before_end": jpeg[:-2] + b"abc" + jpeg[-2:]}.items():
        (tmp_path / name).write_bytes(data)
        assert quick_check(tmp_path / name) is None
        assert torch.equal(read_image(tmp_path / name), read_image(PHOTO))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG"])
def test_quick_check_sees_truncation_and_passes_whole_files(photo: Image.Image, tmp_path: Path, kind: str) -> None:
    data = encode(photo, kind)
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "cut").write_bytes(data[: len(data) * 2 // 3])
    assert quick_check(tmp_path / "whole") is None
    assert quick_check(tmp_path / "cut") is not None


def test_quick_check_does_not_decode_a_file_that_looks_whole(tmp_path: Path) -> None:
    jpeg = PHOTO.read_bytes()
    (tmp_path / "hollow.jpg").write_bytes(jpeg[:300] + jpeg[-300:])
    assert find_fault(tmp_path / "hollow.jpg") is not None
    assert quick_check(tmp_path / "hollow.jpg") is None


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "the file is empty")))
    assert (error.path, error.why) == (Path("a.jpg"), "the file is empty")
    assert "a.jpg" in str(error)


def test_nothing_is_written_to_stderr(photo: Image.Image, tmp_path: Path) -> None:
    tiff = bytearray(encode(photo, "TIFF", compression="tiff_lzw"))
    tiff[2000:2100] = bytes(255 for _ in range(100))
    (tmp_path / "damaged.tiff").write_bytes(tiff)
    (tmp_path / "transparent.png").write_bytes(_palette_with_transparency(photo.resize((61, 47))))
    (tmp_path / "large.png").write_bytes(encode(photo, "PNG"))
    (tmp_path / "cut.jpg").write_bytes(PHOTO.read_bytes()[:9999])
    program = (
        "import sys; from pathlib import Path; from PIL import Image; from backbones.images.reading import find_fault\n"
        "Image.MAX_IMAGE_PIXELS = 200_000  # Pillow warns of large.png\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()): print(path.name, find_fault(path) is None)"
    )
    result = subprocess.run([sys.executable, "-W", "always", "-c", program, tmp_path], capture_output=True, text=True)
    assert result.stdout.split() == [
        *("cut.jpg", "False", "damaged.tiff", "False", "large.png", "True", "transparent.png", "True"),
    ]
    assert result.stderr == ""


# Crops


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
def test_single_try_is_cut_to_the_image_as_in_the_mae_reference(height: int, width: int) -> None:
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


def _noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("source", ["photo", "noise", "small"])
def test_random_crop_has_pillows_pixels(photo: Image.Image, source: str) -> None:
    image = {"photo": photo, "noise": _noise(375, 500), "small": _noise(32, 40)}[source]
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
    image = _noise(height, width)
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


def test_normalisation_equals_torchvisions() -> None:
    images = [_noise(16, 20), Image.new("RGB", (20, 16), "white"), Image.new("RGB", (20, 16))]
    to_input = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(crops.IMAGENET_MEAN, crops.IMAGENET_STD)]
    )
    expected = torch.stack([to_input(image) for image in images])
    batch = torch.stack([as_tensor(image) for image in images])
    torch.testing.assert_close(crops.normalise(batch), expected, rtol=0, atol=1e-6)
    memory = torch.full(expected.shape, torch.nan)
    assert crops.normalise(batch, out=memory) is memory
    torch.testing.assert_close(memory, expected, rtol=0, atol=1e-6)
    half = crops.normalise(batch, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, expected.to(torch.bfloat16), rtol=2**-8, atol=0)


# Folders


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_images_are_found_at_any_depth_and_sorted_by_name(tmp_path: Path) -> None:
    _touch(tmp_path, "b/2.JPG", "b/10.jpeg", "a b/Ü.png", "top.WebP", "b/c/d.tif", "b/notes.txt", "jpg", "b.jpg/x.gif")
    _touch(tmp_path, ".hidden.jpg", ".folder/x.jpg", "b/.x.png")
    expected = ["a b/Ü.png", "b.jpg/x.gif", "b/10.jpeg", "b/2.JPG", "b/c/d.tif", "top.WebP"]
    assert image_names(tmp_path) == expected
    assert find_images(str(tmp_path)) == [tmp_path / name for name in expected]


def test_linked_folders_are_followed_without_going_round(tmp_path: Path) -> None:
    _touch(tmp_path, "data/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/a/up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/3.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    assert image_names(tmp_path / "data") == ["3.jpg", "a/1.jpg", "b/2.jpg"]


def test_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an empty folder"):
        find_images(tmp_path)
    _touch(tmp_path, "a.txt", "b.TXT", "c/d.csv", "README")
    with pytest.raises(InputError, match=r"no images found.*\.jpg.*2 \.txt files, 1 folder, 1 other file"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="absent: no such folder"):
        find_images(tmp_path / "absent")
    with pytest.raises(InputError, match=r"a\.txt: a file, not a folder"):
        find_images(tmp_path / "a.txt")


def test_fingerprint_depends_on_names_and_sizes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for copy in ("one", "two"):
        _touch(tmp_path / copy, "a/1.jpg", "b/2.jpg")
    paths = find_images(tmp_path / "one")
    original = fingerprint(paths, tmp_path / "one")
    assert len(original) == 16
    assert original == fingerprint(paths[::-1], tmp_path / "one")
    assert original == fingerprint(find_images(tmp_path / "two"), tmp_path / "two")
    monkeypatch.chdir(tmp_path)
    assert original == fingerprint(find_images("./one/"), "./one/")
    assert original != fingerprint(paths[:1], tmp_path / "one")
    (tmp_path / "one/a/1.jpg").rename(tmp_path / "one/a/3.jpg")
    assert original != fingerprint(find_images(tmp_path / "one"), tmp_path / "one")
    (tmp_path / "two/a/1.jpg").write_bytes(b"longer than before")
    assert original != fingerprint(find_images(tmp_path / "two"), tmp_path / "two")
    with pytest.raises(InputError, match=r"1\.jpg"):
        fingerprint(paths, tmp_path / "one")
