"""Fine-tuning a backbone for image classification: from the recipe to the scores."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Subset

from backbones.activations import recompute_activations
from backbones.architectures import count_parameters
from backbones.forward_cost import ForwardCost, forward_cost
from backbones.images.normalisation import Normalisation
from backbones.registry import create_backbone
from backbones.training.job import Evaluation, Job, accumulation_steps, run_job
from backbones.training.machine import device_type, process_count
from backbones.training.outcome import Outcome
from backbones.training.precision import resolve_precision
from backbones.training.randomness import seed_generators
from backbones.training.same_lists import require_same_lists
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import LoadReport
from tasks.classification.answers import Answers
from tasks.classification.augmentation import BatchAugmentation, check_even_batches
from tasks.classification.classifier import ClassificationStep, add_head, parameter_groups, pooling_notes
from tasks.classification.metric import ClassificationMetric
from tasks.classification.pooled import PooledClassifier
from tasks.classification.recipe import ClassifierRecipe, FineTuningRecipe
from tasks.classification.samples import EvaluationImages, LabelledImages, Labels, TrainingImages, view_of
from tasks.data_sets import open_labelled, opener_of, require_training_images
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.identity import Contents, kept_contents
from tasks.datasets.labelled import LabelledSplit, contents_of
from tasks.outcome import TaskOutcome
from tasks.unused import require_all_used


def identify_data(recipe: ClassifierRecipe, data: Path) -> Contents:
    """What tells which data set lies below `data`.

    Raises InputError for images in no layout of the recipe's, and for a data set that has nothing to train on.
    """
    require_training_images(recipe.dataset, data)  # an evaluation may have kept what lies there
    places = {"opener": opener_of(recipe.dataset)}
    return kept_contents("classification", data, places, lambda: contents_of(*open_labelled(recipe.dataset, data)))


Classifier = tuple[ClassificationStep, LoadReport | None, int]
"""What trains, where the checkpoint's weights went, and how many parameters the encoder has."""


