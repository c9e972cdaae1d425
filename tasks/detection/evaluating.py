"""Evaluating a detector that is trained already: the scores alone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from backbones.forward_cost import forward_cost
from backbones.images.normalisation import Normalisation
from backbones.trained.loading import load_trained
from backbones.training.evaluating import EvaluationJob, run_evaluation
from backbones.training.same_lists import require_same_lists
from tasks.datasets.coco.layout import contents_of, has_training_split, open_coco_to_evaluate
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.identity import Contents, kept_contents
from tasks.detection.detector import DetectionStep
from tasks.detection.metric import DetectionMetric
from tasks.detection.pictures import draw_evaluation
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.samples import gather
from tasks.detection.task import create_detector, evaluation_of, outcome_of, without_effect
from tasks.detection.task import identify_data as identify_both_splits
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.trained import TrainedNetwork, chosen_images, require_classes


def identify_data(recipe: DetectionRecipe, data: Path, classes: Sequence[str]) -> Contents:
    """What tells which data set lies below `data`: both splits, or the evaluation split alone.

    Its categories are its own, whatever the network's `classes`. Raises InputError for what is no COCO-format set.
    """
    if has_training_split(data, recipe.data):
        return identify_both_splits(recipe, data)
    places = recipe.data.model_dump() | {"splits": ["val"]}
    return kept_contents(recipe.task, data, places, lambda: contents_of(*open_coco_to_evaluate(data, recipe.data)))


def evaluate(
    recipe: DetectionRecipe,
    data: Path,
    trained: TrainedNetwork,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
    limit: int | None = None,
) -> TaskOutcome:
    """Detect in the evaluation images below `data`, `limit` of them if that is given, each once, and score it.

    Leaves detections and pictures in `directory`. Raises InputError for unusable data or settings, and for weights that
    do not fit or are of other categories.
    """
    train, val = open_coco_to_evaluate(data, recipe.data)
    require_same_lists(data, *(split.listing for split in (train, val) if split))
    require_classes(trained, val.categories)
    detector, _, parameters = create_detector(
        recipe, trained.backbone, None, len(val.categories), seed, normalisation, empty=True
    )
    load_report = load_trained(detector, trained.checkpoint, trained.steps, trained.kind)
    numbers = chosen_images(len(val.images), limit)
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [val.images[number].path for number in numbers])
    cost = forward_cost(detector.pyramid, recipe.model.image_size)
    metric = DetectionMetric(val, allow_unreadable=recipe.evaluation.allow_unreadable)
    outcome = run_evaluation(
        EvaluationJob(
            model=DetectionStep(detector),
            evaluation=evaluation_of(recipe, val, metric, numbers),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=f"evaluating {trained.backbone}",
            precision="fp32",
            hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
            collate=gather,
        )
    )
    notes = [*(train.notes if train else ()), *val.notes, *detector.pyramid.notes, *without_effect(recipe, detector)]
    notes += _unnamed(trained, len(val.categories))
    return outcome_of(outcome, detector, metric, val.categories, notes, load_report, parameters, cost)


def _unnamed(trained: TrainedNetwork, categories: int) -> list[str]:
    """That nobody could tell whether a file's categories are the data's, in words for the record."""
    if trained.known.classes:
        return []
    return [
        f"the file does not name its {categories} categories: they were taken for the data's, in the order of their ids"
    ]
