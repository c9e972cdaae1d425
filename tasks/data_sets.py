"""What a data set is, said once. The modules behind it are imported when they are needed.

A new set of labelled images is an entry in `DATA_SETS`, with a function that opens it and one that checks it.
"""

import difflib
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from results.measurements import simplified
from tasks.datasets.identity import Contents, Counts, NamedData, name_data
from tasks.datasets.image_lists.counts import INAT2017, INAT2018, INAT2019, PLACES205, PLACES365
from tasks.datasets.imagenet_variants.counts import COUNTS as VARIANT_COUNTS
from tasks.datasets.torchvision_layouts.counts import COUNTS

if TYPE_CHECKING:
    from tasks.datasets.labelled import LabelledSplit


@dataclass(frozen=True)
class DataSet:
    """A data set as it lies on disk.

    name:     as `backbench data check` takes it
    layout:   its folder structure, in words
    checker:  the function (root, settings, on_progress) -> CheckReport that looks for every mistake in it
    opener:   the function (root) -> (train, val), both `LabelledSplit`, for a set to classify; None for other tasks'
    evaluation_only: whether there is nothing to train on: the opener's train is None
    settings: the class of the settings that say where its parts are; None where the folder structure is recognised
    recorded: as recipes and records call it, where that is another name
    counts:   as published, None where any number will do
    pretraining_name: what the paper's tables call it as pre-training data, where that is another name
    """

    name: str
    layout: str
    checker: str
    opener: str | None = None
    evaluation_only: bool = False
    settings: str | None = None
    recorded: str | None = None
    counts: Counts | None = None
    pretraining_name: str | None = None

    @property
    def record_name(self) -> str:
        """What records call it."""
        return self.recorded or self.name

    def check(self) -> Callable[..., Any]:
        """The function that `checker` names."""
        function: Callable[..., Any] = pkgutil.resolve_name(self.checker)
        return function


_CHECK_FOLDERS = "tasks.datasets.class_folders.check:check_class_folders"
_OPEN_FOLDERS = "tasks.datasets.class_folders.layout:open_class_folders"
_INATURALIST = "tasks.datasets.image_lists.inaturalist"


def _of_torchvision(name: str, layout: str) -> DataSet:
    module = "tasks.datasets.torchvision_layouts.opening"
    return DataSet(name, layout, f"{module}:check_{name}", f"{module}:open_{name}", counts=COUNTS[name])


def _variant(name: str, layout: str) -> DataSet:
    """A set to evaluate ImageNet's classifiers on."""
    function, room = name.replace("-", "_"), "tasks.datasets.imagenet_variants"
    module = {"imagenet-c": "corrupted", "imagenet-real": "reassessed"}.get(name, "layout")
    return DataSet(
        name=name,
        layout=layout,
        checker=f"{room}.check:check_{function}",
        opener=f"{room}.{module}:open_{function}",
        evaluation_only=True,
        counts=VARIANT_COUNTS[name],
    )


