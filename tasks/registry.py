"""What a task is and what a data set is, each said once. The modules behind them are imported when they are needed.

A new task is a package beside the others, with the modules `recipe`, `task`, `samples`, `metric` and `paired`, and an
entry in `TASKS`; its metrics stand in results/metrics.py.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from backbones.errors import InputError
from results.measurements import simplified
from results.paper_tables import PAPER_TABLES
from tasks.datasets.identity import Contents, Counts, NamedData, name_data


@dataclass(frozen=True)
class DataSet:
    """A data set as it lies on disk.

    name:     as `backbench data check` takes it
    layout:   its folder structure, in words
    checker:  the function (root, settings, on_progress) -> CheckReport that looks for every mistake in it
    settings: the class of the settings that say where its parts are; None where the folder structure is recognised
    recorded: as recipes and records call it, where that is another name
    counts:   as published, None where any number will do
    pretraining_name: what the paper's tables call it as pre-training data, where that is another name
    """

    name: str
    layout: str
    checker: str
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


@dataclass(frozen=True)
class Task:
    """A way to judge a backbone.

    name:                  as recipes and records call it
    package:               holds its modules: `recipe` (the settings), `task` (`identify_data`, `fine_tune`), `samples`,
                           `metric` and `paired` (`compare`: two runs on the same images)
    recipe:                the class of its settings
    data_sets:             those of `DATA_SETS` that it can be run on
    tables:                those of the paper that show it; the first takes what belongs to none of the others
    columns_by_image_size: the table's column depends on the image size: a ViT-H at 448 pixels stands in "ViT-H-448"
    """

    name: str
    package: str
    recipe: str
    data_sets: tuple[str, ...]
    tables: tuple[str, ...]
    columns_by_image_size: bool = False

    def module(self, name: str) -> ModuleType:
        """One of the task's modules: "task", "paired", …"""
        return importlib.import_module(f"{self.package}.{name}")

    def table_of(self, dataset: str) -> str:
        """Which of the paper's tables a number on that data set, by its recorded name, belongs to."""
        return next((name for name in self.tables if dataset in PAPER_TABLES[name].datasets), self.tables[0])

    def column_of(self, model: str, image_size: int) -> str:
        """The table's column for a model such as "ViT-B"."""
        if not self.columns_by_image_size or image_size == IMAGE_SIZES.get(model, image_size):
            return model
        return f"{model}-{image_size}"


IMAGE_SIZES = {"ViT-B": 224, "ViT-L": 224, "ViT-H": 224}
"""The image size in pixels that a column of the classification tables stands for."""

_CLASS_FOLDERS = "tasks.datasets.class_folders.check:check_class_folders"

DATA_SETS = {
    each.name: each
    for each in (
        DataSet(
            name="imagenet1k",
            layout="train/CLASS/*.JPEG and val/CLASS/*.JPEG, or val/*.JPEG with its mapping file",
            checker=_CLASS_FOLDERS,
            counts=Counts(train_images=1_281_167, evaluation_images=50_000, classes=1_000),  # ILSVRC 2012
            pretraining_name="IN1K",
        ),
        DataSet(
            name="mini",
            layout="the generated images of `backbench data mini`, in the same layout",
            checker=_CLASS_FOLDERS,
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
            checker=_CLASS_FOLDERS,
        ),
    )
}

TASKS = {
    task.name: task
    for task in (
        Task(
            name="classification",
            package="tasks.classification",
            recipe="tasks.classification.recipe:ClassificationRecipe",
            data_sets=("imagenet1k", "mini", "folders"),
            tables=("transfer", "imagenet"),  # images of one's own are what a backbone is carried over to
            columns_by_image_size=True,
        ),
        Task(
            name="detection",
            package="tasks.detection",
            recipe="tasks.detection.recipe:DetectionRecipe",
            data_sets=("coco",),
            tables=("coco",),
        ),
        Task(
            name="segmentation",
            package="tasks.segmentation",
            recipe="tasks.segmentation.recipe:SegmentationRecipe",
            data_sets=("ade20k",),
            tables=("ade20k",),
        ),
    )
}

_ALIASES = {
    "IN1K": ("ImageNet-1K", "ImageNet", "ILSVRC2012", "ILSVRC-2012", "ImageNet 2012"),
    "IN21K": ("ImageNet-21K",),
    "IN22K": ("ImageNet-22K",),
}
"""Names that people give to what the tables call otherwise, as they are compared: without case and punctuation."""

PRETRAINING = "pretraining"
"""What a recipe calls the job that judges nothing."""

RECIPES = {PRETRAINING: "backbones.pretraining.settings:MaskedAutoencoderRecipe"} | {
    task.name: task.recipe for task in TASKS.values()
}
"""By a recipe's `task`, the class of its settings."""


def find_data_set(name: str) -> DataSet:
    """The data set that `backbench data check` calls so. Raises InputError that names the nearest one."""
    if name not in DATA_SETS:
        near = difflib.get_close_matches(name, DATA_SETS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(DATA_SETS)}"
        raise InputError(f"data set {name}: not known. {hint}")
    return DATA_SETS[name]


def name_data_set(claimed: str, root: Path, contents: Contents) -> NamedData:
    """Which data set lies below `root`: the recipe's `claimed` one if the counts are right, or another.

    Raises InputError for a dataset.json whose name is none.
    """
    published = {each.record_name: each.counts for each in DATA_SETS.values() if each.counts}
    return name_data(claimed, root, contents, published)


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


def settings_kind(task: str) -> Any:
    """The class of the settings of one of `RECIPES`."""
    return pkgutil.resolve_name(RECIPES[task])


def interpret(task: str, settings: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The class of these settings of one of `RECIPES`, and those of them that it takes.

    A pre-training's are as its `model.arch` says. Raises InputError for code that cannot be imported.
    """
    if task == PRETRAINING:
        from backbones.pretraining.settings import interpret as interpret_pretraining

        return interpret_pretraining(settings)
    return settings_kind(task), settings
