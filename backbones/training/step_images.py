"""How many images share batch norm's statistics and a draw of mixup.

Accumulation and the number of processes decide it, though the images of an update stay the same.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from backbones.errors import InputError
from backbones.running_statistics import normalises_over_images
from backbones.training.checkpointing import Tally
from backbones.training.machine import process_rank
from backbones.training.settings import TrainingRecipe

MIXUP_REFERENCE = (16, 256)
"""The fewest and the most images of a draw of mixup that count as the reference's.

timm's Mixup draws once a call, for the images of one process's step. The reference has 32 for ViT-B and L and 16 for H
(facebookresearch/mae, FINETUNE.md, "Fine-tuning": its --batch_size is a GPU's).
"""

_SYNCHRONISED = {"SyncBatchNorm", "NaiveSyncBatchNorm", "InPlaceABNSync"}
"""PyTorch's, detectron2's and inplace_abn's batch norm over all processes; what derives from them counts as well."""


@dataclass(frozen=True)
class StepImages:
    """How many images share what, from one update of the weights on.

    since:      the updates before it
    per_step:   images of a step, over all processes
    batch_norm: images that batch norm's statistics rest on, the fewest of all its layers; None for a model without
    mixup:      images of a draw of mixup or cutmix; None without
    """

    since: int
    per_step: int
    batch_norm: int | None
    mixup: int | None


def count_step_images(model: nn.Module, recipe: TrainingRecipe, accumulation: int, processes: int) -> StepImages:
    """What holds for a model in training mode, whatever batch norm it has or the like; frozen layers do not count."""
    step = recipe.optimizer.batch_size // accumulation
    norms = [
        step if _is_synchronised(module) else step // processes
        for module in model.modules()
        if normalises_over_images(module)
    ]
    return StepImages(0, step, min(norms, default=None), step // processes if recipe.mixes_images else None)


def _is_synchronised(norm: nn.Module) -> bool:
    return any(kind.__name__ in _SYNCHRONISED for kind in type(norm).__mro__)


def step_deviations(parts: Sequence[StepImages], batch_norm: int) -> list[str]:
    """Where the parts of a run depart from the reference, such as `batch norm over 4 images (reference 16)`.

    `batch_norm` is how many images its statistics rest on in the reference.
    """
    norms = _distinct(part.batch_norm for part in parts)
    draws = _distinct(part.mixup for part in parts)
    fewest, most = MIXUP_REFERENCE
    found = []
    if any(images != batch_norm for images in norms):
        found.append(f"batch norm over {_in_turn(norms)} images (reference {batch_norm})")
    if any(not fewest <= images <= most for images in draws):
        found.append(f"mixup drawn for {_in_turn(draws)} images (reference {fewest} to {most})")
    return found


def step_notes(parts: Sequence[StepImages]) -> list[str]:
    """What a reader has to know of a run whose parts differ, or of whose beginning nothing is known."""
    notes = []
    if parts and parts[0].since and (parts[0].batch_norm or parts[0].mixup):
        notes.append(f"not known: how many images shared batch norm or mixup before update {parts[0].since + 1}")
    for what, counts in (
        ("batch norm over", [(part.since, part.batch_norm) for part in parts]),
        ("mixup drawn for", [(part.since, part.mixup) for part in parts]),
    ):
        if len(_distinct(images for _, images in counts)) > 1:
            told = ", ".join(f"{images} images from update {since + 1} on" for since, images in counts)
            notes.append(f"resumed otherwise: {what} {told}")
    return notes


def _distinct(counts: Iterable[int | None]) -> list[int]:
    return list(dict.fromkeys(count for count in counts if count is not None))


def _in_turn(counts: Sequence[int]) -> str:
    return " then ".join(str(count) for count in counts)


class StepImagesHook(Hook):
    """Keeps in the tally what holds for each part of a run, and refuses to go on with numbers that would differ.

    A checkpoint of an earlier version, which does not tell, is gone on with. All processes decide by the checkpoint.
    """

    priority = "HIGHEST"

    def __init__(
        self, directory: Path, tally: Tally, now: StepImages, *, batch_norm: int, accumulation: int, allow_change: bool
    ) -> None:
        self.directory, self.tally, self.now = directory, tally, now
        self.batch_norm, self.accumulation, self.allow_change = batch_norm, accumulation, allow_change

    @property
    def parts(self) -> tuple[StepImages, ...]:
        """The parts of the run so far, in which steps differed."""
        return tuple(StepImages(**part) for part in self.tally.step_images)

    def before_train(self, runner: Runner) -> None:
        if runner.iter >= runner.max_iters:
            return
        now = replace(self.now, since=runner.iter // self.accumulation)
        if self.parts:
            before = self.parts[-1]
            if not self.allow_change:
                self._require_same(before, now)
            if replace(before, since=now.since) == now:
                return
        self.tally.step_images.append(asdict(now))
        if process_rank() == 0:
            for deviation in step_deviations(self.parts, self.batch_norm):
                print(f"deviates: {deviation}", file=sys.stderr, flush=True)

    def _require_same(self, before: StepImages, now: StepImages) -> None:
        changes = []
        if before.batch_norm not in (None, now.batch_norm):  # earlier versions did not find all such layers
            changes.append(f"batch norm over {now.batch_norm} images instead of {before.batch_norm}")
        if _as_counted(before.mixup) != _as_counted(now.mixup):
            changes.append(f"mixup drawn for {now.mixup} images instead of {before.mixup}")
        if changes:
            raise InputError(
                f"{self.directory}: going on like this would change the numbers: {', '.join(changes)}. Choose "
                "runtime.batch_per_device and the number of processes as they were (steps of "
                f"{before.per_step} images; --set runtime.activation_checkpointing=true needs less memory for them), "
                "or insist with --set runtime.allow_changed_steps=true: the record then tells both"
            )


def _as_counted(mixup: int | None) -> int | None:
    """The same number for all draws that count as equal."""
    fewest, most = MIXUP_REFERENCE
    return fewest if mixup is not None and fewest <= mixup <= most else mixup
