"""Evaluating a segmentor that is trained already: the scores alone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from backbones.forward_cost import forward_cost
from backbones.images.normalisation import Normalisation
from backbones.trained.loading import load_trained
from backbones.training.evaluating import EvaluationJob, run_evaluation
from backbones.training.same_lists import require_same_lists
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.identity import Contents, kept_contents
from tasks.datasets.label_maps.layout import (
    contents_of,
    has_training_split,
    open_segmentation_to_evaluate,
    require_annotations,
)
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.segmentation.known_classes import require_known_classes
from tasks.segmentation.metric import SegmentationMetric
from tasks.segmentation.pictures import draw_evaluation, numbers_shown
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.task import create_segmentor, evaluation_of, outcome_of
from tasks.segmentation.task import identify_data as identify_both_splits
from tasks.trained import TrainedNetwork, chosen_images


def identify_data(recipe: SegmentationRecipe, data: Path, classes: Sequence[str]) -> Contents:
    """What tells which data set lies below `data`: both splits, or the evaluation split alone.

    Its classes are its own, whatever the network's. Raises InputError for what is no set of images with label maps.
    """
    if has_training_split(data, recipe.data):
        return identify_both_splits(recipe, data)
    places = recipe.data.model_dump() | {"splits": ["val"]}
    return kept_contents(
        recipe.task, data, places, lambda: contents_of(*open_segmentation_to_evaluate(data, recipe.data))
    )


def evaluate(
    recipe: SegmentationRecipe,
    data: Path,
    trained: TrainedNetwork,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
    limit: int | None = None,
) -> TaskOutcome:
    """Label the evaluation images below `data`, `limit` of them if that is given, each once, and score it.

    Leaves pictures in `directory`. Raises InputError for unusable data or settings, and for weights that do not fit or
    are of other classes.
    """
    train, val = open_segmentation_to_evaluate(data, recipe.data)
    sets = [split for split in (train, val) if split]
    require_same_lists(data, *(split.listing for split in sets))
    about_classes = require_known_classes(trained, val.classes)
    segmentor, _, parameters = create_segmentor(
        recipe, trained.backbone, None, len(val.classes), seed, normalisation, empty=True
    )
    load_report = load_trained(segmentor, trained.checkpoint, trained.steps, trained.kind)
    cost = forward_cost(segmentor.pyramid, recipe.model.image_size)
    notes = [note for split in sets for note in split.notes]
    notes += [*about_classes, *segmentor.pyramid.notes, *require_annotations(data, val)]
    numbers = chosen_images(len(val.images), limit)
    if not recipe.evaluation.allow_unreadable:
        images = (val.images[number] for number in numbers)
        require_evaluation_images(data, [path for image in images for path in (image.image, image.annotation)])
    metric = SegmentationMetric(
        val,
        allow_unreadable=recipe.evaluation.allow_unreadable,
        shown=[numbers[position] for position in numbers_shown(len(numbers))],
    )
    outcome = run_evaluation(
        EvaluationJob(
            model=segmentor,
            evaluation=evaluation_of(recipe, val, metric, numbers),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=f"evaluating {trained.backbone}",
            precision="fp32",
            hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
        )
    )
    return outcome_of(outcome, segmentor, metric, val.classes, notes, load_report, parameters, cost)