def fine_tune(
    recipe: FineTuningRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Fine-tune `backbone` under `recipe` on the labelled images below `data`, and evaluate every image once.

    `normalisation` is the backbone's. Goes on from whatever stands in `directory`. Raises InputError for unusable data,
    settings, weights or output.
    """
    return train_classifier(
        *(recipe, data, directory),
        seed=seed,
        title=f"fine-tuning {backbone}",
        create=lambda classes: create_classifier(recipe, backbone, checkpoint, classes, seed, normalisation),
        images=lambda train: labelled_images(recipe, train, seed, normalisation),
        groups=lambda network: groups_of(recipe, network),
    )


def train_classifier(
    recipe: ClassifierRecipe,
    data: Path,
    directory: Path,
    *,
    seed: int,
    title: str,
    create: Callable[[int], Classifier],
    images: Callable[[LabelledSplit], TrainingImages],
    groups: Callable[[nn.Module], list[dict[str, Any]]],
) -> TaskOutcome:
    """Train what `create` makes for so many classes, and evaluate every image once.

    title:  what is done, as progress has it
    images: those of the training split, as they are seen
    groups: the optimizer's, of the network's parameters

    Goes on from whatever stands in `directory`. Raises InputError for unusable data, settings, weights or output.
    """
    train, val = open_labelled(recipe.dataset, data)
    require_same_lists(data, train.listing, val.listing)
    batch_of_process = recipe.optimizer.batch_size // accumulation_steps(recipe, process_count()) // process_count()
    check_even_batches(recipe.mixes_images, batch_of_process)
    step, load_report, parameters = create(len(train.classes))
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, val.paths)
    cost = forward_cost(step.network, recipe.model.image_size)
    metric = metric_of(recipe, train, val)
    outcome = run_job(
        Job(
            model=step,
            dataset=images(train),
            parameter_groups=groups(step.network),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=title,
            evaluation=evaluation_of(recipe, val, metric, batch_of_process),
        )
    )
    return outcome_of(outcome, step.network, metric, train.classes, val, [train.note], load_report, parameters, cost)


def labelled_images(
    recipe: FineTuningRecipe, train: LabelledSplit, seed: int, normalisation: Normalisation
) -> LabelledImages:
    """The training images as a recipe has them augmented."""
    return LabelledImages(train.paths, train.labels, recipe.model.image_size, recipe.augment, seed, normalisation)


def groups_of(recipe: FineTuningRecipe, network: nn.Module) -> list[dict[str, Any]]:
    """The optimizer's groups as a recipe has them."""
    return parameter_groups(network, recipe.optimizer.weight_decay, recipe.optimizer.layer_decay)


def metric_of(recipe: ClassifierRecipe, train: LabelledSplit | None, val: LabelledSplit) -> ClassificationMetric:
    """What evaluates; without a training split it cannot tell classes of many images from those of few."""
    classes = len(val.classes)
    images = None if train is None else np.bincount(train.labels, minlength=classes)
    return ClassificationMetric(classes, images, allow_unreadable=recipe.evaluation.allow_unreadable)


def outcome_of(
    outcome: Outcome,
    network: nn.Module,
    metric: ClassificationMetric,
    classes: list[str],
    val: LabelledSplit,
    notes: Sequence[str | None],
    load_report: LoadReport | None,
    parameters: int,
    cost: ForwardCost,
) -> TaskOutcome:
    """What a finished evaluation says, of a network of so many parameters without its head."""
    answers = Answers(**metric.answers)
    return TaskOutcome(
        metrics=outcome.metrics,
        image_names=[val.paths[number].relative_to(val.names_root).as_posix() for number in metric.numbers],
        per_image=metric.answers | metric.per_image,
        shares=answers.shares,
        weighted=answers.weighted,
        per_class=metric.per_class(classes),
        split=val.split,
        training=outcome,
        load_report=load_report,
        network=network,
        classes=classes,
        unreadable=metric.unreadable,
        notes=list(dict.fromkeys(note for note in (*notes, val.note, *pooling_notes(network)) if note)),
        parameters=parameters,
        cost=cost,
    )


def evaluation_of(
    recipe: ClassifierRecipe,
    val: LabelledSplit,
    metric: ClassificationMetric,
    batch_size: int,
    numbers: Sequence[int] | None = None,
) -> Evaluation:
    """How the engine is to evaluate: on all images, or those of these `numbers`."""
    images = evaluation_images(recipe, val.paths, val.labels, val.accepted)
    return Evaluation(
        images if numbers is None else Subset(images, numbers),
        metric,
        batch_size=batch_size,
        every_epochs=recipe.evaluation.every_epochs,
        kept=("numbers", "answers", "per_image", "unreadable"),
    )


def evaluation_images(
    recipe: ClassifierRecipe,
    paths: Sequence[Path],
    labels: Labels,
    accepted: Sequence[Sequence[int]] | None = None,
) -> EvaluationImages:
    """Images as the trained network takes them; `accepted` are each one's classes where several are right."""
    return EvaluationImages(paths, labels, view_of(recipe), accepted)


def create_classifier(
    recipe: FineTuningRecipe,
    backbone: str,
    checkpoint: Checkpoint | None,
    classes: int,
    seed: int,
    normalisation: Normalisation,
    *,
    empty: bool = False,
) -> Classifier:
    """A classifier for `classes` classes on a backbone as `recipe` has it.

    `empty` builds it without the backbone's weights, for those of the whole classifier. Returns also where the
    checkpoint's weights went, and how many parameters the encoder has. Raises InputError for a backbone, weights or
    settings that do not fit each other.
    """
    settings = recipe.model
    seed_generators(seed, "weights")
    network: Any = create_backbone(
        backbone, checkpoint, image_size=settings.image_size, drop_path=settings.drop_path, empty=empty
    )
    load_report, parameters = network.load_report, count_parameters(network)
    if recipe.runtime.activation_checkpointing:
        recompute_activations(network)
    seed_generators(seed, "head")
    network = add_head(network, classes, settings.pool, settings.image_size)
    if isinstance(network, PooledClassifier):
        require_all_used(network, backbone, settings.image_size)
    augmentation = BatchAugmentation(recipe.augment, classes, normalisation)
    precision = resolve_precision(recipe.precision, device_type())
    return ClassificationStep(network, augmentation, precision), load_report, parameters
