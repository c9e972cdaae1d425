"""Planned cells: what a run is going to be, said before any image is read or any model is built."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.pretraining.settings import MaskedAutoencoderRecipe
from backbones.training.later import later_settings
from backbones.training.settings import Recipe, deciding_settings, protocol
from backbones.weights.deviating import OF_PRETRAINING
from backbones.weights.directories import locate, whole_autoencoder
from backbones.weights.references import SEPARATOR, split_part
from benchmarks.planning.known_weights import KnownWeights
from benchmarks.planning.recipe import load_recipe
from benchmarks.planning.records import complete
from results import Record, ResultsError, cell_key, find_runs
from results.code import code_digest
from results.latest import latest_run
from results.record import deciding_versions
from tasks.data_sets import pretraining_name
from tasks.registry import PRETRAINING, TASKS

if TYPE_CHECKING:
    from backbones.registry import BackboneEntry
    from backbones.weights.checkpoints import Checkpoint
    from backbones.weights.origin import Declared


@dataclass(frozen=True)
class PlannedCell:
    """One run to be: under which recipe, on which data, of which backbone, with which seed.

    It has no key: that takes the data's fingerprint, and is made where the cell is carried out.

    recipe_name: as the record prints it
    recipe:      its settings, precision as written
    deviations:  where they depart from the reference recipe
    data:        the data set's root folder
    backbone:    its name; of a pre-training, the autoencoder's
    checkpoint:  the file or folder of its weights; of a pre-training, what it begins with
    recipe_deviations: those that the recipe has without overrides
    part:        the part of the file that was chosen, "teacher.backbone"; "" where what fits decides
    declared:    what the call says of them, for the tables; it decides no number but by the method's normalisation
    weights:     what the file holds, where it has been read
    """

    recipe_name: str
    recipe: Recipe
    deviations: tuple[str, ...]
    data: Path
    backbone: str
    checkpoint: Path | None
    seed: int
    declared: "Declared | None" = None
    recipe_deviations: tuple[str, ...] = ()
    part: str = ""
    weights: "Checkpoint | None" = field(default=None, compare=False, repr=False)

    trained = ""
    """Where the network was trained that this only evaluates; empty where it is to be trained."""

    def protocol_settings(self, recipe: Recipe) -> dict[str, Any]:
        """The settings that have to agree before its number, of its recipe as it was run, may be compared."""
        return deciding_settings(recipe)

    def with_weights(self) -> "PlannedCell":
        """The plan with its weights read, if it has any; their digest is taken from an earlier look at the same file.

        Raises InputError as `read_checkpoint` does.
        """
        return replace(self, weights=self._weights)

    @property
    def missing(self) -> list[Path]:
        """What it needs and is not there: a folder of data, a file of weights."""
        wanted = [(self.data, self.data.is_dir())]
        wanted += [(self.checkpoint, self.can_be_read)] if self.checkpoint else []
        return [path for path, is_there in wanted if not is_there]

    @property
    def can_be_read(self) -> bool:
        """Whether its weights, if it has any, lie in a file, or in a folder that is known for it."""
        if self.checkpoint is None or self.checkpoint.is_file():
            return True
        try:
            return bool(locate(self.checkpoint).files)
        except InputError:
            return False

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits of all that decides its numbers but the data, as its records have them in `plan`.

        Raises InputError as `normalisation` does.
        """
        return cell_key(self._decided)

    @cached_property
    def _decided(self) -> dict[str, Any]:
        return self.decided_by(self._sha256, self.normalisation)

    def decided_by(self, sha256: str | None, normalisation: Normalisation) -> dict[str, Any]:
        """All that decides its numbers but the data, its weights being those.

        ImageNet's normalisation has no part in it, as when all had that.
        """
        return {
            "recipe": deciding_settings(self.recipe),
            "backbone": self.backbone,
            "checkpoint": sha256,
            **({"part": self.part} if self.part else {}),
            "seed": self.seed,
            **({} if normalisation == IMAGENET else {"normalisation": normalisation.as_dict()}),
        }

    def key_of(self, name: str, fingerprint: str) -> str:
        """The key of its run on the data set of that name and fingerprint.

        Reads weights that are not known from before. Raises InputError as `normalisation` does.
        """
        return self.key_on(self._decided, name, fingerprint)

    @staticmethod
    def key_on(decided: Mapping[str, Any], name: str, fingerprint: str) -> str:
        """The key of a run that `decided_by` has decided, on the data set of that name and fingerprint."""
        return cell_key({**decided, "recipe": decided["recipe"] | {"dataset": name}, "data": fingerprint})

    def find_record(
        self, out: Path, on_unreadable: Callable[[ResultsError], None] | None = None
    ) -> tuple[Path, Record] | None:
        """The directory and the record of a finished run below `out` that answers to this plan.

        Of several the latest, as `results.latest` has it. Whether its data are still the same only the carrying out can
        tell. Raises ResultsError as `find_runs` does.
        """
        runs = find_runs(out, self.recipe.task, self.backbone, self.seed, self.digest, on_unreadable)
        answers = [(directory, record) for directory, record in runs if self.is_answered_by(record)]
        return latest_run(answers) if answers else None

    def is_answered_by(self, record: Record) -> bool:
        """Whether a record is of this run, wherever it lies and on whatever data."""
        return record.plan == self.digest or (not record.plan and self._is_answered_by_earlier(record, self._decided))

    def find_earlier(
        self,
        out: Path,
        decided: Mapping[str, Any],
        data: tuple[str, str],
        on_unreadable: Callable[[ResultsError], None],
    ) -> tuple[Path, Record] | None:
        """The latest run that a version finished whose keys were made otherwise, if any.

        decided: `decided_by` what was read of the weights
        data:    the data set's name and fingerprint
        """
        runs = find_runs(out, self.recipe.task, self.backbone, self.seed, cell_key(decided), on_unreadable)
        answers = [
            (directory, record)
            for directory, record in runs
            if not record.plan and (record.dataset, record.data_fingerprint) == data
            if self._is_answered_by_earlier(record, decided)
        ]
        return latest_run(answers) if answers else None

    def _is_answered_by_earlier(self, record: Record, decided: Mapping[str, Any]) -> bool:
        """Whether a record without a plan is of a run as this one would be, wherever it lies and on whatever data."""
        record = complete(record)
        undecided = protocol(later_settings(type(self.recipe))).items()
        planned, done = (
            {name: value for name, value in settings.items() if (name, value) not in undecided}
            for settings in (protocol(decided["recipe"]), record.protocol)
        )
        if self.recipe.precision == "auto":
            del planned["precision"]
            done.pop("precision", None)
        if record.backbone != self.backbone or planned != done or record.checkpoint_part != self.part:
            return False
        # The record of a pre-training has the checkpoint that came out; what it begins with, records tell in `plan`.
        began_with = None if self.recipe.task == PRETRAINING else record.checkpoint_sha256
        if began_with != decided["checkpoint"]:
            return False
        return record.normalisation == decided.get("normalisation", IMAGENET.as_dict())

    @cached_property
    def normalisation(self) -> Normalisation:
        """How pixels are normalised: as the recipe insists, or as the backbone and its weights have it.

        Raises InputError for an unknown backbone and for weights that cannot be read.
        """
        settings: Any = self.recipe
        override: Normalisation | None = settings.model.normalisation
        if override:
            return override
        if self.recipe.task == PRETRAINING:
            from backbones.objectives import find_objective, is_objective

            return find_objective(self.backbone).normalisation if is_objective(self.backbone) else IMAGENET
        from backbones.normalising import normalisation_of
        from backbones.registry import find_backbone
        from backbones.weights.methods import METHODS

        entry = find_backbone(self.backbone, with_checkpoint=self.checkpoint is not None)
        if self._known is None:
            return normalisation_of(entry, None, self.recipe.task, declared=self.declared, spell=pretraining_name)
        question = {
            "code": code_digest(),
            "timm": deciding_versions().get("timm"),
            "backbone": [entry.name, entry.method, entry.pretrain_data],
            "registered": _as_dict(entry.normalisation),
            "methods": {name: _as_dict(method.normalisation) for name, method in METHODS.items()},
            "task": self.recipe.task,
            "declared": asdict(self.declared) if self.declared else None,
            **({"part": self.part} if self.part else {}),
        }
        found = self._known.normalisation(question)
        if found is None:
            found = normalisation_of(
                entry, self._weights, self.recipe.task, declared=self.declared, spell=pretraining_name
            )
            assert self._weights is not None
            self._known.remember(self._weights.sha256, question, found)
        return found

    def require_beginning(self, checkpoint: "Checkpoint | None" = None) -> None:
        """Raise InputError if a pre-training cannot begin with its file: with what has other names or shapes.

        `checkpoint` is what has been read of that. What was found to fit is not looked at again.
        """
        if self._known is None or not isinstance(self.recipe, MaskedAutoencoderRecipe):
            return
        from backbones.pretraining.beginning import require_beginning

        model = self.recipe.model
        question = {"code": code_digest(), "model": model.model_dump(mode="json"), "part": self.part}
        if not self._known.fits(question):
            weights = checkpoint or self._weights
            assert weights is not None
            require_beginning(model, weights)
            self._known.remember_fit(weights.sha256, question)

    @cached_property
    def _sha256(self) -> str | None:
        if self._known is None:
            return None
        if self._known.sha256 is None and self._weights:
            self._known.remember_digest(self._weights.sha256)
            return self._weights.sha256
        return self._known.sha256

    @cached_property
    def _known(self) -> KnownWeights | None:
        return KnownWeights(self.checkpoint) if self.checkpoint else None

    @cached_property
    def _weights(self) -> "Checkpoint | None":
        from backbones.weights.checkpoints import read_checkpoint

        if self.weights or self._known is None:
            return self.weights
        return read_checkpoint(self._known.path, self._known.sha256, self.part)