DATA_SETS = {
    each.name: each
    for each in (
        DataSet(
            name="imagenet1k",
            layout="train/CLASS/*.JPEG and val/CLASS/*.JPEG, or val/*.JPEG with its mapping file",
            checker=_CHECK_FOLDERS,
            opener=_OPEN_FOLDERS,
            counts=Counts(train_images=1_281_167, evaluation_images=50_000, classes=1_000),  # ILSVRC 2012
            pretraining_name="IN1K",
        ),
        DataSet(
            name="mini",
            layout="the generated images of `backbench data mini`, in the same layout",
            checker=_CHECK_FOLDERS,
            opener=_OPEN_FOLDERS,
        ),
        *(
            DataSet(
                name=f"inat{year}",
                layout=f"iNaturalist {year}: train{year}.json, val{year}.json, {folder}/, categories.json; or "
                "train/CLASS/*.jpg and val/CLASS/*.jpg",
                checker=f"{_INATURALIST}:check_inat{year}",
                opener=f"{_INATURALIST}:open_inat{year}",
                counts=counts,
            )
            for year, folder, counts in (
                (2017, "train_val_images", INAT2017),
                (2018, "train_val2018", INAT2018),
                (2019, "train_val2019", INAT2019),
            )
        ),
        DataSet(
            name="places205",
            layout="trainvalsplit_places205/*.csv and data/vision/torralba/deeplearning/images256/, or class folders",
            checker="tasks.datasets.image_lists.places205:check_places205",
            opener="tasks.datasets.image_lists.places205:open_places205",
            counts=PLACES205,
        ),
        DataSet(
            name="places365",
            layout="places365_train_standard.txt, places365_val.txt, categories_places365.txt, data_256/ and val_256/ "
            "(or large), or class folders",
            checker="tasks.datasets.image_lists.places365:check_places365",
            opener="tasks.datasets.image_lists.places365:open_places365",
            counts=PLACES365,
        ),
        DataSet(
            name="coco",
            layout="train2017/*.jpg, val2017/*.jpg and annotations/instances_*.json, or any set in COCO's format",
            checker="tasks.datasets.coco.check:check_coco",
            settings="tasks.datasets.coco.layout:CocoDataSettings",
            recorded="coco2017",
            counts=Counts(train_images=118_287, evaluation_images=5_000, classes=80),
        ),
        DataSet(
            name="ade20k",
            layout="images/ and annotations/ with training/ and validation/ each, objectInfo150.txt; "
            "or any pair of folders",
            checker="tasks.datasets.label_maps.check:check_ade20k",
            settings="tasks.datasets.label_maps.layout:SegmentationDataSettings",
            counts=Counts(train_images=20_210, evaluation_images=2_000, classes=150),  # SceneParsing, 2016
        ),
        DataSet(
            name="folders",
            layout="your own images: train/CLASS and val/CLASS, or CLASS alone, of which a fifth is held out",
            checker=_CHECK_FOLDERS,
            opener=_OPEN_FOLDERS,
        ),
        # What torchvision reads; tasks/datasets/torchvision_layouts says which images train and which evaluate.
        _of_torchvision("cifar10", "cifar-10-batches-py/data_batch_* and test_batch"),
        _of_torchvision("cifar100", "cifar-100-python/train and test"),
        _of_torchvision("flowers102", "flowers-102/jpg/*.jpg, imagelabels.mat and setid.mat"),
        _of_torchvision("pets", "oxford-iiit-pet/images/*.jpg and annotations/*.txt"),
        _of_torchvision("cars", "stanford_cars/cars_train/*.jpg, cars_test/*.jpg and devkit/"),
        _of_torchvision("aircraft", "fgvc-aircraft-2013b/data/images/*.jpg and *.txt"),
        _of_torchvision("dtd", "dtd/dtd/images/CLASS/*.jpg and labels/*1.txt"),
        _of_torchvision("food101", "food-101/images/CLASS/*.jpg and meta/*.json"),
        _of_torchvision("sun397", "SUN397/LETTER/CLASS/*.jpg and Training_01.txt, Testing_01.txt"),
        _of_torchvision("caltech101", "caltech101/101_ObjectCategories/CLASS/*.jpg"),
        _of_torchvision("eurosat", "eurosat/2750/CLASS/*.jpg"),
        # For classifiers of ImageNet, to evaluate only.
        _variant("imagenet-a", "imagenet-a/n*/*.jpg, 200 of ImageNet's classes"),
        _variant("imagenet-c", "noise/, blur/, weather/ and digital/, CORRUPTION/SEVERITY/n*/*.JPEG in each"),
        _variant("imagenet-r", "imagenet-r/n*/*.jpg, 200 of ImageNet's classes"),
        _variant("imagenet-sketch", "sketch/n*/*.JPEG"),
        _variant("imagenet-real", "ImageNet's val/, in class folders or not, and real.json"),
        _variant("imagenet-v2", "imagenetv2-matched-frequency-format-val/0 to 999/*.jpeg"),
        _variant("imagenet-v2-threshold", "imagenetv2-threshold0.7-format-val/0 to 999/*.jpeg"),
        _variant("imagenet-v2-top", "imagenetv2-top-images-format-val/0 to 999/*.jpeg"),
    )
}

_ALIASES = {
    "IN1K": ("ImageNet-1K", "ImageNet", "ILSVRC2012", "ILSVRC-2012", "ImageNet 2012"),
    "IN21K": ("ImageNet-21K",),
    "IN22K": ("ImageNet-22K",),
}
"""Names that people give to what the tables call otherwise, as they are compared: without case and punctuation."""


