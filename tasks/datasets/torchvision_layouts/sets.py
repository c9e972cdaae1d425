"""What torchvision calls each set, what has to lie in its folder, and which images train and which evaluate.

Where the makers published splits, the images of their training and validation split train, and those of their test
split evaluate: that is how the suite of Kornblith et al. (arXiv 1805.08974, table 1) is used since, by CLIP
(arXiv 2103.00020, appendix A) and others. Of three sets the images are drawn, by `splits`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.datasets.torchvision_layouts.listings import Listing, class_folders_in, sun_folders
from tasks.datasets.torchvision_layouts.splits import Splitting, draw_share, first_drawn, sun_partition

Sample = tuple[str | Path, int]


def _of_two_lists(data_set: Any) -> list[Sample]:
    return [*zip(data_set._image_files, data_set._labels, strict=True)]


def _of_pets(data_set: Any) -> list[Sample]:
    return [*zip(data_set._images, data_set._labels, strict=True)]


def _of_cars(data_set: Any) -> list[Sample]:
    return [(file, int(label)) for file, label in data_set._samples]


@dataclass(frozen=True)
class TorchvisionSet:
    """A set as torchvision reads it.

    name:      as `backbench data check` takes it
    kind:      the class in `torchvision.datasets`
    folder:    where that looks for it, below its root
    files:     what has to lie in `folder`, files and folders
    source:    what the makers distribute
    train:     arguments of the class, whose images together are those to train on
    val:       the same for those to evaluate on
    samples:   the files that an instance of the class lists, with their labels
    listing:   finds classes and images where their makers do not divide them, instead of the class
    splitting: how those are divided
    images:    the folders in `folder` whose images should all be listed
    """

    name: str
    kind: str
    folder: str
    files: Sequence[str]
    source: str
    train: Sequence[Mapping[str, Any]] = ({"split": "train"},)
    val: Sequence[Mapping[str, Any]] = ({"split": "test"},)
    samples: Callable[[Any], list[Sample]] = _of_two_lists
    listing: Listing | None = None
    splitting: Splitting | None = None
    images: Sequence[str] = ()


def _cifar(number: int, folder: str, files: Sequence[str]) -> TorchvisionSet:
    return TorchvisionSet(
        name=f"cifar{number}",
        kind=f"CIFAR{number}",
        folder=folder,
        files=files,
        source=f"cifar-{number}-python.tar.gz",
        train=({"train": True},),
        val=({"train": False},),
    )


_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
CIFAR10 = _cifar(10, "cifar-10-batches-py", _BATCHES)
CIFAR100 = _cifar(100, "cifar-100-python", ("train", "test", "meta"))
FLOWERS102 = TorchvisionSet(
    name="flowers102",
    kind="Flowers102",
    folder="flowers-102",
    files=("jpg", "imagelabels.mat", "setid.mat"),
    source="102flowers.tgz, imagelabels.mat and setid.mat",
    train=({"split": "train"}, {"split": "val"}),
    images=("jpg",),
)
PETS = TorchvisionSet(
    name="pets",
    kind="OxfordIIITPet",
    folder="oxford-iiit-pet",
    files=("images", "annotations/trainval.txt", "annotations/test.txt"),
    source="images.tar.gz and annotations.tar.gz",
    train=({"split": "trainval"},),
    samples=_of_pets,
    images=("images",),
)
CARS = TorchvisionSet(
    name="cars",
    kind="StanfordCars",
    folder="stanford_cars",
    files=(
        *("cars_train", "cars_test", "cars_test_annos_withlabels.mat"),
        *("devkit/cars_train_annos.mat", "devkit/cars_meta.mat"),
    ),
    source="cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat",
    samples=_of_cars,
    images=("cars_train", "cars_test"),
)
AIRCRAFT = TorchvisionSet(
    name="aircraft",
    kind="FGVCAircraft",
    folder="fgvc-aircraft-2013b",
    files=(
        *("data/images", "data/variants.txt"),
        *("data/images_variant_trainval.txt", "data/images_variant_test.txt"),
    ),
    source="fgvc-aircraft-2013b.tar.gz",
    train=({"split": "trainval"},),
    images=("data/images",),
)
DTD = TorchvisionSet(
    name="dtd",
    kind="DTD",
    folder="dtd",
    files=("dtd/images", *(f"dtd/labels/{split}1.txt" for split in ("train", "val", "test"))),
    source="dtd-r1.0.1.tar.gz",
    train=({"split": "train"}, {"split": "val"}),
    images=("dtd/images",),
)
FOOD101 = TorchvisionSet(
    name="food101",
    kind="Food101",
    folder="food-101",
    files=("images", "meta/train.json", "meta/test.json"),
    source="food-101.tar.gz",
    images=("images",),
)
SUN397 = TorchvisionSet(
    name="sun397",
    kind="SUN397",
    folder="SUN397",
    files=("ClassName.txt",),
    source="SUN397.tar.gz, and Partitions.zip for the published partitions",
    listing=sun_folders,
    splitting=sun_partition,
)
CALTECH101 = TorchvisionSet(
    name="caltech101",
    kind="Caltech101",
    folder="caltech101",
    files=("101_ObjectCategories",),
    source="caltech-101.zip",
    listing=class_folders_in("101_ObjectCategories", but="BACKGROUND_Google"),
    splitting=first_drawn(30),
)
EUROSAT = TorchvisionSet(
    name="eurosat",
    kind="EuroSAT",
    folder="eurosat",
    files=("2750",),
    source="EuroSAT.zip (the version in colours)",
    listing=class_folders_in("2750"),
    splitting=draw_share,
)