def _as_dict(normalisation: Normalisation | None) -> dict[str, Any] | None:
    return normalisation.as_dict() if normalisation else None


def plan_pretraining(
    recipe: str, data: Path, *, seed: int, overrides: list[str], begin: Path | None = None
) -> PlannedCell:
    """Plan a pre-training, which begins with the weights in a file, or a part of one, if that is given.

    Of a run of pre-training that is the whole autoencoder. Raises InputError for a wrong recipe or override, and for a
    file to begin with where nothing can.
    """
    from backbones.mae.model import list_mae_models
    from backbones.objectives import find_objective, is_objective

    loaded = load_recipe(recipe, overrides, {PRETRAINING})
    arch = loaded.recipe.model_dump(include={"model"})["model"]["arch"]
    deviations = tuple(loaded.deviations(loaded.recipe))
    if not is_objective(arch) and arch not in list_mae_models():
        find_objective(arch)  # raises
    file, part = split_part(begin) if begin else (None, "")
    if begin and file:
        if not isinstance(loaded.recipe, MaskedAutoencoderRecipe):
            raise InputError(f"--from {begin}: only masked autoencoders begin with a file, and {arch} is none.")
        file = whole_autoencoder(file)
        deviations = (*deviations, f"from={begin.name} (reference new weights)")
    return PlannedCell(loaded.name, loaded.recipe, deviations, data, arch, file, seed, part=part)


