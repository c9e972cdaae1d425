"""The names that a run is recorded under: its row and column in the tables."""

import re
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from backbones.names import SIZES
from backbones.training.settings import Recipe
from backbones.weights.methods import METHODS
from backbones.weights.origin import Declared, Origin, settle_origin
from results import Record
from results.measurements import simplified
from results.reference import PREVIOUS_BEST, reference_rows
from tasks.data_sets import pretraining_name
from tasks.registry import TASKS

if TYPE_CHECKING:
    from backbones.registry import BackboneEntry
    from backbones.weights.checkpoints import Checkpoint
    from benchmarks.planning.cells import PlannedCell


_WORDS = {"method": "method", "pretrain_data": "pre-training data", "model": "column"}


def spell_declared(declared: Declared, models: Iterable[str] = ()) -> Declared:
    """What the call says, as the paper's tables spell it: "vit_b" becomes "ViT-B"; other names stay as they are.

    `models` are columns that are known beside the paper's. Raises InputError for a name of which nothing is left.
    """
    if declared == Declared():
        return declared
    for field in fields(declared):
        name = getattr(declared, field.name)
        if name is not None and not (name.strip() and name.isprintable()):
            option = field.name.replace("_", "-")
            raise InputError(f"--{option} {name!r}: expected a name, as the table is to print it")
    rows = [row for row in reference_rows() if row.method != PREVIOUS_BEST]
    data = declared.pretrain_data
    return Declared(
        method=_spelled(declared.method, [*(row.method for row in rows), *METHODS]),
        pretrain_data=_spelled(
            data and pretraining_name(data),
            [*(row.pretrain_data for row in rows), *(method.pretrain_data for method in METHODS.values())],
        ),
        model=_spelled_column(declared.model, [*(row.model for row in rows), *models]),
    )


def _spelled(name: str | None, known: Iterable[str]) -> str | None:
    """A name as it is known, where it differs in case and punctuation only."""
    return name and next((other for other in known if simplified(other) == simplified(name)), name.strip())


def _spelled_column(name: str | None, known: Iterable[str]) -> str | None:
    """A column as it is known: "ViT-B/16", "ViT-Base" and "vit_base_patch16_224" are "ViT-B" too."""
    known = list(known)
    spelled = _spelled(name, known)
    said = _VIT.fullmatch(spelled or "")
    if spelled in known or not said:
        return spelled
    size = next(size for size in _PATCHES if size[0].casefold() == said["size"][0].casefold())
    column = f"ViT-{size}-448" if said["image"] == "448" else f"ViT-{size}"
    return column if column in known and said["patch"] in (None, _PATCHES[size]) else spelled


_PATCHES = {"Ti": "16", "S": "16", "B": "16", "L": "16", "H": "14"}
"""By the size in a column's name, the side in pixels of its patches."""

_VIT = re.compile(
    r"ViT[-_ ]?(?P<size>ti|tiny|s|small|b|base|l|large|h|huge)"
    r"(?:[-_/ ]?(?:p|patch)?[-_ ]?(?P<patch>8|14|16|32))?(?:[-_/@ ](?P<image>224|448)(?:px)?)?",
    re.IGNORECASE,
)


def settle_names(plan: "PlannedCell", entry: "BackboneEntry", checkpoint: "Checkpoint | None") -> Origin:
    """Where the weights of a plan come from, by the names of the tables; `model` is the column under its recipe.

    Raises InputError if the file contradicts the method of the backbone's name and none is declared.
    """
    origin = settle_origin(entry, checkpoint, plan.declared, spell=pretraining_name)
    remarks = (*_overruled(plan, entry), *origin.remarks)
    model = column_named(origin.model) if origin.said_by["model"] == "file" else origin.model
    return replace(origin, model=column(model, plan.recipe), remarks=remarks)


def column_named(model: str) -> str:
    """The table's column of what a file calls its model: "vit_mini_patch8_48" is "ViT-mini"."""
    architectures = {arch: name for sizes in SIZES.values() for arch, name in sizes.values()}
    return architectures.get(model) or _spelled_column(model, [*(row.model for row in reference_rows())]) or model


def _overruled(plan: "PlannedCell", entry: "BackboneEntry") -> list[str]:
    """What the backbone's registered name says otherwise than the call."""
    names = given(plan.declared)
    said = {"method": entry.method, "pretrain_data": entry.pretrain_data, "model": entry.model}
    if entry.method == METHODS["custom"].name:
        said = {"model": entry.model}
    if entry.model == entry.name:
        del said["model"]
    return [
        f"the backbone's name, {entry.name}, stands for {_WORDS[name]} {said[name]}; {value} as declared"
        for name, value in names.items()
        if name in said and simplified(said[name]) != simplified(value)
    ]


def column(model: str, recipe: Recipe) -> str:
    """The table's column for a model under a recipe: a ViT-H at 448 pixels stands in "ViT-H-448", and a ViT-B of which
    four blocks train in "ViT-B, last 4 blocks"."""
    settings: Any = recipe
    trained_blocks = getattr(settings.model, "trained_blocks", None)
    return TASKS[recipe.task].column_of(model, settings.model.image_size, trained_blocks)


def place_of(named: Origin | Record) -> str:
    """Where a run stands in its table, in words, and what of it is as declared."""
    declared = (
        named.declared if isinstance(named, Record) else [n for n, by in named.said_by.items() if by == "declared"]
    )
    remark = f" ({', '.join(_WORDS[name] for name in declared)} as declared)" if declared else ""
    return f"method {named.method}, pre-training data {named.pretrain_data}, column {named.model}{remark}"


def given(declared: Declared | None) -> dict[str, str]:
    """What was declared, by the record's names."""
    names = asdict(declared) if declared else {}
    return {name: value for name, value in names.items() if value is not None}
