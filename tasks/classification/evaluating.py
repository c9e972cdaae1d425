"""Evaluating a classifier that is trained already: the scores alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.architectures import count_parameters
from backbones.forward_cost import forward_cost
from backbones.images.normalisation import Normalisation
from backbones.trained.loading import load_trained
from backbones.training.evaluating import EvaluationJob, EvaluationSeries, run_evaluation
from backbones.training.machine import device_type, process_count
from backbones.training.precision import resolve_precision
from backbones.training.same_lists import require_same_lists
from backbones.weights.loading import LoadReport
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.classifier import ClassificationStep
from tasks.classification.corrupted import evaluate_corrupted, outcome_of_corrupted
from tasks.classification.others.classifier import outputs_name
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.task import create_classifier, evaluation_of, metric_of, outcome_of
from tasks.classification.task import identify_data as identify_both_splits
from tasks.data_sets import is_evaluation_only, open_labelled_to_evaluate, opener_of
from tasks.datasets.class_folders.layout import has_validation_alone
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.identity import Contents, kept_contents
from tasks.datasets.labelled import contents_of
from tasks.outcome import TaskOutcome
from tasks.trained import PublishedNetwork, TrainedNetwork, chosen_images, require_classes

UNNAMED = "the file does not tell its classes: its outputs are taken in the order of the data's"

MOST_IMAGES = 128
"""Of a step, where nothing else is asked for: more take memory, and no less time."""


def identify_data(recipe: ClassificationRecipe, data: Path, classes: Sequence[str]) -> Contents:
    """What tells which data set lies below `data`: both splits, or validation images alone, of the network's `classes`.

    Raises InputError for images in no layout of the recipe's.
    """
    if is_evaluation_only(recipe.dataset):
        return kept_contents(
            *(recipe.task, data, {"opener": opener_of(recipe.dataset)}),
            lambda: replace(contents_of(*open_labelled_to_evaluate(recipe.dataset, data)), notes=()),
        )
    if not has_validation_alone(data):
        return identify_both_splits(recipe, data)
    places = {"opener": opener_of(recipe.dataset), "splits": ["val"], "classes": [*classes]}
    return kept_contents(
        *(recipe.task, data, places),
        lambda: contents_of(*open_labelled_to_evaluate(recipe.dataset, data, classes)),
    )


def evaluate(
    recipe: ClassificationRecipe,
    data: Path,
    trained: TrainedNetwork,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
    limit: int | None = None,
) -> TaskOutcome:
    """Classify the evaluation images below `data`, `limit` of them if that is given, each once.

    A step's images are `runtime.batch_per_device`, by default those of a training step, `MOST_IMAGES` at most: nothing
    is divided among processes but the images.

    Raises InputError for unusable data or settings, and for weights that do not fit or are of other classes.
    """
    train, val = open_labelled_to_evaluate(recipe.dataset, data, trained.known.classes)
    require_same_lists(data, *(split.listing for split in (train, val) if split))
    require_classes(trained, val.classes)
    step, load_report, parameters = load_classifier(recipe, trained, len(val.classes), seed, normalisation)
    if val.candidates:
        step.answer_among(val.candidates, len(val.classes))
    numbers = chosen_images(len(val.paths), limit)
    cost = forward_cost(step.network, recipe.model.image_size)
    usual = max(1, min(MOST_IMAGES, recipe.optimizer.batch_size // process_count()))
    batch, title = recipe.runtime.batch_per_device or usual, f"evaluating {trained.backbone}"
    if val.parts:
        series = EvaluationSeries(len(val.parts))
        with series.listening():
            found = evaluate_corrupted(step, recipe, val, numbers, batch, directory, seed, title, series)
        return outcome_of_corrupted(found, step.network, val, load_report, parameters, cost)
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, [val.paths[number] for number in numbers])
    metric = metric_of(recipe, train, val)
    outcome = run_evaluation(
        EvaluationJob(
            model=step,
            evaluation=evaluation_of(recipe, val, metric, batch, numbers),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=title,
        )
    )
    notes = [train.note if train else None, None if trained.known.classes else UNNAMED]
    told = outcome_of(outcome, step.network, metric, val.classes, val, notes, load_report, parameters, cost)
    return told if val.accepted is None else of_several_labels(told)


def load_classifier(
    recipe: ClassificationRecipe, trained: TrainedNetwork, classes: int, seed: int, normalisation: Normalisation
) -> tuple[ClassificationStep, LoadReport, int]:
    """A trained classifier for so many classes, where its weights went, and how many parameters its trunk has.

    Raises InputError for weights that do not fit.
    """
    known = trained.known
    if isinstance(known, PublishedNetwork) and known.build:
        network = known.build(recipe, classes)
        head = network.get_submodule(outputs_name(network))
        parameters = count_parameters(network) - count_parameters(head)
        augmentation = BatchAugmentation(recipe.augment, classes, normalisation)
        step = ClassificationStep(network, augmentation, resolve_precision(recipe.precision, device_type()))
    else:
        step, _, parameters = create_classifier(
            recipe, trained.backbone, None, classes, seed, normalisation, empty=True
        )
    return step, load_trained(step.network, trained.checkpoint, trained.steps, trained.kind), parameters


def of_several_labels(outcome: TaskOutcome) -> TaskOutcome:
    """What can be said of images of which several classes are right: whether an answer is, and how sure it was."""
    return replace(
        outcome,
        metrics={name: value for name, value in outcome.metrics.items() if name in ("top1", "top5", "ECE")},
        per_image={name: values for name, values in outcome.per_image.items() if name not in ("labels", "loss")},
        shares={},
        per_class={},
    )
