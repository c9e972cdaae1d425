"""Partial fine-tuning: from the recipe to the scores."""

from pathlib import Path

from torch import nn

from backbones.images.normalisation import Normalisation
from backbones.weights.checkpoints import Checkpoint
from tasks.classification.task import (
    Classifier,
    create_classifier,
    groups_of,
    identify_data,
    labelled_images,
    train_classifier,
)
from tasks.outcome import TaskOutcome
from tasks.partial_fine_tuning.freezing import PartialStep, freeze_but_last
from tasks.partial_fine_tuning.metric import TOP1
from tasks.partial_fine_tuning.recipe import PartialFineTuningRecipe

__all__ = ["fine_tune", "identify_data", "require_blocks"]


def require_blocks(recipe: PartialFineTuningRecipe, network: nn.Module, backbone: str) -> None:
    """Raise InputError for a `network` of fewer blocks than are to train; it is taken over."""
    freeze_but_last(network, recipe.model.trained_blocks)


def fine_tune(
    recipe: PartialFineTuningRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Fine-tune the last blocks of `backbone`, and evaluate every image once.

    Goes on from whatever stands in `directory`; leaves no network. Raises InputError for unusable data, settings,
    weights or output.
    """
    outcome = train_classifier(
        *(recipe, data, directory),
        seed=seed,
        title=f"partial fine-tuning of {backbone}",
        create=lambda classes: create_partial(recipe, backbone, checkpoint, classes, seed, normalisation),
        images=lambda train: labelled_images(recipe, train, seed, normalisation),
        groups=lambda network: groups_of(recipe, network),
    )
    return outcome.without_network(TOP1)


def create_partial(
    recipe: PartialFineTuningRecipe,
    backbone: str,
    checkpoint: Checkpoint | None,
    classes: int,
    seed: int,
    normalisation: Normalisation,
) -> Classifier:
    """A classifier for so many classes, of which the last blocks train.

    Raises InputError for a backbone, weights or settings that do not fit each other.
    """
    whole, load_report, parameters = create_classifier(recipe, backbone, checkpoint, classes, seed, normalisation)
    frozen = freeze_but_last(whole.network, recipe.model.trained_blocks)
    return PartialStep(whole.network, whole.augmentation, whole.precision, frozen), load_report, parameters
