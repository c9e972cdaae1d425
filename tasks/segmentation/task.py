"""Fine-tuning a backbone for semantic segmentation: from the recipe to the scores."""

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
from backbones.registry import create_backbone
from backbones.training.job import Evaluation, Job, accumulation_steps, run_job
from backbones.training.machine import process_count
from backbones.training.outcome import Outcome
from backbones.training.randomness import seed_generators
from backbones.training.same_lists import require_same_lists
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import LoadReport
from tasks.batch_norm import dense_norm
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.identity import Contents, kept_contents
from tasks.datasets.label_maps.layout import SegmentationSet, contents_of, open_segmentation, require_annotations
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.segmentation.areas import AREAS, Areas, save_areas
from tasks.segmentation.metric import SegmentationMetric
from tasks.segmentation.pictures import draw_evaluation, numbers_shown
from tasks.segmentation.recipe import LabelMapRecipe, SegmentationRecipe
from tasks.segmentation.samples import EvaluationSamples, TrainingSamples
from tasks.segmentation.segmentor import Segmentor, build_segmentor
from tasks.unused import USUAL_SIDE, require_all_used


def identify_data(recipe: LabelMapRecipe, data: Path) -> Contents:
    """What tells which data set lies below `data`. Raises InputError for what is no set of images with label maps."""
    places = recipe.data.model_dump()
    return kept_contents("segmentation", data, places, lambda: contents_of(*open_segmentation(data, recipe.data)))


def fine_tune(
    recipe: SegmentationRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Train UPerNet on `backbone` under `recipe` on the images and label maps below `data`, and score it.

    `normalisation` is the backbone's. Goes on from whatever stands in `directory`. Raises InputError for unusable data,
    settings, weights or output.
    """
    train, val = open_segmentation(data, recipe.data)
    require_same_lists(data, train.listing, val.listing)
    _require_several_images(recipe)
    segmentor, load_report, parameters = create_segmentor(
        recipe, backbone, checkpoint, len(train.classes), seed, normalisation
    )
    cost = forward_cost(segmentor.pyramid, recipe.model.image_size)
    notes = require_annotations(data, train, val)
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [path for image in val.images for path in (image.image, image.annotation)])
    metric = SegmentationMetric(
        val, allow_unreadable=recipe.evaluation.allow_unreadable, shown=numbers_shown(len(val.images))
    )
    job = Job(
        model=segmentor,
        dataset=TrainingSamples(train, recipe.model.image_size, recipe.augment, seed),
        parameter_groups=parameter_groups(segmentor, segmentor.pyramid, **recipe.optimizer.decays),
        recipe=recipe,
        directory=directory,
        seed=seed,
        title=f"training UPerNet on {backbone}",
        evaluation=evaluation_of(recipe, val, metric),
        hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
    )
    training = run_job(job)
    return outcome_of(
        training,
        segmentor,
        metric,
        train.classes,
        [*train.notes, *val.notes, *segmentor.pyramid.notes, *notes],
        load_report,
        parameters,
        cost,
    )


def outcome_of(
    training: Outcome,
    segmentor: Segmentor,
    metric: SegmentationMetric,
    classes: list[str],
    notes: list[str],
    load_report: LoadReport | None,
    parameters: int,
    cost: ForwardCost,
) -> TaskOutcome:
    """What a finished evaluation says, of a segmentor whose encoder has so many parameters."""
    areas = metric.areas
    assert areas is not None
    return TaskOutcome(
        metrics=training.metrics,
        image_names=areas.image_names,
        weighted=metric.weighted,
        per_class=metric.per_class,
        split=metric.dataset.split,
        training=training,
        load_report=load_report,
        network=segmentor,
        classes=classes,
        unreadable=metric.unreadable,
        notes=notes,
        write=lambda run: save_areas(run / AREAS, areas),
        parameters=parameters,
        cost=cost,
    )


def evaluation_of(
    recipe: LabelMapRecipe,
    val: SegmentationSet,
    metric: SegmentationMetric,
    numbers: Sequence[int] | None = None,
) -> Evaluation:
    """How the engine is to evaluate: on all images, or those of these `numbers`."""
    samples = EvaluationSamples(val, recipe.inference)
    return Evaluation(
        samples if numbers is None else Subset(samples, numbers),
        metric,
        batch_size=1,
        every_iterations=recipe.evaluation.every_iterations,
        kept=("areas", "per_class", "predictions", "unreadable"),
        kept_types=(Areas,),
    )


def create_segmentor(
    recipe: SegmentationRecipe,
    backbone: str,
    checkpoint: Checkpoint | None,
    classes: int,
    seed: int,
    normalisation: Normalisation,
    *,
    empty: bool = False,
) -> tuple[Segmentor, LoadReport | None, int]:
    """UPerNet for `classes` classes on a backbone as `recipe` has it.

    `empty` builds it without the backbone's weights, for those of the whole segmentor. Returns also where the
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
        window=None,
        relative_position=settings.relative_position,
        shared_positions=False,
        taps=settings.taps,
        layer_scale=settings.layer_scale,
        norm=dense_norm(),
        patch_resampling=settings.patch_resampling,
        activation_checkpointing=recipe.runtime.activation_checkpointing,
    )
    if pyramid.of_own_forward:
        require_all_used(pyramid, backbone, pyramid.largest_image or USUAL_SIDE)
    require_views_that_fit(recipe, pyramid.largest_image, type(pyramid.trunk.layered).__name__)
    return (
        build_segmentor(pyramid, settings, recipe.inference, classes, normalisation),
        network.load_report,
        parameters,
    )


def _require_several_images(recipe: SegmentationRecipe) -> None:
    """UPerNet pools a map to a single cell, which batch norm cannot normalise within one image."""
    step = recipe.optimizer.batch_size // accumulation_steps(recipe, process_count())
    if step < 2:
        raise InputError(
            'key "optimizer.batch_size": UPerNet\'s batch norm needs at least two images a step, over all processes. '
            "Raise it, or runtime.batch_per_device"
        )


def require_views_that_fit(recipe: LabelMapRecipe, size: int | None, backbone: str) -> None:
    """Raise InputError for a backbone that takes images of so many pixels at most, where whole ones may be larger.

    It would refuse them only once training is over.
    """
    largest = int(recipe.inference.resize[0] * max(recipe.inference.scales))
    if recipe.inference.mode == "whole" and size and largest > size:
        raise InputError(
            f'key "inference.mode": whole images have up to {largest} pixels a side (inference.resize × scales), and '
            f"{backbone} is built for model.image_size {recipe.model.image_size}. Use mode "
            "slide, smaller images, or a larger image_size"
        )
