"""Evaluating a detector that is trained already: the scores alone."""

from functools import partial
from pathlib import Path

from backbones.forward_cost import forward_cost
from backbones.images.normalisation import Normalisation
from backbones.trained.loading import load_trained
from backbones.training.evaluating import EvaluationJob, run_evaluation
from backbones.training.same_lists import require_same_lists
from tasks.datasets.coco.layout import open_coco
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.detection.detector import DetectionStep
from tasks.detection.metric import DetectionMetric
from tasks.detection.pictures import draw_evaluation
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.samples import gather
from tasks.detection.task import create_detector, evaluation_of, outcome_of, without_effect
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.trained import TrainedNetwork, require_classes


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
    train, val = open_coco(data, recipe.data)
    require_same_lists(data, train.listing, val.listing)
    require_classes(trained, val.categories)
    detector, _, parameters = create_detector(
        recipe, trained.backbone, None, len(val.categories), seed, normalisation, empty=True
    )
    load_report = load_trained(detector, trained.checkpoint, trained.steps, trained.kind)
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [image.path for image in val.images])
    cost = forward_cost(detector.pyramid, recipe.model.image_size)
    metric = DetectionMetric(val, allow_unreadable=recipe.evaluation.allow_unreadable)
    outcome = run_evaluation(
        EvaluationJob(
            model=DetectionStep(detector),
            evaluation=evaluation_of(recipe, val, metric),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=f"evaluating {trained.backbone}",
            hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
            collate=gather,
        )
    )
    notes = [*train.notes, *val.notes, *detector.pyramid.notes, *without_effect(recipe, detector)]
    return outcome_of(outcome, detector, metric, val.categories, notes, load_report, parameters, cost)
