"""Linear probing: from the recipe to the scores."""

from pathlib import Path
from typing import Any

from torch import nn

from backbones.architectures import count_parameters
from backbones.images.normalisation import Normalisation
from backbones.registry import create_backbone
from backbones.training.machine import device_type
from backbones.training.precision import resolve_precision
from backbones.training.randomness import seed_generators
from backbones.weights.checkpoints import Checkpoint
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.classifier import ClassificationStep
from tasks.classification.recipe import FineTuningAugmentation
from tasks.classification.task import Classifier, identify_data, train_classifier
from tasks.linear_probing.metric import TOP1
from tasks.linear_probing.probe import LinearProbe
from tasks.linear_probing.recipe import LinearProbingRecipe
from tasks.linear_probing.samples import CroppedImages
from tasks.outcome import TaskOutcome

__all__ = ["fine_tune", "identify_data", "require_blocks"]

PLAIN = FineTuningAugmentation(rand_augment=None, mixup=0.0, cutmix=0.0, label_smoothing=0.0, random_erasing=0.0)
"""Of a batch, which is normalised only, so that its loss is cross-entropy."""


def require_blocks(recipe: LinearProbingRecipe, network: nn.Module, backbone: str) -> None:
    """Raise InputError for a `network` without a class token where the recipe takes it; it is taken over."""
    LinearProbe(network, 1, recipe.model.pool, recipe.model.image_size)


def fine_tune(
    recipe: LinearProbingRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Train a linear layer on `backbone`, which stays as it is, and evaluate every image once.

    Goes on from whatever stands in `directory`; leaves no network. Raises InputError for unusable data, settings,
    weights or output.
    """
    size = recipe.model.image_size
    outcome = train_classifier(
        *(recipe, data, directory),
        seed=seed,
        title=f"linear probing of {backbone}",
        create=lambda classes: create_probe(recipe, backbone, checkpoint, classes, seed, normalisation),
        images=lambda train: CroppedImages(train.paths, train.labels, size, recipe.augment, seed),
        groups=lambda network: [{"params": [each for each in network.parameters() if each.requires_grad]}],
    )
    return outcome.without_network(TOP1)


def create_probe(
    recipe: LinearProbingRecipe,
    backbone: str,
    checkpoint: Checkpoint | None,
    classes: int,
    seed: int,
    normalisation: Normalisation,
) -> Classifier:
    """A linear layer for so many classes on a frozen backbone.

    Raises InputError for a backbone, weights or settings that do not fit each other.
    """
    seed_generators(seed, "weights")
    trunk: Any = create_backbone(backbone, checkpoint, image_size=recipe.model.image_size)
    load_report, parameters = trunk.load_report, count_parameters(trunk)
    seed_generators(seed, "head")
    probe = LinearProbe(trunk, classes, recipe.model.pool, recipe.model.image_size)
    augmentation = BatchAugmentation(PLAIN, classes, normalisation)
    precision = resolve_precision(recipe.precision, device_type())
    return ClassificationStep(probe, augmentation, precision), load_report, parameters
