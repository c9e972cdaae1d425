"""Planned evaluations of networks that are trained already, here or elsewhere."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.trained.file import Description
from backbones.training.settings import Recipe, deciding_settings, deviations, read_overrides, validate
from benchmarks.planning.cells import PlannedCell
from benchmarks.planning.recipe import LoadedRecipe, list_recipes, load_recipe
from benchmarks.planning.trained_runs import FoundNetwork, find_trained
from results import Record
from results.measurements import LIMIT
from tasks.registry import LEAVE_NETWORKS, PRETRAINING, evaluates_in_fp32, settings_kind

if TYPE_CHECKING:
    from backbones.weights.origin import Declared
    from tasks.trained import PublishedNetwork

LATER_SECTIONS = ("data", "inference", "evaluation", "runtime", "dataset", "precision")
"""What of a recipe can be another when a trained network is evaluated; all else was decided by its training."""

ELSEWHERE = "elsewhere"
"""What records call the place where a network was trained of whose training nothing is known."""


@dataclass(frozen=True)
class PlannedEvaluation(PlannedCell):
    """An evaluation to be. `checkpoint` is the file of the whole network, trunk and head.

    published: what was measured of this very file, by metric, if it is evaluated as it was then
    known: what the file says of it, or what it is recognised as
    limit: how many images are to be looked at; None for all
    sha256: of the file, where its weights are not to travel with the plan
    """

    published: Mapping[str, float] = field(default_factory=dict)
    known: "Description | PublishedNetwork | None" = None
    limit: int | None = None
    sha256: str | None = None

    @property
    def trained(self) -> str:  # type: ignore[override]
        """The key of the run that trained the network, or `ELSEWHERE`."""
        return str(self.known.run["key"]) if isinstance(self.known, Description) else ELSEWHERE

    def without_weights(self) -> "PlannedEvaluation":
        """The plan for the other processes of a job, each of which reads the file for itself."""
        return replace(self, weights=None, sha256=self._sha256)

    @cached_property
    def _sha256(self) -> str | None:
        return self.sha256 or super()._sha256

    def protocol_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Those of the training as well, where it is known; else what the evaluation alone decides, and the file: such
        numbers stand beside others, and are not ranked among them."""
        settings = deciding_settings(recipe)
        if not isinstance(self.known, Description):
            size = {"image_size": settings["model"]["image_size"]}
            own: dict[str, Any] = {name: settings[name] for name in ("inference", "data") if name in settings}
            settings = {"trained": f"{ELSEWHERE}, {self._sha256}", "model": size, **own}
        return settings | ({LIMIT: self.limit} if self.limit else {})

    def on(self, images: int | None) -> "PlannedEvaluation":
        """The plan for a data set with so many images to evaluate on: a limit that leaves none out is none."""
        if self.limit is None or images is None or self.limit < images:
            return self
        without = tuple(line for line in self.deviations if line != _limited(self.limit))
        return replace(self, limit=None, deviations=without)

    def on_data(self, name: str) -> "PlannedEvaluation":
        """The plan for the data set of that name.

        A network that was trained on other images than its recipe speaks of, such as a part of them, deviates by that
        wherever it is evaluated but on those that belong to them.
        """
        if not isinstance(self.known, Description):
            return self
        trained_on, reference = self.known.run.get("dataset"), self.known.recipe["dataset"]
        if trained_on in (None, reference, name):
            return self
        line = f"trained on {trained_on} (reference {reference})"
        return replace(self, deviations=(*self.deviations, line))

    def _is_answered_by_earlier(self, record: Record, decided: Mapping[str, Any]) -> bool:
        """No version evaluated what was trained before it wrote plans."""
        return False

    @property
    def normalisation(self) -> Normalisation:
        """How the network's pixels were normalised when it was trained."""
        if isinstance(self.known, Description):
            return Normalisation(**self.known.normalisation)
        assert self.known is not None
        return self.known.normalisation

    def decided_by(self, sha256: str | None, normalisation: Normalisation) -> dict[str, Any]:
        """All that decides its numbers but the data, its weights being those."""
        return {
            "recipe": deciding_settings(self.recipe),
            "backbone": self.backbone,
            "trained": sha256,
            **({"part": self.part} if self.part else {}),
            "normalisation": normalisation.as_dict(),
            **({LIMIT: self.limit} if self.limit else {}),
        }


