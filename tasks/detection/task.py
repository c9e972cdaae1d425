"""Fine-tuning a backbone for object detection and instance segmentation: from the recipe to the scores."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from backbones.adapters import build_pyramid, parameter_groups
from backbones.architectures import count_parameters
from backbones.errors import InputError
from backbones.forward_cost import ForwardCost, forward_cost
from backbones.images.normalisation import Normalisation
from backbones.images.upright import Orientation
from backbones.registry import create_backbone
from backbones.training.job import Evaluation, Job, run_job
from backbones.training.machine import device_type
from backbones.training.outcome import Outcome
from backbones.training.randomness import seed_generators
from backbones.training.same_lists import require_same_lists
from backbones.training.writing import written_whole
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import LoadReport
from tasks.datasets.coco.images import CocoImages
from tasks.datasets.coco.layout import CocoSet, contents_of, open_coco
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.identity import Contents, kept_contents
from tasks.datasets.orientations import describe_orientations
from tasks.detection.detector import DetectionStep, Detector, build_detector
from tasks.detection.matches import CategoryMatches, Matches, matches_file, save_matches
from tasks.detection.metric import DetectionMetric
from tasks.detection.pictures import draw_evaluation
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.samples import EvaluationSamples, TrainingSamples, gather
from tasks.detection.scoring import Scores
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.unused import USUAL_SIDE, require_all_used

DETECTIONS = "detections.json"
"""What the finished detector found in the evaluation images, in COCO's results format."""


def identify_data(recipe: DetectionRecipe, data: Path) -> Contents:
    """What tells which data set lies below `data`. Raises InputError for what is no COCO-format set."""
    places = recipe.data.model_dump()
    return kept_contents(recipe.task, data, places, lambda: contents_of(*open_coco(data, recipe.data)))