def plan_task(
    recipe: str, data: Path, backbone: str, *, seed: int, overrides: list[str], declared: "Declared | None" = None
) -> PlannedCell:
    """Plan the fine-tuning of `NAME`, `NAME=CHECKPOINT` or `NAME=CHECKPOINT::PART`, named in the tables as declared.

    Settings that a plug-in registered the backbone with come before the overrides. Raises InputError for a wrong recipe
    or override. Whether there is such a backbone, `find_planned_backbone` tells.
    """
    loaded = load_recipe(recipe, overrides, TASKS)
    name, weights = parse_backbone(backbone)
    checkpoint, part = split_part(weights) if weights else (None, "")
    if own := _settings_of(name, loaded.recipe.task):
        try:
            loaded = load_recipe(recipe, [*own, *overrides], TASKS)
        except InputError as error:
            raise InputError(f"backbone {name}, with the settings that it was registered with: {error}") from None
    deviations = tuple(loaded.deviations(loaded.recipe))
    return PlannedCell(
        loaded.name, loaded.recipe, deviations, data, name, checkpoint, seed, declared, loaded.own_deviations, part
    )


def _settings_of(backbone: str, task: str) -> list[str]:
    """What a plug-in registered its backbone with for a task, as overrides. Raises InputError for no task."""
    from backbones.registry import settings_of

    settings = settings_of(backbone)
    if unknown := [name for name in settings if name not in TASKS]:
        raise InputError(
            f"backbone {backbone} was registered with settings of {unknown[0]!r}: no task. Known: {', '.join(TASKS)}"
        )
    return [f"{key}={json.dumps(value)}" for key, value in settings.get(task, {}).items()]


