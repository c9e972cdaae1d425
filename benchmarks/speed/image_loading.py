"""How many training images a second does one core load, beside the loader of the MAE reference?

    python benchmarks/speed/image_loading.py [--repeats 15] [--images 64] [--json FILE]

From a JPEG file to the normalised batch of 64 at 224 px, one thread. The peer decodes with Pillow, applies
torchvision's RandomResizedCrop (scale 0.2 to 1, bicubic), RandomHorizontalFlip, ToTensor and Normalize, and stacks.
Ours is `read_image`, `random_resized_crop` and `horizontal_flip` on bytes, then `normalise` on the batch, into memory
that is used again. Both take turns in one process; each figure is the median of the turns, in this process's processor
time, in which other processes on a busy machine do not count.

The images are made for the occasion from a photograph that matplotlib ships: 500 × 375 pixels, ImageNet's most frequent
size, with grain added. The more bytes a file has, the more of both loaders' time goes into decoding it, where there is
little to gain; so the comparison is made twice, with files of about 72 kB and with files of about 111 kB, the mean of
ImageNet's (138 GB for 1.28 million, large images among them).
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.datasets.folder import pil_loader
from torchvision.transforms import functional

from backbones.images.crops import draw_rectangle, horizontal_flip, random_resized_crop
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.images.reading import read_image
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import Comparison, compare, write_figures
from benchmarks.speed.comparing.turns import Turns

_SIZE = 224
_SCALE, _RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
_GRAIN_AND_QUALITY = ((6.0, 92), (9.0, 95))
_BICUBIC = transforms.InterpolationMode.BICUBIC


def write_photographs(folder: Path, count: int, grain: float, quality: int) -> list[Path]:
    """Write different views of one photograph as JPEG files."""
    photo = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        left, top = (int(generator.integers(room)) for room in (photo.width - 480, photo.height - 360))
        view = photo.resize((500, 375), Image.Resampling.BICUBIC, box=(left, top, left + 480, top + 360))
        noise = generator.normal(0, grain, (375, 500, 3))
        pixels = np.clip(np.asarray(view) + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{index:03d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=quality)
    return paths


def make_reference_loader(paths: list[Path]) -> Callable[[], Tensor]:
    """The peer, as in the MAE reference's pre-training."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(_SIZE, scale=_SCALE, ratio=_RATIO, interpolation=_BICUBIC),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET.mean, IMAGENET.std),
        ]
    )
    return lambda: torch.stack([transform(pil_loader(str(path))) for path in paths])


def make_our_loader(paths: list[Path]) -> Callable[[], Tensor]:
    """Ours, as in this project's pre-training."""
    rng = random.Random(0)
    memory = torch.empty(len(paths), 3, _SIZE, _SIZE)

    def load(path: Path) -> Tensor:
        return horizontal_flip(random_resized_crop(read_image(path), _SIZE, _SCALE, _RATIO, rng), rng)

    return lambda: normalise(torch.stack([load(path) for path in paths]), IMAGENET, out=memory)


def take_turns(loaders: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each batch of each loader, after one batch each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(repeats + 1):
        for name, load in loaders.items():
            start = time.process_time()
            load()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def compare_pixels(paths: list[Path]) -> tuple[int, float]:
    """Largest and mean difference, in levels of 255, between both loaders' pixels for the same crops."""
    differences = []
    for seed, path in enumerate(paths):
        ours = random_resized_crop(read_image(path), _SIZE, _SCALE, _RATIO, random.Random(seed))
        image = pil_loader(str(path))
        rectangle = draw_rectangle(image.height, image.width, _SCALE, _RATIO, random.Random(seed))
        theirs = functional.pil_to_tensor(functional.resized_crop(image, *rectangle, [_SIZE, _SIZE], _BICUBIC))
        differences.append((ours.int() - theirs.int()).abs())
    difference = torch.stack(differences)
    return int(difference.max()), difference.double().mean().item()


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="turns of each loader")
    parser.add_argument("--images", type=int, default=64, help="images in a batch")
    arguments = parse_arguments(parser)
    torch.set_num_threads(1)
    comparisons = [
        compare_loaders(arguments.images, arguments.repeats, grain, quality) for grain, quality in _GRAIN_AND_QUALITY
    ]
    write_figures(arguments.json, comparisons)


def compare_loaders(images: int, repeats: int, grain: float, quality: int) -> Comparison:
    """Measure both loaders on one kind of file, and print."""
    with TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), images, grain, quality)
        kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1000
        loaders = {"reference": make_reference_loader(paths), "ours": make_our_loader(paths)}
        turns = take_turns(loaders, repeats)
        largest, mean = compare_pixels(paths)
    seconds = {name: median(each) for name, each in turns.items()}
    print(f"{len(paths)} JPEG files of 500 x 375 px, {kilobytes:.0f} kB on average; one thread, {repeats} turns")
    for name, batch_seconds in seconds.items():
        print(f"{name:>10}: {len(paths) / batch_seconds:7,.0f} images/s per core")
    print(f"{'ratio':>10}: {seconds['reference'] / seconds['ours']:7.2f} x")
    print(f"pixels for the same crops differ by at most {largest} levels of 255, {mean:.4f} on average")
    return compare(
        f"loading 500 × 375 JPEG files of {kilobytes:.0f} kB, one core",
        Turns(turns["ours"]),
        "Pillow and torchvision",
        Turns(turns["reference"]),
        images=images,
    )


if __name__ == "__main__":
    main()
