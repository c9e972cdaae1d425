"""Probing a frozen backbone: from the recipe to the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backbones.architectures import count_parameters
from backbones.errors import InputError, TryAgainError, is_out_of_memory
from backbones.forward_cost import forward_cost
from backbones.frozen import FrozenBackbone
from backbones.images.normalisation import Normalisation
from backbones.kept_features import Features
from backbones.registry import create_backbone
from backbones.training.agreement import first_decides
from backbones.training.interruption import repeating
from backbones.training.machine import cuda_version, device_name, device_type, driver_version, process_count
from backbones.training.measuring import peak_memory_mb, run_seconds
from backbones.training.outcome import Outcome
from backbones.training.precision import resolve_precision
from backbones.training.randomness import seed_generators
from backbones.training.same_lists import require_same_lists
from backbones.weights.checkpoints import Checkpoint
from results.metrics import PRIMARY
from tasks.classification.samples import view_under
from tasks.data_sets import open_labelled, opener_of, require_training_images
from tasks.datasets.evaluation_images import nothing_readable, require_evaluation_images, unreadable_image
from tasks.datasets.identity import Contents, kept_contents
from tasks.datasets.labelled import LabelledSplit, contents_of
from tasks.outcome import TaskOutcome
from tasks.probing.features import BLOCK, Shown, take_features
from tasks.probing.metric import Probed
from tasks.probing.probes import Kinds, Seen, Split, parts_of, probe, require_kinds, require_labels, wanted
from tasks.probing.recipe import ProbingRecipe

TRAINING, EVALUATION = "training", "evaluation"

_LOOKED_AT = 8192
"""Images whose features are looked at at once."""


def identify_data(recipe: ProbingRecipe, data: Path) -> Contents:
    """What tells which data set lies below `data`.

    Raises InputError for images in no layout of the recipe's, and for a data set that has nothing to learn from.
    """
    require_training_images(recipe.dataset, data)
    places = {"opener": opener_of(recipe.dataset)}
    return kept_contents("classification", data, places, lambda: contents_of(*open_labelled(recipe.dataset, data)))


def require_blocks(recipe: ProbingRecipe, network: nn.Module, backbone: str) -> None:
    """Raise InputError for features that `backbone` does not give, of which `network` is taken over."""
    require_kinds(recipe, FrozenBackbone(network, recipe.model.image_size).kinds, backbone)


@repeating(f"go on from the features that are kept, of {BLOCK:,} images at a time")
def fine_tune(
    recipe: ProbingRecipe,
    data: Path,
    backbone: str,
    checkpoint: Checkpoint | None,
    directory: Path,
    *,
    seed: int,
    normalisation: Normalisation,
) -> TaskOutcome:
    """Probe `backbone`, which stays as it is, under `recipe` on the labelled images below `data`.

    Features that an earlier probe took are taken from where it has left them. Raises InputError for unusable data,
    settings, weights or features.
    """
    train, val = open_labelled(recipe.dataset, data)
    require_same_lists(data, train.listing, val.listing)
    seed_generators(seed, "weights")
    model: Any = create_backbone(backbone, checkpoint, image_size=recipe.model.image_size)
    load_report, parameters = model.load_report, count_parameters(model)
    network = FrozenBackbone(model, recipe.model.image_size)
    require_kinds(recipe, network.kinds, backbone)
    require_labels(recipe, torch.tensor(train.labels), train.classes, seed)
    cost = forward_cost(network, recipe.model.image_size)
    if not recipe.evaluation.allow_unreadable:
        require_evaluation_images(data, val.paths)
    features, passes = take_features(
        *(recipe, network, _shown(recipe, train, val, seed), {"backbone": backbone}, directory),
        kinds=_wanted_kinds(recipe),
        backbone=backbone,
        seed=seed,
        normalisation=normalisation,
    )
    del network, model
    probed, numbers = first_decides(lambda: _probe(recipe, features, train, val, seed))
    labels = np.asarray(val.labels)[numbers]
    judged = probed.per_image[next(name for name in (*PRIMARY, *probed.per_image) if name in probed.per_image)]
    unreadable = first_decides(lambda: dict(features[EVALUATION].unreadable))
    return TaskOutcome(
        metrics={name: float(each.mean()) for name, each in probed.per_image.items()} | probed.metrics,
        image_names=[val.paths[number].relative_to(val.names_root).as_posix() for number in numbers.tolist()],
        per_image=probed.per_image,
        per_class={
            name: float(judged[labels == c].mean()) for c, name in enumerate(val.classes) if (labels == c).any()
        },
        split=val.split,
        training=_outcome(recipe, passes, first_decides(lambda: _unlearnt(features))),
        load_report=load_report,
        network=None,
        classes=train.classes,
        unreadable=unreadable,
        notes=list(dict.fromkeys(note for note in (train.note, val.note, *probed.notes) if note)),
        parameters=parameters,
        cost=cost,
    )


def _shown(recipe: ProbingRecipe, train: LabelledSplit, val: LabelledSplit, seed: int) -> dict[str, Shown]:
    """The images whose features are wanted, by name."""
    view = view_under(recipe.inference, recipe.model.image_size, recipe.data)
    plain = {
        TRAINING: Shown(train.paths, view, train.names_root),
        EVALUATION: Shown(val.paths, view, val.names_root),
    }
    draws = {
        _view_name(number): Shown(train.paths, view, train.names_root, (seed, number)) for number in range(recipe.views)
    }
    return plain | draws


def _wanted_kinds(recipe: ProbingRecipe) -> list[str]:
    """The names of the features that a probe takes."""
    return list(dict.fromkeys(part for each in wanted(recipe) for part in parts_of(*each)))


def _view_name(number: int) -> str:
    return f"{TRAINING}, view {number + 1},"


def _probe(
    recipe: ProbingRecipe, features: Mapping[str, Features], train: LabelledSplit, val: LabelledSplit, seed: int
) -> tuple[Probed, np.ndarray]:
    """What came of it, and which evaluation images count."""
    kept, asked = features[TRAINING], features[EVALUATION]
    if asked.unreadable and not recipe.evaluation.allow_unreadable:
        raise unreadable_image(*next(iter(asked.unreadable.items())))
    drawn = [features[_view_name(number)] for number in range(recipe.views)]
    is_readable = np.logical_and.reduce([each.readable for each in (kept, *drawn)])
    learnt, numbers = np.flatnonzero(is_readable), np.flatnonzero(asked.readable)
    if not len(numbers):
        raise nothing_readable(asked.unreadable)
    if not len(learnt):
        first, why = next(iter(_unlearnt(features).items()))
        raise InputError(f"no training image could be read, the first is {first}: {why}. Is the folder complete?")
    names = _wanted_kinds(recipe)
    _require_different(kept, names, learnt)
    for each, chosen, split in ((kept, learnt, train), (asked, numbers, val)):
        _require_directions(each, names, chosen, split)
    try:
        views = [_kinds(each, names, learnt) for each in drawn]
        seen = Seen(
            train=Split(_kinds(kept, names, learnt), _targets(train, learnt), views),
            val=Split(_kinds(asked, names, numbers), _targets(val, numbers)),
            classes=train.classes,
            seed=seed,
        )
        return probe(recipe, seen), numbers
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        held = sum(each.values[name].nbytes for each in (kept, asked, *drawn) for name in names)
        raise TryAgainError(
            f"out of memory: {held / 1e9:.1f} GB of features are to be on this device ({device_name()}) at once, and "
            "what is learnt from them beside. Take fewer (grid.views, grid.layers, grid.pools, features.layers), or a "
            f"device with more memory; features are kept. {next(iter(str(error).splitlines()), 'MemoryError')}"
        ) from error


def _require_different(features: Features, names: Sequence[str], numbers: np.ndarray) -> None:
    """Raise InputError for features that are the same for all training images: they tell nothing."""
    for name in names:
        values = features.values[name]
        if len(numbers) > 1 and all((values[number] == values[numbers[0]]).all() for number in numbers):
            raise InputError(
                f"the features ({name}) of all {len(numbers):,} training images are the same: nothing can be "
                "learnt from them. The weights may be damaged (`backbench inspect FILE`), or all images the same"
            )


def _require_directions(features: Features, names: Sequence[str], numbers: np.ndarray, split: LabelledSplit) -> None:
    """Raise InputError for features that are all 0 for an image: they have no angle to others."""
    for name in names:
        values = features.values[name]
        blocks = np.split(numbers, range(_LOOKED_AT, len(numbers), _LOOKED_AT))
        empty = np.concatenate([block[~values[block].any(1)] for block in blocks])
        if len(empty):
            raise InputError(
                f"{split.paths[empty[0]]}: its features ({name}) are all 0, which have no direction. The weights may "
                "be damaged: `backbench inspect FILE`"
            )


def _kinds(features: Features, names: Sequence[str], numbers: np.ndarray) -> Kinds:
    """Those of these images, on the device."""
    whole = len(numbers) == len(features.readable)
    values = {name: features.values[name] for name in names}
    chosen = values if whole else {name: each[numbers] for name, each in values.items()}
    return {
        name: torch.from_numpy(np.require(each, requirements="W")).to(device_type()) for name, each in chosen.items()
    }


def _targets(split: LabelledSplit, numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(split.labels)[numbers].astype(np.int64)).to(device_type())


def _unlearnt(features: Mapping[str, Features]) -> dict[str, str]:
    """The training images that could not be read, in whatever view, and why."""
    return {path: why for name, each in features.items() if name != EVALUATION for path, why in each.unreadable.items()}


def _outcome(recipe: ProbingRecipe, passes: Sequence[Outcome], corrupt: dict[str, str]) -> Outcome:
    """What the probe took, its passes over images and what followed."""
    last = Outcome(
        train_loss=None,
        images_per_second=None,
        peak_memory_mb=peak_memory_mb(),
        seconds=None,
        evaluation_seconds=run_seconds(),
        earlier_seconds=0.0,
        corrupt=corrupt,
        precision=resolve_precision(recipe.precision, device_type()),
        device=device_name(),
        cuda=cuda_version(),
        driver=driver_version(),
        processes=process_count(),
        step_images=(),
        metrics={},
    )
    return replace(last, peak_memory_mb=max([last.peak_memory_mb, *(each.peak_memory_mb for each in passes)]))
