"""What a task is, said once. The modules behind them are imported when they are needed.

A new task is a package beside the others, with the modules `recipe`, `task`, `samples`, `metric` and `paired`, and an
entry in `TASKS`; its metrics stand in results/metrics.py.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from results.paper_tables import PAPER_TABLES, ROBUSTNESS
from results.trained_blocks import trained_column

FROM_CHECKPOINT = "go on from the last checkpoint"
FROM_FEATURES = "go on from the features that are kept"


@dataclass(frozen=True)
class Task:
    """A way to judge a backbone.

    name:                  as recipes and records call it
    package:               holds its modules: `recipe` (the settings), `task` (`identify_data`, `fine_tune`), `samples`,
                           `metric` and `paired` (`compare`: two runs on the same images, by all metrics or one)
    recipe:                the class of its settings
    data_sets:             those of `tasks.data_sets` that it can be run on
    tables:                those of the paper that show it; the first takes what belongs to none of the others
    columns_by_image_size: the table's column depends on the image size: a ViT-H at 448 pixels stands in "ViT-H-448"
    evaluates_in_fp32:     whatever the precision of its training
    leaves_network:        a run leaves one that can be evaluated, exported and shown images
    asks_for_blocks:       of a backbone, a class token or last blocks that not every one has; its module `task` has
                           `require_blocks`, which refuses one without
    goes_on:               what a run that was ended does when the command is repeated: "repeat the command to …"
    """

    name: str
    package: str
    recipe: str
    data_sets: tuple[str, ...]
    tables: tuple[str, ...]
    columns_by_image_size: bool = False
    evaluates_in_fp32: bool = False
    leaves_network: bool = True
    asks_for_blocks: bool = False
    goes_on: str = FROM_CHECKPOINT

    def module(self, name: str) -> ModuleType:
        """One of the task's modules: "task", "paired", …"""
        return importlib.import_module(f"{self.package}.{name}")

    def table_of(self, dataset: str) -> str:
        """Which of the paper's tables a number on that data set, by its recorded name, belongs to."""
        shown = (name for name in self.tables if dataset in PAPER_TABLES[name].datasets)
        return next(shown, ROBUSTNESS if _is_part_of_variant(dataset) else self.tables[0])

    def column_of(self, model: str, image_size: int, trained_blocks: int | None = None) -> str:
        """The table's column for a model such as "ViT-B", of which so many of the last blocks train, or all of it."""
        if self.columns_by_image_size and image_size != IMAGE_SIZES.get(model, image_size):
            model = f"{model}-{image_size}"
        return model if trained_blocks is None else trained_column(model, trained_blocks)


def _is_part_of_variant(dataset: str) -> bool:
    """Whether images are in the layout of one of those sets, though not all of it."""
    return dataset.startswith("own-") and dataset.removeprefix("own-") in PAPER_TABLES[ROBUSTNESS].datasets


IMAGE_SIZES = {"ViT-B": 224, "ViT-L": 224, "ViT-H": 224, "mini-B": 48, "mini-L": 48, "mini-H": 48}
"""The image size in pixels that a column of the classification tables stands for."""

LABELLED = (
    *("imagenet1k", "inat2017", "inat2018", "inat2019", "places205", "places365"),
    *("mini", "folders", "cifar10", "cifar100", "flowers102", "pets", "cars", "aircraft"),
    *("dtd", "food101", "sun397", "caltech101", "eurosat"),
)
"""The data sets that have training images with a class each."""


def _probe(name: str, recipe: str, package: str = "tasks.probing", goes_on: str = FROM_FEATURES) -> Task:
    """A task on a frozen backbone."""
    return Task(
        name=name,
        package=package,
        recipe=f"{package}.recipe:{recipe}",
        data_sets=LABELLED,
        tables=("probes",),
        columns_by_image_size=True,
        leaves_network=False,
        asks_for_blocks=True,
        goes_on=goes_on,
    )


TASKS = {
    task.name: task
    for task in (
        Task(
            name="classification",
            package="tasks.classification",
            recipe="tasks.classification.recipe:ClassificationRecipe",
            data_sets=(
                *LABELLED,
                *("imagenet-a", "imagenet-c", "imagenet-r", "imagenet-sketch", "imagenet-real"),
                *("imagenet-v2", "imagenet-v2-threshold", "imagenet-v2-top"),
            ),
            # images of one's own are what a backbone is carried over to
            tables=("transfer", "transfer-more", "imagenet", "robustness"),
            columns_by_image_size=True,
        ),
        Task(
            name="detection",
            package="tasks.detection",
            recipe="tasks.detection.recipe:DetectionRecipe",
            data_sets=("coco",),
            tables=("coco",),
            evaluates_in_fp32=True,
        ),
        Task(
            name="segmentation",
            package="tasks.segmentation",
            recipe="tasks.segmentation.recipe:SegmentationRecipe",
            data_sets=("ade20k",),
            tables=("ade20k",),
            evaluates_in_fp32=True,
        ),
        _probe("knn", "NearestNeighboursRecipe"),
        _probe("linear_grid", "LinearGridRecipe"),
        _probe("logistic_regression", "LogisticRegressionRecipe"),
        _probe("few_labels", "FewLabelsRecipe"),
        Task(
            name="dense_probing",
            package="tasks.dense_probing",
            recipe="tasks.dense_probing.recipe:DenseProbingRecipe",
            data_sets=("ade20k",),
            tables=("probes-dense",),
            evaluates_in_fp32=True,
            leaves_network=False,
            asks_for_blocks=True,
        ),
        _probe("linear_probing", "LinearProbingRecipe", "tasks.linear_probing", FROM_CHECKPOINT),
        Task(
            name="partial_fine_tuning",
            package="tasks.partial_fine_tuning",
            recipe="tasks.partial_fine_tuning.recipe:PartialFineTuningRecipe",
            data_sets=LABELLED,
            tables=("partial",),
            columns_by_image_size=True,
            leaves_network=False,
            asks_for_blocks=True,
        ),
    )
}

LEAVE_NETWORKS = {name: task for name, task in TASKS.items() if task.leaves_network}
"""Those whose runs leave one."""

PRETRAINING = "pretraining"
"""What a recipe calls the job that judges nothing."""

RECIPES = {PRETRAINING: "backbones.pretraining.settings:MaskedAutoencoderRecipe"} | {
    task.name: task.recipe for task in TASKS.values()
}
"""By a recipe's `task`, the class of its settings."""


def evaluates_in_fp32(task: str) -> bool:
    """Whether what was trained for one of `RECIPES` is evaluated, and shown images, in single precision always."""
    return task == PRETRAINING or TASKS[task].evaluates_in_fp32


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
