"""Dense probing of a frozen backbone: from the recipe to the scores."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from backbones.architectures import count_parameters
from backbones.forward_cost import forward_cost
from backbones.frozen_maps import FrozenMaps
from backbones.images.normalisation import Normalisation
from backbones.registry import create_backbone
from backbones.training.job import Job, run_job
from backbones.training.randomness import seed_generators
from backbones.training.same_lists import require_same_lists
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import LoadReport
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.label_maps.layout import open_segmentation, require_annotations
from tasks.dense_probing.metric import DenseProbingMetric
from tasks.dense_probing.probe import DenseProbe, build_probe
from tasks.dense_probing.recipe import DenseProbingRecipe
from tasks.dense_probing.samples import TrainingSamples
from tasks.outcome import TaskOutcome
from tasks.pictures import PictureHook
from tasks.segmentation.pictures import draw_evaluation, numbers_shown
from tasks.segmentation.task import evaluation_of, identify_data, outcome_of, require_views_that_fit

__all__ = ["create_probe", "fine_tune", "identify_data", "require_blocks"]


def require_blocks(recipe: DenseProbingRecipe, network: nn.Module, backbone: str) -> None:
    """Raise InputError for a `network` of fewer last blocks than the recipe takes; it is taken over."""
    if recipe.features.layers > 1:
        FrozenMaps(network, recipe.features.layers, recipe.model.image_size)


def fine_tune(
    recipe: DenseProbingRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Train a linear head on `backbone`, which stays as it is, on the images and label maps below `data`, and score it.

    `normalisation` is the backbone's. Goes on from whatever stands in `directory`. Raises InputError for unusable data,
    settings, weights or output.
    """
    train, val = open_segmentation(data, recipe.data)
    require_same_lists(data, train.listing, val.listing)
    probe, load_report, parameters = create_probe(recipe, backbone, checkpoint, len(train.classes), seed, normalisation)
    cost = forward_cost(probe.maps, recipe.model.image_size)
    notes = require_annotations(data, train, val)
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [path for image in val.images for path in (image.image, image.annotation)])
    metric = DenseProbingMetric(
        val, allow_unreadable=recipe.evaluation.allow_unreadable, shown=numbers_shown(len(val.images))
    )
    job = Job(
        model=probe,
        dataset=TrainingSamples(train, recipe.model.image_size, recipe.augment, seed),
        parameter_groups=[{"params": list(probe.decode_head.parameters())}],
        recipe=recipe,
        directory=directory,
        seed=seed,
        title=f"training a linear head on {backbone}",
        evaluation=evaluation_of(recipe, val, metric),
        hooks=[PictureHook(partial(draw_evaluation, val, metric, directory / "pictures"))],
    )
    notes = [*train.notes, *val.notes, *probe.maps.notes, *notes]
    training = run_job(job)
    outcome = outcome_of(training, probe, metric, train.classes, notes, load_report, parameters, cost)
    return replace(outcome, network=None)


def create_probe(
    recipe: DenseProbingRecipe,
    backbone: str,
    checkpoint: Checkpoint | None,
    classes: int,
    seed: int,
    normalisation: Normalisation,
) -> tuple[DenseProbe, LoadReport | None, int]:
    """A head for `classes` classes on a frozen backbone as `recipe` has it.

    Returns also where the checkpoint's weights went, and how many parameters the backbone has. Raises InputError for a
    backbone, weights or settings that do not fit each other.
    """
    seed_generators(seed, "weights")
    network: Any = create_backbone(backbone, checkpoint)
    load_report, parameters = network.load_report, count_parameters(network)
    side = recipe.model.image_size
    maps = FrozenMaps(network, recipe.features.layers, side)
    require_views_that_fit(recipe, maps.largest_image, type(network).__name__)
    seed_generators(seed, "head")
    return build_probe(maps, recipe.inference, side, classes, normalisation), load_report, parameters