def fine_tune(
    recipe: DetectionRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Train Mask R-CNN on `backbone` under `recipe` on the COCO-format set below `data`, and score it.

    `normalisation` is the backbone's. Goes on from whatever stands in `directory`, and leaves the detections there.
    Raises InputError for unusable data, settings, weights or output.

    The notes count the evaluation images that were turned by their EXIF orientation. Those of training are turned as
    well and not counted: their sizes are in the annotation file, so nothing else would open all of them beforehand, and
    a resumed run sees a part. `backbench data check coco` counts both.
    """
    _require_possible_order(recipe)
    train, val = open_coco(data, recipe.data)
    require_same_lists(data, train.listing, val.listing)
    detector, load_report, parameters = create_detector(
        recipe, backbone, checkpoint, len(train.categories), seed, normalisation
    )
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [image.path for image in val.images])
    cost = forward_cost(detector.pyramid, recipe.model.image_size)
    dataset = TrainingSamples(train, recipe.model.image_size, recipe.augment, seed)
    notes = [*train.notes, *val.notes, *detector.pyramid.notes, *without_effect(recipe, detector)]
    metric = DetectionMetric(val, allow_unreadable=recipe.evaluation.allow_unreadable)
    job = Job(
        model=DetectionStep(detector),
        dataset=dataset,
        parameter_groups=parameter_groups(detector, detector.pyramid, **recipe.optimizer.decays),
        recipe=recipe,
        directory=directory,
        seed=seed,
        title=f"training Mask R-CNN on {backbone}",
        evaluation=evaluation_of(recipe, val, metric),
        hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
        collate=gather,
    )
    training = run_job(job)
    return outcome_of(training, detector, metric, train.categories, notes, load_report, parameters, cost)


def outcome_of(
    training: Outcome,
    detector: Detector,
    metric: DetectionMetric,
    categories: list[str],
    notes: Sequence[str],
    load_report: LoadReport | None,
    parameters: int,
    cost: ForwardCost,
) -> TaskOutcome:
    """What a finished evaluation says, of a detector whose encoder has so many parameters."""
    val, scores, evaluated = metric.coco, metric.scores, set(metric.evaluated)
    assert scores is not None
    return TaskOutcome(
        metrics=training.metrics,
        image_names=[image.name for image in val.images if image.id in evaluated],
        weighted={name: matches.average_precision for name, matches in scores.matches.items()},
        per_class=scores.per_category,
        split=val.split,
        training=training,
        load_report=load_report,
        network=detector,
        classes=categories,
        class_ids=val.category_ids,
        unreadable=metric.unreadable,
        notes=[*notes, *describe_orientations(val.split, metric.orientations.values()), *scores.notes],
        write=partial(_write, metric.detections, scores),
        parameters=parameters,
        cost=cost,
    )


def evaluation_of(
    recipe: DetectionRecipe, val: CocoSet, metric: DetectionMetric, numbers: Sequence[int] | None = None
) -> Evaluation:
    """How the engine is to evaluate: on all images, or those of these `numbers`."""
    samples = evaluation_samples(recipe, val.images)
    return Evaluation(
        samples if numbers is None else Subset(samples, numbers),
        metric,
        batch_size=1,
        every_iterations=recipe.evaluation.every_iterations,
        kept=("evaluated", "orientations", "detections", "scores", "unreadable"),
        kept_types=(Orientation, Scores, Matches, CategoryMatches),
    )


def evaluation_samples(recipe: DetectionRecipe, images: CocoImages) -> EvaluationSamples:
    """Images as the trained detector takes them. Raises DataError for one that is too thin."""
    return EvaluationSamples(images, recipe.model.image_size)


def _require_possible_order(recipe: DetectionRecipe) -> None:
    """torchvision's ordered ROIAlign takes every point of a map for every region's cells, which no GPU holds."""
    if recipe.runtime.deterministic and device_type() == "cuda":
        raise InputError(
            'key "runtime.deterministic": the backward pass of ROIAlign on a GPU adds in no fixed order, and detection '
            "cannot do without it. Leave it at false: numbers then differ in their last digits from run to run"
        )


def without_effect(recipe: DetectionRecipe, detector: Detector) -> list[str]:
    """Settings that this backbone has no place for, in words for the record."""
    asked = recipe.model.position_embeddings
    if asked == "loaded" or getattr(detector.pyramid.trunk, "pos_embed", None) is not None:
        return []
    return [f"model.position_embeddings={asked} has no effect: the backbone has no absolute position embeddings"]


def _write(detections: list[dict[str, Any]], scores: Scores, directory: Path) -> None:
    with written_whole(directory / DETECTIONS) as file:
        file.write(json.dumps(detections).encode())
    for name, matches in scores.matches.items():
        save_matches(directory / matches_file(name), matches)


def create_detector(
    recipe: DetectionRecipe,
    backbone: str,
    checkpoint: Checkpoint | None,
    categories: int,
    seed: int,
    normalisation: Normalisation,
    *,
    empty: bool = False,
) -> tuple[Detector, LoadReport | None, int]:
    """Mask R-CNN for `categories` categories on a backbone as `recipe` has it.

    `empty` builds it without the backbone's weights, for those of the whole detector. Returns also where the
    checkpoint's weights went, and how many parameters the encoder has. Raises InputError for a backbone, weights or
    settings that do not fit each other.
    """
    settings = recipe.model
    seed_generators(seed, "weights")
    network: Any = create_backbone(backbone, checkpoint, drop_path=settings.drop_path, for_pyramid=True, empty=empty)
    parameters = count_parameters(network)
    seed_generators(seed, "head")
    pyramid = build_pyramid(
        network,
        settings.adapter,
        image_size=settings.image_size,
        window=settings.window,
        position_embeddings=settings.position_embeddings,
        relative_position=settings.relative_position,
        channels=settings.channels,
        patch_resampling=settings.patch_resampling,
        activation_checkpointing=recipe.runtime.activation_checkpointing,
    )
    if pyramid.of_own_forward:
        require_all_used(pyramid, backbone, pyramid.largest_image or USUAL_SIDE)
    return build_detector(pyramid, settings, categories, normalisation), network.load_report, parameters
