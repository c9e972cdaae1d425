"""The probes on features, each from the training images' to the evaluation images' classes.   N images, C channels"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from backbones.errors import DivergedError, InputError
from backbones.frozen import MEAN, TOKEN
from backbones.training.progress_line import progress_line, with_progress
from backbones.training.randomness import mix
from tasks.probing import linear_grid, logistic
from tasks.probing.linear_grid import Head, Schedule, SideBySide
from tasks.probing.metric import Probed, percent_right
from tasks.probing.neighbours import nearest, votes
from tasks.probing.recipe import (
    FewLabels,
    FewLabelsRecipe,
    LinearGridRecipe,
    LogisticRegressionRecipe,
    NearestNeighboursRecipe,
    Pool,
    ProbingRecipe,
)

Kinds = Mapping[str, Tensor]
"""Features by their name, float32 (N, C) each."""


@dataclass(frozen=True)
class Split:
    """Images by their features, `kinds`, as evaluated, and classes, (N,); `views` are other views of the same."""

    kinds: Kinds
    targets: Tensor
    views: Sequence[Kinds] = ()


@dataclass(frozen=True)
class Seen:
    """What a probe learns from, and is asked for."""

    train: Split
    val: Split
    classes: Sequence[str]
    seed: int


def wanted(recipe: ProbingRecipe) -> list[tuple[Pool, int]]:
    """Which features a probe takes: pool and number of blocks of each."""
    if isinstance(recipe, LinearGridRecipe):
        return [(pool, layers) for layers in recipe.grid.layers for pool in recipe.grid.pools]
    assert isinstance(recipe, NearestNeighboursRecipe | LogisticRegressionRecipe | FewLabelsRecipe)
    return [(recipe.features.pool, recipe.features.layers)]


def parts_of(pool: Pool, layers: int) -> list[str]:
    """The names of the backbone's features that stand side by side in these."""
    tokens = [f"{TOKEN}{place}" for place in range(1, layers + 1)]
    means = [f"{MEAN}{place}" for place in range(1, layers + 1)]
    return {"token": tokens, "avg": means, "token_and_avg": [*tokens, means[0]]}[pool]


def require_kinds(recipe: ProbingRecipe, given: Sequence[str], backbone: str) -> None:
    """Raise InputError for features that a backbone does not give, which gives those of these names."""
    section = "grid.pools" if isinstance(recipe, LinearGridRecipe) else "features.pool"
    for pool, layers in wanted(recipe):
        missing = [name for name in parts_of(pool, layers) if name not in given]
        if not missing:
            continue
        if f"{TOKEN}1" not in given and pool != "avg":
            fit = "[avg]" if section == "grid.pools" else "avg"
            raise InputError(f'key "{section}": "{pool}", and {backbone} has no class token. Use --set {section}={fit}')
        if f"{MEAN}1" not in given and pool != "token":
            fit = "[token]" if section == "grid.pools" else "token"
            raise InputError(
                f'key "{section}": "{pool}", and of {backbone} the class token alone is taken, by which it pools. '
                f"Use --set {section}={fit}"
            )
        section = "grid.layers" if isinstance(recipe, LinearGridRecipe) else "features.layers"
        most = sum(name.startswith(missing[0].rstrip("0123456789")) for name in given)
        what = "class tokens" if missing[0].startswith(TOKEN) else "means"
        fit = f"[{most}]" if section == "grid.layers" else str(most)
        raise InputError(
            f'key "{section}": {layers}, and of {backbone} {what} of {most} block(s) can be taken with this pool. '
            f"Use --set {section}={fit}"
        )


def require_labels(recipe: ProbingRecipe, targets_N: Tensor, classes: Sequence[str], seed: int) -> None:
    """Raise InputError for training images of which a probe could learn nothing, before the backbone has seen any."""
    if isinstance(recipe, FewLabelsRecipe):
        _require_images(max(recipe.few_labels.per_class), targets_N, classes)
    elif isinstance(recipe, LinearGridRecipe | LogisticRegressionRecipe):
        hold_out(targets_N, recipe.held_out.share, seed)


def _require_images(most: int, targets_N: Tensor, classes: Sequence[str]) -> None:
    """Raise InputError for a class of fewer images than are to be drawn of each."""
    sizes = np.bincount(targets_N.cpu().numpy(), minlength=len(classes))
    if (few := np.flatnonzero((sizes < most) & (sizes > 0))).size:
        fitting = [count for count in get_args(FewLabels) if count <= sizes[few].min()]
        raise InputError(
            f'key "few_labels.per_class": {most} images of each class, and {classes[few[0]]} has {sizes[few[0]]} '
            f"to train on. Use --set few_labels.per_class={str(fitting).replace(' ', '')}"
        )


