"""Miniatures of the sets that torchvision reads, in the files that their makers distribute."""

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image
from scipy.io import savemat  # type: ignore[import-untyped]
from torchvision.datasets.utils import calculate_md5

from tasks.datasets.torchvision_layouts.sets import TorchvisionSet

Claim = Callable[[Any, str, object], None]
"""`monkeypatch.setattr`, by which torchvision is told the checksums of what is written here."""

CLASSES = ("beagle", "abyssinian_cat", "yorkshire_terrier")
"""In no alphabetical order, with a name of two words."""


def draw(path: Path, seed: int) -> None:
    """Noise, 12 × 10 pixels, other for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)).save(path)


def text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _labels(images: int) -> list[int]:
    return [(7 * number + 1) % len(CLASSES) for number in range(images)]


def _cifar(base: Path, kind: Any, claim: Claim, key: str) -> None:
    base.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name in ("train_list", "test_list"):
        listed = []
        for file, _ in getattr(kind, name):
            labels = _labels(6)
            batch = {"data": rng.integers(0, 256, (6, 3072), np.uint8), key: labels}
            (base / file).write_bytes(pickle.dumps(batch))
            listed.append([file, calculate_md5(base / file)])
        claim(kind, name, listed)
    path = base / kind.meta["filename"]
    path.write_bytes(pickle.dumps({kind.meta["key"]: [*CLASSES]}))
    claim(kind, "meta", {**kind.meta, "md5": calculate_md5(path)})


def cifar10(base: Path, claim: Claim) -> None:
    _cifar(base, torchvision.datasets.CIFAR10, claim, "labels")


def cifar100(base: Path, claim: Claim) -> None:
    _cifar(base, torchvision.datasets.CIFAR100, claim, "fine_labels")


def flowers102(base: Path, claim: Claim) -> None:
    numbers = np.array([5, 2, 9, 1, 3, 8, 4, 7, 6])
    for number in numbers:
        draw(base / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 2, 1, 3, 1, 2, 3]], np.uint8)})
    savemat(base / "setid.mat", {"trnid": [numbers[:3]], "valid": [numbers[3:5]], "tstid": [numbers[5:]]})
    kind = torchvision.datasets.Flowers102
    files = {
        part: (name, calculate_md5(base / name) if part != "image" else "")
        for part, (name, _) in kind._file_dict.items()
    }
    claim(kind, "_file_dict", files)
    claim(kind, "classes", [*CLASSES])


def pets(base: Path, claim: Claim) -> None:
    names = sorted(CLASSES)
    for split, start in (("trainval", 1), ("test", 4)):
        lines = []
        for number, label in enumerate(_labels(9)):
            image = f"{names[label]}_{start * 10 + number}"
            draw(base / "images" / f"{image}.jpg", start * 100 + number)
            draw(base / "annotations" / "trimaps" / f"{image}.png", 0)
            lines.append(f"{image} {label + 1} {label % 2 + 1} 1")
        text(base / "annotations" / f"{split}.txt", lines)
    draw(base / "images" / "beagle_999.jpg", 9)  # the genuine archive has images in no list, too


def cars(base: Path, claim: Claim) -> None:
    for folder, file, seed in (
        ("cars_train", "devkit/cars_train_annos.mat", 1),
        ("cars_test", "cars_test_annos_withlabels.mat", 2),
    ):
        kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
        rows = [(1, label + 1, f"{number + 1:05d}.jpg") for number, label in enumerate(_labels(7))]
        for number, (_, _, name) in enumerate(rows):
            draw(base / folder / name, 100 * seed + number)
        (base / "devkit").mkdir(exist_ok=True)
        savemat(base / file, {"annotations": np.array(rows, dtype=kind)[None]})
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array([[*CLASSES]], object)})


def aircraft(base: Path, claim: Claim) -> None:
    data = base / "data"
    text(data / "variants.txt", CLASSES)
    for split, start in (("trainval", 10), ("test", 40)):
        lines = []
        for number, label in enumerate(_labels(6)):
            draw(data / "images" / f"{start + number:07d}.jpg", start + number)
            lines.append(f"{start + number:07d} {CLASSES[label]}")
        text(data / f"images_variant_{split}.txt", lines)


def dtd(base: Path, claim: Claim) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        names = [f"{name}/{name}_{seed}{number}.jpg" for number in range(2) for name in CLASSES]
        for number, name in enumerate(names):
            draw(base / "dtd" / "images" / name, 10 * seed + number)
        text(base / "dtd" / "labels" / f"{split}1.txt", names)


def food101(base: Path, claim: Claim) -> None:
    for seed, split in enumerate(("train", "test")):
        listed = {name: [f"{name}/{seed}{number}" for number in range(2)] for name in CLASSES}
        for number, name in enumerate(name for names in listed.values() for name in names):
            draw(base / "images" / f"{name}.jpg", 10 * seed + number)
        text(base / "meta" / f"{split}.json", [json.dumps(listed)])


def sun397(base: Path, claim: Claim) -> None:
    classes = ["/a/abbey", "/a/apartment_building/outdoor", "/b/beach"]
    text(base / "ClassName.txt", classes)
    for label, name in enumerate(classes):
        for number in range(4):
            draw(base / name[1:] / f"sun_{label}{number}.jpg", 10 * label + number)
    for file, numbers in (("Training_01.txt", (2, 0)), ("Testing_01.txt", (3,))):
        text(base / file, [f"{name}/sun_{label}{at}.jpg" for label, name in enumerate(classes) for at in numbers])


def caltech101(base: Path, claim: Claim) -> None:
    for label, name in enumerate((*CLASSES, "BACKGROUND_Google")):
        for number in range(33):
            draw(base / "101_ObjectCategories" / name / f"image_{number + 1:04d}.jpg", 100 * label + number)


def eurosat(base: Path, claim: Claim) -> None:
    for label, name in enumerate(CLASSES):
        for number in range(5):
            draw(base / "2750" / name / f"{name}_{number}.jpg", 10 * label + number)


WRITERS: dict[str, Callable[[Path, Claim], None]] = {
    each.__name__: each
    for each in (cifar10, cifar100, flowers102, pets, cars, aircraft, dtd, food101, sun397, caltech101, eurosat)
}


def write_set(spec: TorchvisionSet, root: Path, patch: pytest.MonkeyPatch) -> Path:
    """A miniature of the set below `root`, torchvision's root; the set's own folder."""
    base = root / spec.folder
    WRITERS[spec.name](base, patch.setattr)
    return base


def torchvision_pairs(spec: TorchvisionSet, root: Path) -> Iterator[tuple[str, bytes, str]]:
    """What torchvision gives of `root`, all splits: "train" or "val", the pixels, and the class's name."""
    parts = (("train", ({},)),) if spec.listing else (("train", spec.train), ("val", spec.val))
    for split, several in parts:
        for arguments in several:
            data_set = getattr(torchvision.datasets, spec.kind)(root, download=False, **arguments)
            for number in range(len(data_set)):
                image, label = data_set[number]
                names = data_set.categories if spec.kind == "Caltech101" else data_set.classes
                yield split, np.asarray(image.convert("RGB")).tobytes(), str(names[label])
