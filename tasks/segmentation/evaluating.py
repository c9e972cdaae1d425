"""Evaluating a segmentor that is trained already: the scores alone."""

from functools import partial
from pathlib import Path

from backbones.forward_cost import forward_cost
from backbones.images.normalisation import Normalisation
from backbones.trained.loading import load_trained
from backbones.training.evaluating import EvaluationJob, run_evaluation
from backbones.training.same_lists import require_same_lists
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.label_maps.layout import open_segmentation, require_annotations
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.segmentation.known_classes import require_known_classes
from tasks.segmentation.metric import SegmentationMetric
from tasks.segmentation.pictures import draw_evaluation, numbers_shown
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.task import create_segmentor, evaluation_of, outcome_of
from tasks.trained import TrainedNetwork


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
    train, val = open_segmentation(data, recipe.data)
    require_same_lists(data, train.listing, val.listing)
    about_classes = require_known_classes(trained, val.classes)
    segmentor, _, parameters = create_segmentor(
        recipe, trained.backbone, None, len(val.classes), seed, normalisation, empty=True
    )
    load_report = load_trained(segmentor, trained.checkpoint, trained.steps, trained.kind)
    cost = forward_cost(segmentor.pyramid, recipe.model.image_size)
    notes = [*train.notes, *val.notes, *about_classes, *segmentor.pyramid.notes, *require_annotations(data, train, val)]
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [path for image in val.images for path in (image.image, image.annotation)])
    metric = SegmentationMetric(
        val, allow_unreadable=recipe.evaluation.allow_unreadable, shown=numbers_shown(len(val.images))
    )
    outcome = run_evaluation(
        EvaluationJob(
            model=segmentor,
            evaluation=evaluation_of(recipe, val, metric),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=f"evaluating {trained.backbone}",
            hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
        )
    )
    return outcome_of(outcome, segmentor, metric, val.classes, notes, load_report, parameters, cost)
