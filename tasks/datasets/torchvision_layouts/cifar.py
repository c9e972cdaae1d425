"""CIFAR's images, which lie in pickles, as files: everything that reads, samples and fingerprints images takes files.

They are unpacked once, into the cache folder, since folders of data are often not to be written to. As PPM and not as
PNG: nothing is compressed, so that a file's size, which takes part in the fingerprint, is the same for every version of
every library. Machines of one job that do not share a cache folder unpack each by itself.
torchvision compares the pickles' MD5 before it opens them, so that what is unpacked is known without opening them.
"""

import hashlib
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.cache import unpacked
from backbones.images.observing import looking_at
from backbones.training.progress_line import with_progress


def unpack(
    name: str, base: Path, parts: Mapping[str, Any], checksums: Mapping[str, str]
) -> tuple[Path, dict[str, list[tuple[str, int]]]]:
    """The folder of the unpacked images, SPLIT/CLASS/NUMBER.ppm, and by split their names below it with their labels.

    parts:     torchvision's data sets by split
    checksums: of the pickles in `base`
    Raises InputError if they cannot be written.
    """
    samples = {split: _named(split, part) for split, part in parts.items()}

    def write(folder: Path) -> None:
        names = [name for part in samples.values() for name, _ in part]
        images = zip(names, chain.from_iterable(part.data for part in parts.values()), strict=True)
        for name, pixels in with_progress(images, f"unpacking {base} into {folder.parent}", len(names), "images"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)

    folder = unpacked("unpacked images", base, unpacked_name(name, checksums), write)
    for below in {(folder / each).parent for part in samples.values() for each, _ in part}:
        looking_at(below)
    return folder, {split: sorted(part) for split, part in samples.items()}


def unpacked_name(name: str, checksums: Mapping[str, str]) -> str:
    """What the folder in the cache is called: another one for other pickles."""
    return f"{name}-{hashlib.sha256(' '.join(checksums.values()).encode()).hexdigest()[:12]}"


def _named(split: str, part: Any) -> list[tuple[str, int]]:
    """The name and label of each image, which is numbered by its place in torchvision's data set."""
    return [(f"{split}/{part.classes[label]}/{number:05d}.ppm", label) for number, label in enumerate(part.targets)]
