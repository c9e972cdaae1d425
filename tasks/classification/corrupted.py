"""Errors under ImageNet-C's corruptions, and their mean in relation to AlexNet's.

N images, P parts: a corruption at a severity; the same N images lie in each
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from backbones.forward_cost import ForwardCost
from backbones.training.evaluated import PARTS
from backbones.training.evaluating import EvaluationJob, EvaluationSeries
from backbones.training.outcome import Outcome
from backbones.training.writing import written_whole
from backbones.weights.loading import LoadReport
from results import proportion_interval
from results.metrics import CORRUPTION_ERROR
from tasks.classification.classifier import ClassificationStep, pooling_notes
from tasks.classification.metric import ClassificationMetric
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.task import evaluation_of
from tasks.datasets.evaluation_images import require_evaluation_images_of
from tasks.datasets.imagenet_variants.corruptions import ALEXNET_ERRORS, category_of
from tasks.datasets.labelled import LabelledSplit, part_name
from tasks.outcome import TaskOutcome

FILE = "corruptions.csv"


@dataclass(frozen=True)
class CorruptionErrors:
    """Which of the images were taken for another class.

    parts: corruption and severity of each, P of them
    wrong: (P, N)
    """

    parts: Sequence[tuple[str, int]]
    wrong: np.ndarray

    @property
    def per_image(self) -> dict[str, np.ndarray]:
        """By metric a value in percent for each image, (N,), whose mean over images is the metric.

        mCE is the mean over the corruptions of the error, averaged over the severities, in relation to AlexNet's
        (Hendrycks and Dietterich 2019, arXiv 1903.12261); mean_error the same without that.
        """
        errors = {name: self._error(name) for name in dict.fromkeys(name for name, _ in self.parts)}
        relative = {name: error_N / ALEXNET_ERRORS[name] for name, error_N in errors.items()}
        return {
            "mCE": np.mean([*relative.values()], axis=0),
            "mean_error": np.mean([*errors.values()], axis=0),
            **{f"{CORRUPTION_ERROR}{name}": error_N for name, error_N in relative.items()},
        }

    def _error(self, corruption: str) -> np.ndarray:
        rows = [row for row, (name, _) in enumerate(self.parts) if name == corruption]
        return np.asarray(100.0 * self.wrong[rows].mean(axis=0))

    def write(self, directory: Path) -> None:
        """Write `corruptions.csv`: the error of each part in percent, with its 95 % interval over images."""
        images = self.wrong.shape[1]
        rows = []
        for (corruption, severity), wrong_N in zip(self.parts, self.wrong, strict=True):
            low, high = proportion_interval(int(wrong_N.sum()), images)
            error = (100 * float(wrong_N.mean()), 100 * low, 100 * high)
            rows.append([corruption, category_of(corruption), severity, images, *error])
        columns = ["corruption", "category", "severity", "images", "error", "ci_low", "ci_high"]
        with written_whole(directory / FILE) as file:
            file.write(pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n").encode())


@dataclass(frozen=True)
class CorruptedEvaluation:
    """What came of evaluating all parts: `numbers` are of the images, of so many, that could be read in each."""

    errors: CorruptionErrors
    numbers: np.ndarray
    images: int
    unreadable: dict[str, str]
    outcome: Outcome


def evaluate_corrupted(
    step: ClassificationStep,
    recipe: ClassificationRecipe,
    val: LabelledSplit,
    numbers: Sequence[int],
    batch_size: int,
    directory: Path,
    seed: int,
    title: str,
    series: EvaluationSeries,
) -> CorruptedEvaluation:
    """Classify the images of these numbers in each of `val.parts`, each part but once, however often this is begun.

    Raises DataError for images that cannot be read, unless the recipe allows them: then they count in no part.
    """
    wrong_PN = np.zeros((len(val.parts), len(val.paths)), dtype=bool)
    read_PN = np.zeros_like(wrong_PN)
    unreadable: dict[str, str] = {}
    outcomes = []
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images_of(
            {val.root / folder: _chosen(val.part(folder).paths, numbers) for folder in val.parts}
        )
    for row, folder in enumerate(val.parts):
        part = val.part(folder)
        metric = ClassificationMetric(len(val.classes), None, allow_unreadable=recipe.evaluation.allow_unreadable)
        name = part_name(folder)
        job = EvaluationJob(
            model=step,
            evaluation=evaluation_of(recipe, part, metric, batch_size, numbers),
            recipe=recipe,
            directory=directory / "checkpoints" / PARTS / name.replace("/", "-"),
            seed=seed,
            title=f"{title}, {name}",
        )
        job.directory.mkdir(parents=True, exist_ok=True)
        outcomes.append(series.run(job))
        read_PN[row, metric.numbers] = True
        wrong_PN[row, metric.numbers] = metric.per_image["top1"] == 0
        unreadable |= metric.unreadable
    readable = np.flatnonzero(read_PN.all(axis=0))
    parts = [(name, int(severity)) for name, severity in (part_name(folder).split("/") for folder in val.parts)]
    errors = CorruptionErrors(parts, wrong_PN[:, readable])
    return CorruptedEvaluation(errors, readable, len(numbers), unreadable, _united(outcomes))


def _chosen(paths: Sequence[Path], numbers: Sequence[int]) -> Sequence[Path]:
    """Those of these ascending numbers: where that is all, as they are, which of millions make no objects."""
    return paths if len(numbers) == len(paths) else [paths[number] for number in numbers]


def _united(outcomes: Sequence[Outcome]) -> Outcome:
    """What all parts together took; those before them, of which each has the sum, only once."""
    return replace(
        outcomes[-1],
        evaluation_seconds=sum(each.evaluation_seconds or 0.0 for each in outcomes),
        peak_memory_mb=max(each.peak_memory_mb or 0.0 for each in outcomes),
        metrics={},
    )


def outcome_of_corrupted(
    found: CorruptedEvaluation,
    network: nn.Module,
    val: LabelledSplit,
    load_report: LoadReport,
    parameters: int,
    cost: ForwardCost,
) -> TaskOutcome:
    """What the evaluation of all parts says. An image stands for all that was made of it, so intervals are over images
    and not over parts of one another."""
    per_image = found.errors.per_image
    lost = found.images - len(found.numbers)
    notes = [f"{lost:,} of {found.images:,} images left out, of which not all parts can be read."] if lost else []
    names = [*val.paths.names()]
    return TaskOutcome(
        metrics={name: float(values.mean()) for name, values in per_image.items()},
        image_names=[names[number] for number in found.numbers],
        per_image=per_image,
        per_class={},
        split=val.split,
        training=found.outcome,
        load_report=load_report,
        network=network,
        classes=val.classes,
        unreadable=found.unreadable,
        notes=[*notes, *([val.note] if val.note else []), *pooling_notes(network)],
        write=found.errors.write,
        parameters=parameters,
        cost=cost,
    )