def find_data_set(name: str) -> DataSet:
    """The data set that `backbench data check` calls so. Raises InputError that names the nearest one."""
    if name not in DATA_SETS:
        near = difflib.get_close_matches(name, DATA_SETS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(DATA_SETS)}"
        raise InputError(f"data set {name}: not known. {hint}")
    return DATA_SETS[name]


def opener_of(recorded: str) -> str:
    """Which function opens the data set to classify that recipes call so: class folders where none is known."""
    openers = {each.record_name: each.opener for each in DATA_SETS.values()}
    return openers.get(recorded) or _OPEN_FOLDERS


def is_evaluation_only(recorded: str) -> bool:
    """Whether the data set that recipes call so has nothing to train on."""
    return any(each.evaluation_only for each in DATA_SETS.values() if each.record_name == recorded)


def _recipe_of(recorded: str) -> str:
    """The packaged recipe that evaluates on it."""
    return "_".join(recorded.split("-")[:2])


def require_training_images(recorded: str, root: Path) -> None:
    """Raise InputError for a data set that has nothing to train on, whatever lies below `root`."""
    if is_evaluation_only(recorded):
        raise InputError(
            f"data set {recorded}: is there to evaluate classifiers of ImageNet on, and has nothing to train on. "
            f"Use `backbench evaluate --recipe {_recipe_of(recorded)} --data {root} --weights RUN`"
        )


def open_labelled(recorded: str, root: Path) -> "tuple[LabelledSplit, LabelledSplit]":
    """Open both splits, training first, of the data set to classify that recipes call so.

    Raises DataError for what is in none of its layouts, InputError for one that has nothing to train on.
    """
    require_training_images(recorded, root)
    splits: tuple[LabelledSplit, LabelledSplit] = pkgutil.resolve_name(opener_of(recorded))(root)
    return splits


def open_labelled_to_evaluate(
    recorded: str, root: Path, classes: Sequence[str] = ()
) -> "tuple[LabelledSplit | None, LabelledSplit]":
    """What `open_labelled` opens; where only validation images lie below `root`, in class folders, those alone.

    Then `classes` are the network's, as far as they are known, see `ClassFolders.open_alone`.
    Raises DataError for what is in none of its layouts.
    """
    from tasks.datasets.class_folders.layout import has_validation_alone, open_validation_alone

    if is_evaluation_only(recorded):
        alone: tuple[None, LabelledSplit] = pkgutil.resolve_name(opener_of(recorded))(root)
        return alone
    if has_validation_alone(root):
        return None, open_validation_alone(root, classes)
    return open_labelled(recorded, root)


def name_data_set(claimed: str, root: Path, contents: Contents) -> NamedData:
    """Which data set lies below `root`: the recipe's `claimed` one if the counts are right, or another.

    Raises InputError for a dataset.json whose name is none.
    """
    published = {each.record_name: each.counts for each in DATA_SETS.values() if each.counts}
    return name_data(claimed, root, contents, published, otherwise=claimed if is_evaluation_only(claimed) else "")


def pretraining_name(data_set: str) -> str:
    """What the paper's tables call a data set as pre-training data: "IN1K" for imagenet1k and ImageNet-1K.

    What follows the name stays, as in "IN22K+DALLE" and "IN1K w/ labels"; so do other names.
    """
    parted = re.fullmatch(r"(.+?)(\s*\+.*|\s*,.*|\s+(?:w/|with)\s.*|)", data_set.strip(), re.DOTALL)
    if parted is None:
        return data_set
    name, rest = parted.groups()
    for table_name, others in _pretraining_aliases().items():
        if simplified(name) in {simplified(other) for other in (table_name, *others)}:
            return table_name + re.sub(r"^\s+with\s", " w/ ", rest)
    return data_set


def _pretraining_aliases() -> dict[str, tuple[str, ...]]:
    """By what the tables call it, the other names of data to pre-train on."""
    own = {each.pretraining_name: (each.record_name,) for each in DATA_SETS.values() if each.pretraining_name}
    return {name: (*own.get(name, ()), *others) for name, others in _ALIASES.items()}


def published_evaluation_images(data_set: str) -> int | None:
    """How many images the data set of that recorded name has to evaluate on; None where that is not published."""
    counts = {each.record_name: each.counts for each in DATA_SETS.values()}.get(data_set)
    return counts.evaluation_images if counts else None