def _limited(limit: int) -> str:
    """A limit as a deviation."""
    return f"{LIMIT}={limit} (reference all images)"


def plan_evaluation(
    recipe: str | None,
    data: Path,
    weights: Path,
    *,
    overrides: list[str],
    declared: "Declared | None" = None,
    backbone: str | None = None,
    limit: int | None = None,
) -> PlannedEvaluation:
    """Plan the evaluation of a run's weights, or of a file that others made.

    Under a run's own recipe; what `recipe` and the overrides have of `LATER_SECTIONS` comes before it. Reads the header
    of the file. Raises InputError for a wrong recipe or override, and for weights of no network that can be evaluated.
    """
    found = find_trained(weights)
    if found.known is None:
        return _of_file(found, recipe, data, overrides, declared, backbone, limit)
    return _of_run(found, found.known, recipe, data, overrides, declared, backbone, limit)


def _of_file(
    found: FoundNetwork,
    recipe: str | None,
    data: Path,
    overrides: list[str],
    declared: "Declared | None",
    backbone: str | None,
    limit: int | None,
) -> PlannedEvaluation:
    from backbones.weights.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(found.file, part=found.part)
    if recipe is None:
        unknown = "is no run's, so what to evaluate it on is not known. Name a recipe, with --recipe"
        raise InputError(f"{found.file}: {unknown}")
    asked = load_recipe(recipe, [*_room_for(overrides), *overrides], LEAVE_NETWORKS)
    known: PublishedNetwork = (
        LEAVE_NETWORKS[asked.recipe.task].module("published").recognise(checkpoint, asked.recipe, backbone)
    )
    own = _as_overrides(known.settings)
    size = _given(overrides, "model", "image_size")
    sized = _as_overrides(known.of_another_size) if size not in (None, known.settings.get("model.image_size")) else []
    loaded = load_recipe(recipe, [*own, *sized, *overrides], LEAVE_NETWORKS)
    _require_precision(loaded.recipe.task, overrides)
    settings = loaded.recipe
    if evaluates_in_fp32(settings.task):
        settings = settings.model_copy(update={"precision": "auto"})
    is_as_published = _measured_by(loaded.recipe) == _measured_by(load_recipe(recipe, own, LEAVE_NETWORKS).recipe)
    return PlannedEvaluation(
        recipe_name=loaded.name,
        recipe=settings,
        deviations=(
            *loaded.deviations(settings),
            f"trained={ELSEWHERE} (reference here)",
            *([_limited(limit)] if limit else []),
        ),
        data=data,
        backbone=known.backbone,
        checkpoint=found.file,
        seed=0,
        declared=declared,
        part=checkpoint.part,
        weights=checkpoint,
        published=known.expected if is_as_published and not limit else {},
        known=known,
        limit=limit,
    )


