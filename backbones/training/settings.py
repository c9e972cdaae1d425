"""Recipes: the complete settings of one job as YAML, validated before anything is loaded."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from yaml import YAMLError

from backbones.errors import InputError
from backbones.images.normalisation import HALF, Normalisation
from backbones.training.later import Later, later_settings, without_neutral
from backbones.training.mistakes import explain, without_echoes
from backbones.training.runtime import RuntimeSettings
from backbones.training.sections import NonNegative, PositiveInt, Settings

Fraction = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Momenta = Annotated[tuple[Momentum, Momentum], Field(strict=False)]
Model = TypeVar("Model", bound=BaseModel)


def ascending(pair: tuple[float, float]) -> tuple[float, float]:
    """Return the pair. Raises ValueError if its larger number comes first."""
    if pair[0] > pair[1]:
        raise ValueError("the smaller number comes first")
    return pair


Share = Annotated[float, Field(gt=0, le=1)]
Shares = Annotated[tuple[Share, Share], Field(strict=False), AfterValidator(ascending)]
"""The smallest and the largest share of something, such as of an image's area."""

Channels = Annotated[tuple[float, float, float], Field(strict=False)]


class PixelSettings(Settings):
    """A network's own section, which may take the place of the normalisation that its backbone brings.

    Where they are not set they are no part of a run's key or protocol, so that backbones of different normalisations
    stay comparable.
    """

    mean: Annotated[
        Channels | None,
        Field(
            description="of red, green and blue between 0 and 1; null: the backbone's",
            examples=[HALF.mean],
            json_schema_extra={"together_with": "std"},
        ),
        Later(None),
    ] = None
    std: Annotated[
        Channels | None,
        Field(description="likewise", examples=[HALF.std], json_schema_extra={"together_with": "mean"}),
        Later(None),
    ] = None

    @property
    def normalisation(self) -> Normalisation | None:
        """What the recipe insists on; None for the backbone's."""
        return Normalisation.of(self.mean, self.std)

    @model_validator(mode="after")
    def _mean_and_std_serve(self) -> "PixelSettings":
        Normalisation.of(self.mean, self.std)
        return self


class OptimizerSettings(Settings):
    """What all optimizers have. Each kind says how its peak learning rate is given."""

    name: str
    batch_size: Annotated[PositiveInt, Field(description="images per update, over all processes and accumulation")]
    clip_grad_norm: Annotated[
        float | None, Field(gt=0, description="largest norm of the gradient; none by default")
    ] = None

    @property
    def peak_lr(self) -> float:
        """The learning rate at the height of the schedule, before layer-wise decay."""
        raise NotImplementedError


class LinearlyScaled(OptimizerSettings):
    """Its learning rate is base_lr × batch_size / 256 (MAE, tables 8 to 10)."""

    base_lr: Annotated[float, Field(gt=0)]

    @property
    def peak_lr(self) -> float:
        return self.base_lr * self.batch_size / 256


class AdamWOptimizer(OptimizerSettings):
    """AdamW."""

    name: Literal["adamw"] = "adamw"
    betas: Momenta = (0.9, 0.999)
    weight_decay: NonNegative = 0.05


class ScaledOptimizer(AdamWOptimizer, LinearlyScaled):
    """AdamW, its learning rate scaled linearly (MAE, tables 8 and 9)."""


class LarsOptimizer(LinearlyScaled):
    """LARS without weight decay (MAE, table 10; facebookresearch/mae, util/lars.py, line 18)."""

    name: Literal["lars"] = "lars"
    momentum: Momentum = 0.9
    trust_coefficient: Annotated[
        float, Field(gt=0, description="by what share of its own norm a rate of 1 moves a matrix, without momentum")
    ] = 0.001


class FixedOptimizer(AdamWOptimizer):
    """AdamW, its learning rate as it stands, whatever the batch size (the dense tasks' recipes)."""

    lr: Annotated[float, Field(gt=0)]

    @property
    def peak_lr(self) -> float:
        return self.lr