def select(kinds: Kinds, pool: Pool, layers: int) -> Tensor:
    """The features of so many blocks side by side, (N, C)."""
    parts = [kinds[name] for name in parts_of(pool, layers)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def probe(recipe: ProbingRecipe, seen: Seen) -> Probed:
    """Learn from the training images, as the recipe's task does, and say what it makes of the others.

    Raises InputError for features and classes of which nothing can be learnt.
    """
    if isinstance(recipe, NearestNeighboursRecipe):
        return _nearest_neighbours(recipe, seen)
    if isinstance(recipe, LinearGridRecipe):
        return _linear_grid(recipe, seen)
    if isinstance(recipe, LogisticRegressionRecipe):
        return _logistic_regression(recipe, seen)
    assert isinstance(recipe, FewLabelsRecipe)
    return _few_labels(recipe, seen)


def _nearest_neighbours(recipe: NearestNeighboursRecipe, seen: Seen) -> Probed:
    pool, layers = wanted(recipe)[0]
    kept, queries = (select(split.kinds, pool, layers) for split in (seen.train, seen.val))
    most = min(max(recipe.knn.neighbours), len(kept))
    similarities_NK, indices_NK = (found.cpu() for found in nearest(queries, kept, most))
    labels_NK = seen.train.targets.cpu()[indices_NK]
    per_image, notes = {}, []
    for count in recipe.knn.neighbours:
        used = min(count, most)
        predictions_N = votes(similarities_NK[:, :used], labels_NK[:, :used], len(seen.classes), recipe.knn.temperature)
        per_image[f"knn{count}_top1"] = percent_right(predictions_N, seen.val.targets.cpu())
        if used < count:
            notes.append(f"knn{count}_top1 is of {used} neighbours: there are no more training images")
    return Probed(per_image, notes=notes)


def hold_out(targets_N: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of images to train on and to choose by, ascending, on the device: of each class alike, of none all.

    Raises InputError where no class has an image to spare.
    """
    targets = targets_N.cpu().numpy()
    rng = np.random.default_rng(mix(seed, "held out"))
    order = np.lexsort((rng.random(len(targets)), targets))
    places = np.floor((np.arange(len(targets) + 1)) * share + rng.random())
    held = np.zeros(len(targets), dtype=bool)
    held[order[np.diff(places) > 0]] = True
    counts, taken = np.bincount(targets), np.bincount(targets[held], minlength=int(targets.max()) + 1)
    firsts = order[np.unique(targets[order], return_index=True)[1]]
    held[firsts[(counts == taken)[targets[firsts]]]] = False
    if not held.any():
        if counts.max() == 1:
            raise InputError(
                f'key "held_out.share": each of {len(targets):,} classes has one training image, and none to hold out. '
                "Take a probe that holds none out: knn, or few_labels with --set few_labels.per_class=[1]"
            )
        raise InputError(
            f'key "held_out.share": {share:g} of {len(targets):,} training images in {(counts > 0).sum():,} classes '
            "are none. Give a larger share, or more images of each class"
        )
    learnt, chosen_by = (torch.from_numpy(np.flatnonzero(each)).to(targets_N.device) for each in (~held, held))
    return learnt, chosen_by


def _linear_grid(recipe: LinearGridRecipe, seen: Seen) -> Probed:
    grid = recipe.grid
    schedule = Schedule(grid.iterations, grid.batch_size)
    learnt, chosen_by = hold_out(seen.train.targets, recipe.held_out.share, seen.seed)
    heads = _train(learnt, seen, schedule, grid.rates, wanted(recipe), "heads")
    held = {_named(*each): _side_by_side([seen.train.kinds], *each, chosen_by) for each in wanted(recipe)}
    counts = linear_grid.right(heads, held, seen.train.targets[chosen_by])
    best = heads[int(counts.argmax())]
    _require_finite(best, f"of {len(heads)} heads none")
    pool, layers = next(each for each in wanted(recipe) if _named(*each) == best.features)
    everything = torch.arange(len(seen.train.targets), device=seen.train.targets.device)
    (head,) = _train(everything, seen, schedule, [best.rate], [(pool, layers)], "the chosen head")
    _require_finite(head, "the chosen head, trained again on all images, no longer")
    logits_NK = torch.addmm(head.bias, select(seen.val.kinds, pool, layers), head.weight.T)
    share = 100 * int(counts.max()) / len(chosen_by)
    lost = f" ({int((counts < 0).sum())} have diverged)" if (counts < 0).any() else ""
    note = (
        f"of {len(heads)} heads{lost} that of learning rate {best.rate:g} on {best.features} was chosen, with "
        f"{share:.2f} % of {len(chosen_by):,} held-out training images when trained on the other {len(learnt):,}, and "
        "trained again on all"
    )
    return Probed({"linear_grid_top1": percent_right(logits_NK.argmax(1), seen.val.targets)}, notes=[note])


def _require_finite(head: Head, which: str) -> None:
    if not head.is_finite:
        raise DivergedError(
            f'key "grid.rates": {which} has finite weights: training has diverged. Give lower rates, or look at the '
            "backbone's weights: `backbench inspect FILE`"
        )


def _named(pool: Pool, layers: int) -> str:
    blocks = "the last block" if layers == 1 else f"the last {layers} blocks"
    what = {"token": "the class token", "avg": "the mean", "token_and_avg": "class token and mean"}[pool]
    return f"{what} of {blocks}"


def _side_by_side(views: Sequence[Kinds], pool: Pool, layers: int, numbers: Tensor) -> SideBySide:
    parts = [[view[name] for name in parts_of(pool, layers)] for view in views]
    return SideBySide(parts, numbers)


def _train(
    numbers: Tensor,
    seen: Seen,
    schedule: Schedule,
    rates: Sequence[float],
    chosen: Sequence[tuple[Pool, int]],
    title: str,
) -> list[Head]:
    """Heads on the training images of these numbers, or on their other views where there are any."""
    views = seen.train.views or [seen.train.kinds]
    features = {_named(*each): _side_by_side(views, *each, numbers) for each in chosen}
    with progress_line(title, schedule.iterations, "iterations") as line:
        return linear_grid.train(
            features,
            seen.train.targets[numbers].repeat(len(views)),
            len(seen.classes),
            schedule,
            seen.seed,
            rates,
            lambda done, of: line.update(done),
        )


def _logistic_regression(recipe: LogisticRegressionRecipe, seen: Seen) -> Probed:
    pool, layers = wanted(recipe)[0]
    train_NC, val_NC = (_unit(select(split.kinds, pool, layers)) for split in (seen.train, seen.val))
    strengths, classes = recipe.regression.strengths, len(seen.classes)
    learnt, chosen_by = hold_out(seen.train.targets, recipe.held_out.share, seen.seed)
    notes = []
    found = logistic.solve(train_NC[learnt], seen.train.targets[learnt], classes, strengths)
    counts, open_ends = [], []
    for each in with_progress(found, "strengths", len(strengths), "of the regression"):
        predictions_N = each.logits(train_NC[chosen_by]).argmax(1)
        counts.append(int((predictions_N == seen.train.targets[chosen_by]).sum()))
        open_ends += [] if each.converged else [each.strength]
    best = strengths[int(np.argmax(counts))]
    (refitted,) = logistic.solve(train_NC, seen.train.targets, classes, [best])
    notes.append(
        f"of {len(strengths)} strengths C = {best:.4g} was chosen, with {100 * max(counts) / len(chosen_by):.2f} % of "
        f"{len(chosen_by):,} held-out training images when solved on the other {len(learnt):,}, and solved again on all"
    )
    notes += _told_open(len(open_ends) + (not refitted.converged), len(strengths) + 1)
    return Probed({"logistic_top1": percent_right(refitted.logits(val_NC).argmax(1), seen.val.targets)}, notes=notes)


def _unit(features_NC: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features_NC, dim=1)


def _few_labels(recipe: FewLabelsRecipe, seen: Seen) -> Probed:
    settings, (pool, layers) = recipe.few_labels, wanted(recipe)[0]
    train_NC, val_NC = (_unit(select(split.kinds, pool, layers)) for split in (seen.train, seen.val))
    _require_images(max(settings.per_class), seen.train.targets, seen.classes)
    draws = [(count, draw) for count in settings.per_class for draw in range(settings.draws)]
    right: dict[int, list[np.ndarray]] = {count: [] for count in settings.per_class}
    open_ends = 0
    for count, draw in with_progress(draws, "draws", len(draws), "of few labels"):
        numbers = _drawn(seen.train.targets, count, mix(seen.seed, "labels", draw))
        (found,) = logistic.solve(
            train_NC[numbers], seen.train.targets[numbers], len(seen.classes), [settings.strength]
        )
        open_ends += not found.converged
        right[count].append(percent_right(found.logits(val_NC).argmax(1), seen.val.targets))
    per_image = {f"labels{count}_top1": np.mean(each, axis=0) for count, each in right.items()}
    spreads = {
        f"labels{count}_spread": float(np.std([draw.mean() for draw in each], ddof=1))
        for count, each in right.items()
        if len(each) > 1
    }
    notes = [f"means over {settings.draws} draws of labelled images"]
    return Probed(per_image, spreads, notes + _told_open(open_ends, len(draws)))


def _told_open(count: int, total: int) -> list[str]:
    """What a record says of regressions that were not solved to the end."""
    return [f"{count} of {total} regressions ended before their derivatives were near 0"] if count else []


def _drawn(targets_N: Tensor, count: int, seed: int) -> Tensor:
    """The numbers of so many images of each class; fewer of a draw are among more of the same."""
    targets: Any = targets_N.cpu().numpy()
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(targets)), targets))
    starts = np.searchsorted(targets[order], targets[order])
    return torch.from_numpy(np.sort(order[np.arange(len(targets)) - starts < count])).to(targets_N.device)