def find_planned_backbone(
    plan: PlannedCell, checkpoint: "Checkpoint | None" = None
) -> tuple["BackboneEntry", PlannedCell]:
    """The backbone of a plan, and the plan with what deviates by its weights.

    That is a recipe written for another model, and a pre-training otherwise than its recipe has it, as the checkpoint
    says that backbench left.

    What is declared comes back as the tables spell it. The column is also what the checkpoint, where it has been read,
    says of a module that has none. Builds nothing. Raises InputError for an unknown backbone, for a function that is
    not called as those that build one, and where weights are missing or have no place.
    """
    from backbones.contract import require_builder
    from backbones.registry import find_backbone, require_checkpoint
    from backbones.weights.origin import Declared
    from backbones.weights.statements import Statement, read_statement
    from benchmarks.planning.names import column, column_named, spell_declared

    entry = find_backbone(plan.backbone, with_checkpoint=plan.checkpoint is not None)
    require_checkpoint(entry, plan.checkpoint is not None)
    require_builder(entry.build, entry.name)
    settings: Any = plan.recipe
    arch = getattr(settings.model, "arch", None)  # probes are for any
    meant_for = find_backbone(arch).model if arch else entry.model
    declared = spell_declared(plan.declared or Declared(), [entry.model, meant_for])
    statement = read_statement(checkpoint) if checkpoint else Statement()
    if statement.deviations:
        plan = replace(plan, deviations=(f"{OF_PRETRAINING}{statement.deviations}", *plan.deviations))
    stated = statement.model if entry.model == entry.name else None
    plan, model = replace(plan, declared=declared), declared.model or (column_named(stated) if stated else entry.model)
    if not arch or column(model, plan.recipe) == column(meant_for, plan.recipe):
        return entry, plan
    deviation = f"model={model} (reference {meant_for})"
    return entry, replace(plan, deviations=(*plan.deviations, deviation))


def parse_backbone(argument: str) -> tuple[str, Path | None]:
    """Split `NAME` or `NAME=CHECKPOINT`, a part of which stays with it. Raises InputError where one is empty."""
    name, equals, path = argument.partition("=")
    if not name or (equals and not path) or path.endswith(SEPARATOR):
        raise InputError(
            f"--backbone {argument}: expected NAME or NAME=CHECKPOINT[::PART], for example mae_vit_base=FILE.pth"
        )
    return name, Path(path) if equals else None