class ScheduleSettings(Settings):
    """How long a training is, and the course of its learning rate."""

    def steps(self, per_epoch: int, accumulation: int) -> int:
        """The training's length in steps: an epoch has `per_epoch` of them, an update `accumulation`."""
        raise NotImplementedError


class EpochSchedule(ScheduleSettings):
    """Linear warm-up from zero, then a cosine to `min_lr`, both per iteration."""

    epochs: PositiveInt
    warmup_epochs: NonNegative
    min_lr: NonNegative = 0.0

    def steps(self, per_epoch: int, accumulation: int) -> int:
        return self.epochs * per_epoch

    @model_validator(mode="after")
    def _lengths_fit(self) -> "EpochSchedule":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"the warm-up ({self.warmup_epochs:g}) must be shorter than the training ({self.epochs}), both in "
                f"epochs. Shorten it as well, for example to schedule.warmup_epochs={self.epochs / 20:g}"
            )
        return self


def _whole(number: float) -> int | float:
    """The number as an integer if it is one, in YAML and in records too, whichever way it was written."""
    return int(number) if float(number).is_integer() else number


def _rising(milestones: tuple[int, ...]) -> tuple[int, ...]:
    if list(milestones) != sorted(set(milestones)):
        raise ValueError("each milestone comes after the one before it")
    return milestones


class IterationSchedule(ScheduleSettings):
    """A curve over a given number of updates, with a linear warm-up.

    cosine: half a cosine to zero; step: a tenth from each milestone on; in both the warm-up replaces the curve's
    beginning and ends on it (detectron2's schedules). poly: a straight line to zero, the polynomial of power 1, which
    the warm-up scales (mmcv's schedules).
    """

    iterations: Annotated[PositiveInt, Field(description="updates of the weights")]
    warmup_iterations: Annotated[NonNegative, AfterValidator(_whole), PlainSerializer(_whole)] = 0
    warmup_factor: Annotated[Fraction, Field(description="share of the learning rate that the warm-up begins with")] = (
        0.001
    )
    shape: Literal["cosine", "step", "poly"] = "cosine"
    milestones: Annotated[
        tuple[PositiveInt, ...], Field(strict=False, description="for shape step"), AfterValidator(_rising)
    ] = ()

    def steps(self, per_epoch: int, accumulation: int) -> int:
        return self.iterations * accumulation

    @model_validator(mode="after")
    def _lengths_fit(self) -> "IterationSchedule":
        if self.warmup_iterations >= self.iterations:
            raise ValueError(
                f"the warm-up ({self.warmup_iterations}) must be shorter than the training ({self.iterations})"
            )
        if (self.shape == "step") != bool(self.milestones):
            raise ValueError('milestones belong to shape "step", which needs at least one')
        if self.milestones and self.milestones[-1] >= self.iterations:
            raise ValueError(f"milestone {self.milestones[-1]} lies beyond the training's {self.iterations} iterations")
        return self


class Origin(Settings):
    """Whose a published number is: a method's, pre-trained on these data, both as the paper's tables call them."""

    method: str
    pretrain_data: str


class Recipe(Settings):
    """What every recipe has. Each job adds its own sections."""

    task: str
    dataset: str
    source: Annotated[str, Field(description="where the numbers below come from")]
    expect: dict[str, float] = Field({}, description="the published result")
    expect_of: Annotated[Origin | None, Field(description="whose result that is; nobody else's is expected")] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Field(description="auto: bf16 where the device is fast at it, else fp16 on a GPU, fp32 on a CPU"),
    ] = "auto"
    runtime: RuntimeSettings = RuntimeSettings()

    varied: ClassVar[tuple[str, ...]] = ()
    """The settings, flat, of which it stands for any value, each in a row or column of its own: none is a deviation."""


class TrainingRecipe(Recipe):
    """What a recipe has by which the engine trains."""

    optimizer: OptimizerSettings
    schedule: ScheduleSettings

    @property
    def mixes_images(self) -> bool:
        """Whether images of a step are mixed, with one draw for all of a process."""
        return False

    @property
    def reference_batch_norm(self) -> int:
        """On how many images batch norm's statistics rest in the reference: by default on all of an update."""
        return self.optimizer.batch_size


