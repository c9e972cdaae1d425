"""What a finished cell says of itself: its metrics, and all that is needed to repeat and to compare it."""

import hashlib
import importlib.metadata
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypedDict

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from results.errors import NotFiniteError, ResultsError

SCHEMA_VERSION = 2
"""Since 2, speed and peak memory are those of the run alone, over all its parts."""

# The distributions whose version can move a number.
DECIDING_DISTRIBUTIONS = (
    "torch",
    "torchvision",
    "timm",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmsegmentation",
    "sal-detectron2",
    "hotcoco",
    "pycocotools",
    "fvcore",
    "opencv-python",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "simplejpeg",
)

Name = Annotated[str, Field(min_length=1)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What a column of a table can hold."""
Count = Annotated[Integer, Field(ge=1)]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Key = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

_PLAIN = (float, int, type(None))
_ESCAPES = re.compile(rb"\\[urbf]")
"""With what JSON begins a character that may have to be spelled out."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
"""Control characters but for the tab and the end of a line."""


def spell_out(text: str) -> str:
    """Spell out what not every file can hold: control characters, and the bytes of file names that are not UTF-8,
    `caf\\xe9`. A carriage return would end a line of a CSV file."""
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _spell_out_all(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return spell_out(value)
    if isinstance(value, Mapping):
        return {_spell_out_all(key): _spell_out_all(inner) for key, inner in value.items()}
    return [_spell_out_all(inner) for inner in value] if isinstance(value, list | tuple) else value


class _Spelled(ModelMetaclass):
    """Makes models whose fields are spelled out, and of which whatever is wrong is one ResultsError."""

    if not TYPE_CHECKING:  # type checkers are to see the signature that pydantic derives from the fields

        def __call__(cls, **fields: Any) -> Any:  # noqa: N805
            try:
                return super().__call__(**_spell_out_all(fields))
            except ValidationError as error:
                is_finite = all(detail["type"] != "finite_number" for detail in error.errors())
                kind = ResultsError if is_finite else NotFiniteError
                raise kind(_explain(cls.model_config.get("title") or cls.__name__.lower(), fields, error)) from None


class _Checked(BaseModel, metaclass=_Spelled):
    """Fields that are not known are refused, and whatever is wrong is one ResultsError that names the field."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(_Checked):
    """One number of one evaluation.

    Shares of images and average precisions are percentages, as the literature writes them: 83.6, not 0.836.
    `ci_low` and `ci_high` bound the 95 % confidence interval over the `n_eval` images. `expected` is the published
    number of the same cell, see `results.expectation`; None where there is none. Everything is finite: a run that
    diverged has no result, and ResultsError says so.
    """

    name: Name
    value: FiniteFloat
    split: Name
    ci_low: FiniteFloat | None = None
    ci_high: FiniteFloat | None = None
    n_eval: Count | None = None
    expected: FiniteFloat | None = None

    @model_validator(mode="after")
    def _interval_is_whole(self) -> "Metric":
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError("an interval has both ci_low and ci_high")
        if self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high:
            raise ValueError(f"ci_low {self.ci_low} lies above ci_high {self.ci_high}")
        return self


class Record(_Checked):
    """One finished cell. Fields are only ever added; older and newer records stay readable.

    `key` is the cell's `cell_key`, `recipe_settings` the fully resolved recipe, `deviations` where it departs from the
    reference recipe of its table (`schedule.epochs=25 (reference 100)`), `load_report` what became of each weight of
    the checkpoint, `per_class` each class's own percentage, `versions` those of the libraries that decide numbers.
    `protocol` holds every setting that decides the number, flat, each value as JSON text: `{"optimizer.lr": "0.001"}`.
    `table` names the paper's table that the number belongs to, as in PAPER_TABLES; it is empty for none.
    `images_per_step` counts the images of one step, over all processes; `batch_norm_images` those that batch norm's
    statistics rest on and `mixup_images` those of one draw of mixup, each None where there is none. Where a run went on
    otherwise than it began, they are those of the last part that trained, as are `world_size` and `device`; of batch
    norm and mixup the notes have all.
    `normalisation` holds "mean" and "std" of pixels between 0 and 1, for red, green and blue. It belongs to the
    backbone, not to the protocol. Records without it are of runs before there was a choice: ImageNet's.
    `evaluation_images` is how many the data set has to evaluate on; a metric of another number of them is marked.
    `model` names the table's column, such as "ViT-B" or, fine-tuned at 448 pixels, "ViT-H-448". `declared` holds what
    the call gave of `method`, `pretrain_data` and `model`, as it is spelled there; the others were not declared.
    `parameters` counts those of the encoder, without head and pyramid. `gflops` are billions of multiplications, each
    with the addition that follows, of a forward pass on one square image of `gflops_image_size` pixels a side: of the
    classifier with its head, in dense tasks of encoder and pyramid, without heads, and in pre-training of the encoder
    on all patches. `checkpoint` is the name of the file whose digest is `checkpoint_sha256`, and `checkpoint_part` the
    part of it that was chosen, as "teacher.backbone"; empty where the file was read as it is.
    `plan` is the digest of all that decides the numbers but the data, by which a planned cell finds its record. It
    comes first, so that whoever looks for it need not read on. `run` counts the runs of one key, of which there are
    several where a finished one was run anew.
    `trained` is empty where the run trained the network itself; else it only evaluated one, of the run whose key it is,
    or "elsewhere". Of such a record `seed` is that run's, 0 where that is not known, and what tells of a training is
    None.
    `code` is the digest of backbench's own sources, `model_code` that of a model from elsewhere. Records without them
    are of earlier versions.
    `wall_seconds` were spent on training, `evaluation_seconds` on evaluations on the way and at the end, and
    `total_seconds` on both and all around them, from the claim of the run's directory to the record. They and
    `train_images_per_second`, over `wall_seconds`, are of all parts of an interrupted run; what a killed part did after
    its last checkpoint was done again and does not count. `peak_memory_mb` is the most that one training process held
    during the run, in MiB: what PyTorch allocated on the GPU, else main memory; loader processes do not count. In
    records of schema version 1 speed is that of the last part, and memory is the most since the process began.
    `cuda` is the version that PyTorch was built for, `driver` the GPU driver's; empty on a CPU.
    """

    schema_version: Integer = SCHEMA_VERSION
    plan: Key | Literal[""] = ""
    suite: str = ""
    table: str = ""
    task: Name
    dataset: Name
    metrics: Annotated[list[Metric], Field(min_length=1)]
    method: str = ""
    pretrain_data: str = ""
    model: Name
    backbone: Name
    arch: str = ""
    declared: dict[str, str] = {}
    parameters: Count | None = None
    gflops: NonNegative | None = None
    gflops_image_size: Count | None = None
    checkpoint: str = ""
    checkpoint_sha256: str | None = None
    checkpoint_part: str = ""
    normalisation: dict[str, tuple[FiniteFloat, FiniteFloat, FiniteFloat]] = {}
    seed: Integer
    recipe: Name
    recipe_settings: dict[str, Any] = {}
    protocol: dict[str, str] = {}
    deviations: list[str] = []
    key: Key
    run: Count = 1
    trained: str = ""

    train_loss: FiniteFloat | None = None
    per_class: dict[str, FiniteFloat] = {}
    data_fingerprint: str = ""
    corrupt_images: list[str] = []
    load_report: dict[str, Any] | None = None
    evaluation_images: Count | None = None
    notes: list[str] = []

    train_images_per_second: NonNegative | None = None
    peak_memory_mb: NonNegative | None = None
    wall_seconds: NonNegative | None = None
    evaluation_seconds: NonNegative | None = None
    total_seconds: NonNegative | None = None
    device: str = ""
    cuda: str = ""
    driver: str = ""
    world_size: Count = 1
    images_per_step: Count | None = None
    batch_norm_images: Count | None = None
    mixup_images: Count | None = None
    precision: str = ""
    backbench_version: str = ""
    git_commit: str | None = None
    code: str = ""
    model_code: str = ""
    versions: dict[str, str] = {}
    command: str = ""
    finished_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    model_config = ConfigDict(title="record")

    @model_validator(mode="after")
    def _metrics_are_distinct(self) -> "Record":
        seen: set[tuple[str, str]] = set()
        for metric in self.metrics:
            if (metric.name, metric.split) in seen:
                raise ValueError(f'metric "{metric.name}" on split "{metric.split}" is given twice')
            seen.add((metric.name, metric.split))
        return self

    def evaluated_part(self, metric: Metric) -> str:
        """What a metric was evaluated on, "4,998 of 5,000 images", where that is not the whole; else nothing."""
        found, whole = metric.n_eval, self.evaluation_images
        if found is None or whole is None or found == whole:
            return ""
        return f"{found:,} of {whole:,} images" if found < whole else f"{found:,} images instead of {whole:,}"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Record":
        """Read a record of any version: fields that this version does not know are passed over.

        Raises ResultsError that names the field which is missing or wrong.
        """
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if not _ESCAPES.search(content):
            # what nothing is wrong with, and has nothing to be spelled out, is read in a quarter of the time
            with suppress(ValidationError):
                return cls.model_validate_json(text, extra="ignore")
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ResultsError(f"not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise ResultsError(f"expected a record's fields, found a {type(fields).__name__}")
        metrics = fields.get("metrics")
        if isinstance(metrics, list):
            fields["metrics"] = [_known(Metric, metric) if isinstance(metric, dict) else metric for metric in metrics]
        return cls(**_known(cls, fields))

    def to_json(self) -> str:
        """The record as indented JSON, one final newline."""
        return self.model_dump_json(indent=2) + "\n"


class Outline(Record):
    """A record read without the percentages of its classes, which take half of the time to read, and stand in no table.

    Not to be written: the file would lose them.
    """

    per_class: ClassVar[dict[str, float]] = {}  # type: ignore[misc]


def cell_key(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that change with anything that decides a cell's numbers.

    `settings` holds those: recipe, data, backbone, checkpoint, seed. The order of keys does not matter, and tuples
    count as lists.
    Raises ResultsError for what JSON cannot hold: other objects, keys that are no strings, NaN, infinity.
    """
    _refuse_keys_that_are_no_strings(settings, "settings")
    try:
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"a cell's key is made of numbers, strings, lists and mappings only: {error}") from None
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Environment(TypedDict):
    """The fields of a record that say where and with what it was made."""

    backbench_version: str
    git_commit: str | None
    versions: dict[str, str]
    device: str
    command: str


def environment(device: str) -> Environment:
    """Describe this process for a record: `Record(..., **environment(device="NVIDIA H100"))`. Never fails."""
    return Environment(
        backbench_version=installed_version("backbench") or "",
        git_commit=_git_commit(Path(__file__).resolve().parents[1]),
        versions=deciding_versions(),
        device=device,
        command=shlex.join(sys.argv),
    )


def deciding_versions() -> dict[str, str]:
    """The versions of Python and of the installed ones of `DECIDING_DISTRIBUTIONS`, by their names."""
    versions = {name: version for name in DECIDING_DISTRIBUTIONS if (version := installed_version(name))}
    return {"python": platform.python_version()} | versions


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None where there is none, or it does not tell."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit(root: Path) -> str | None:
    """The commit that `root` has checked out, with "-dirty" where tracked files differ; None if it is no checkout."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def _known(kind: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in kind.model_fields}


def _refuse_keys_that_are_no_strings(value: Any, where: str) -> None:
    """JSON would turn 1 and "1" into the same key."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ResultsError(f"a cell's key is made of mappings with string keys: {where} has the key {key!r}")
            _refuse_keys_that_are_no_strings(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_keys_that_are_no_strings(inner, f"{where}[{index}]")


def _explain(kind: str, fields: Mapping[str, Any], error: ValidationError) -> str:
    subject = f'{kind} "{fields["name"]}"' if "name" in fields else kind
    problems = []
    for detail in error.errors()[:3]:
        place = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "finite_number":
            message = f"expected a finite number, found {detail['input']}: a run that diverged has no result"
        problems.append(f'field "{place}": {message}' if place else message)
    return f"{subject}: {'; '.join(problems)}"