def _as_overrides(settings: Mapping[str, object]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def _room_for(overrides: list[str]) -> list[str]:
    """What lets a call say how large images become before they are cropped: to the file's size, not to the recipe's."""
    resized = _given(overrides, "inference", "resized")
    return [f"model.image_size={resized}"] if isinstance(resized, int) else []


def _given(overrides: list[str], section: str, name: str) -> object:
    """What a call says of a setting; None for nothing."""
    settings = read_overrides(overrides).get(section)
    return settings.get(name) if isinstance(settings, Mapping) else None


def _measured_by(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the number of a network that is trained already, but for the last digits."""
    settings = deciding_settings(recipe)
    return {name: settings.get(name) for name in ("dataset", "model", "inference")}


def _of_run(
    found: FoundNetwork,
    description: Description,
    recipe: str | None,
    data: Path,
    overrides: list[str],
    declared: "Declared | None",
    backbone: str | None,
    limit: int | None,
) -> PlannedEvaluation:
    run, file = description.run, found.file
    if description.task not in LEAVE_NETWORKS:
        own = "a pre-training has no head that could be evaluated: fine-tune it, with `backbench run`"
        raise InputError(
            f"{file}: {own if description.task == PRETRAINING else f'task {description.task} is not known'}"
        )
    if backbone not in (None, run["backbone"]):
        raise InputError(f"--backbone {backbone}: {file} is a run's, of {run['backbone']}. Leave --backbone out")
    trained = validate(settings_kind(description.task), description.recipe, f"{file}, recipe")
    loaded = load_recipe(recipe, [], LEAVE_NETWORKS) if recipe else None
    if loaded and loaded.recipe.task != description.task:
        raise InputError(
            f'recipe {recipe}: its task is "{loaded.recipe.task}", and {file} was trained for {description.task}. Name '
            "a recipe of that, or leave --recipe out: the run has its own"
        )
    settings = evaluation_settings(trained, loaded, overrides, file)
    return PlannedEvaluation(
        recipe_name=run["recipe"],
        recipe=settings,
        deviations=(*_deviations(settings, trained, run, loaded), *([_limited(limit)] if limit else [])),
        data=data,
        backbone=run["backbone"],
        checkpoint=file,
        seed=run["seed"],
        declared=declared,
        part=found.part,
        known=description,
        limit=limit,
    )


def evaluation_settings(trained: Recipe, loaded: LoadedRecipe | None, overrides: list[str], file: Path) -> Recipe:
    """A run's settings, over which the later sections of another recipe are laid, and overrides of such.

    How its machine went about the training says nothing of how this one is to evaluate.
    """
    from omegaconf import OmegaConf

    given = read_overrides(overrides)
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key.partition(".")[0] not in LATER_SECTIONS:
            raise InputError(
                f"--set {text}: {key} was decided when {file} was trained. An evaluation can have other settings of "
                f"{', '.join(LATER_SECTIONS)}"
            )
    _require_precision(trained.task, overrides)
    settings = trained.model_dump(mode="json", exclude={"runtime"})
    if loaded:
        asked = loaded.recipe.model_dump(mode="json")
        if asked["dataset"] != settings["dataset"]:
            settings |= {"expect": {}, "expect_of": None}
        settings |= {name: asked[name] for name in LATER_SECTIONS if name in asked and name != "precision"}
    merged = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(settings), given), resolve=True)
    assert isinstance(merged, dict)
    chosen = validate(type(trained), {str(name): value for name, value in merged.items()}, f"{file}, with --set")
    return chosen.model_copy(update={"precision": trained.precision}) if evaluates_in_fp32(trained.task) else chosen


def _require_precision(task: str, overrides: list[str]) -> None:
    """Raise InputError for a precision that makes no difference, and would only be said to."""
    asked = read_overrides(overrides).get("precision")
    if asked in ("bf16", "fp16") and evaluates_in_fp32(task):
        raise InputError(f"--set precision={asked}: networks of {task} compute in fp32 here always. Leave it out")


def _was_given_a_precision(run: Mapping[str, Any]) -> bool:
    return any(line.startswith("precision=") for line in run["deviations"])


def _deviations(
    settings: Recipe, trained: Recipe, run: Mapping[str, Any], loaded: LoadedRecipe | None
) -> tuple[str, ...]:
    """Where settings depart from the reference: what its record says of the run, but for what is otherwise now.

    The recipe of another data set is the reference for what it decides.
    A run's settings have the precision that the machine chose, which does not deviate.
    """
    if settings.precision == trained.precision and not _was_given_a_precision(run):
        settings, trained = (each.model_copy(update={"precision": "auto"}) for each in (settings, trained))
    if loaded and loaded.reference and loaded.reference.dataset != trained.dataset:
        of_training = (line for line in run["deviations"] if re.split(r"[.=]", line)[0] not in LATER_SECTIONS)
        asked = {name: getattr(loaded.reference, name) for name in LATER_SECTIONS if hasattr(loaded.reference, name)}
        return (*of_training, *deviations(settings, settings.model_copy(update=asked | {"precision": "auto"})))
    name = run["recipe"]
    if name not in list_recipes():
        return (*run["deviations"], *deviations(settings, trained))
    then, now = (load_recipe(name, [], LEAVE_NETWORKS).deviations(each) for each in (trained, settings))
    return (*(line for line in run["deviations"] if line not in then), *now)