UNDECIDING = ("data", "runtime", "evaluation", "source", "expect", "expect_of")
"""The sections of a recipe that decide no number: where the data lie, how the machine goes about it, what is said."""

READING = ("decoder",)
"""What of the section "data" decides numbers all the same: how the files are read."""


def deciding_settings(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that decides its numbers, without what came later and is set as it was before: of that keys
    and protocols are made, and so they survive a setting that is added."""
    return without_neutral(_deciding(recipe), later_settings(type(recipe)))


def _deciding(recipe: Recipe) -> dict[str, Any]:
    return _without_undeciding(recipe.model_dump(mode="json"))


def _without_undeciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in settings.items() if name not in UNDECIDING}
    data = settings.get("data")
    reading = {name: data[name] for name in READING if name in data} if isinstance(data, Mapping) else {}
    return kept | ({"data": reading} if reading else {})


def protocol(settings: Mapping[str, Any]) -> dict[str, str]:
    """Every setting that decides a number, flat, its value as JSON: `{"model.drop_path": "0.1", …}`.

    `settings` are `deciding_settings`, or a recipe's in full. Numbers may be compared where these agree.
    """
    deciding = _flatten(_without_undeciding(settings))
    return {name: json.dumps(value, sort_keys=True) for name, value in deciding.items()}


def read_settings(paths: list[Path], overrides: list[str]) -> dict[str, Any]:
    """Read YAML files, each laid over the one before it, and `key.sub=value` overrides over all.

    Raises InputError for what cannot be read or is no mapping.
    """
    layers = [_read_yaml(path) for path in paths]
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(*layers, read_overrides(overrides)), resolve=True)
    except OmegaConfBaseException as error:
        where = f"recipe {paths[-1]}" if paths else f"--set {' '.join(overrides)}"
        raise InputError(f"{where}: {str(error).splitlines()[0]}") from error
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


@lru_cache(maxsize=64)
def _parsed(path: Path, size: int, changed: int) -> Any:
    """A file's content; a planner asks for the same recipe a hundred times."""
    return OmegaConf.load(path)


def _read_yaml(path: Path) -> Any:
    try:
        status = path.stat()
        content = _parsed(path.absolute(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"recipe {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"recipe {path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not OmegaConf.is_dict(content):
        raise InputError(f"recipe {path}: expected a mapping of settings such as `task: classification`")
    return content


def read_overrides(overrides: list[str]) -> Any:
    """Parse `key.sub=value` arguments. Raises InputError for one that has no key or no equals sign."""
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f'--set {text}: expected KEY=VALUE, for example "schedule.epochs=25"')
    try:
        return OmegaConf.from_dotlist(overrides)
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise InputError(f"--set {' '.join(overrides)}: {str(error).splitlines()[0]}") from error


def validate(kind: type[Model], settings: Mapping[str, Any], where: str) -> Model:
    """Build `kind` from settings. Raises InputError that names the key, what is wrong and the nearest valid key."""
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        explained = dict.fromkeys(explain(kind, detail, where) for detail in without_echoes(error.errors()))
        raise InputError("; ".join(list(explained)[:3])) from error


def deviations(recipe: Recipe, reference: Recipe) -> list[str]:
    """Where a recipe departs from its reference, such as `schedule.epochs=25 (reference 100)`."""
    read = _deciding if type(recipe) is type(reference) else deciding_settings  # else each lacks the other's defaults
    ours, theirs = _flatten(read(recipe)), _flatten(read(reference))
    theirs |= {name: ours[name] for name in recipe.varied}
    missing = object()
    return [
        f"{key}={_shown(key, ours)} (reference {_shown(key, theirs)})"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, missing) != theirs.get(key, missing)
    ]


def _shown(key: str, settings: Mapping[str, Any]) -> Any:
    """A setting's value in words: pixels that a recipe does not normalise are as the backbone has it."""
    value = settings.get(key)
    return "the backbone's own" if value is None and key in ("model.mean", "model.std") else value


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in sorted(settings.items()):
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
