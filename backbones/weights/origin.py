"""Where a backbone's weights come from: what was declared, what the file says, what its bytes tell, and the name."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from backbones.errors import InputError
from backbones.weights.arithmetic import tells_activation
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.contradictions import (
    NamedBackbone,
    find_contradictions,
    fine_tuning_data,
    label_data,
    require_heads,
)
from backbones.weights.methods import same_name, spell_method
from backbones.weights.prefixes import looks_of
from backbones.weights.published import PublishedFile, find_published
from backbones.weights.recognition import Recognised
from backbones.weights.statements import Statement, read_statement

Source = Literal["declared", "file", "published", "registry"]
"""Who said it: the call, the file of itself, the list of published files, the registered name."""


@dataclass(frozen=True)
class Declared:
    """What the call says of the weights; None where it says nothing.

    method:        as the tables print it; to give it is to insist on it
    pretrain_data: as the tables print it
    model:         the tables' column
    """

    method: str | None = None
    pretrain_data: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Origin:
    """Where the weights come from, and who said so.

    method, pretrain_data, model: row and column of the tables
    said_by: who said each of the three, by its name
    remarks: sentences for the record: what else was said, and what the file holds that the name does not tell
    """

    method: str
    pretrain_data: str
    model: str
    said_by: dict[str, Source] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def find_known(checkpoint: Checkpoint) -> PublishedFile | None:
    """Return the published file that this is, by its bytes.

    Those that are known by their MD5 alone are MAE's: a ViT, and no second network. Other files need not be read for
    it.
    """
    if found := find_published(checkpoint.sha256):
        return found
    looks = looks_of(checkpoint)
    may_be_maes = looks.family == "ViT" and looks.positions != "learned" and checkpoint.fills_file
    return find_published(checkpoint.sha256, checkpoint.md5) if may_be_maes else None


def settle_origin(
    entry: NamedBackbone,
    checkpoint: Checkpoint | None,
    declared: Declared | None = None,
    *,
    known: Callable[[Checkpoint], PublishedFile | None] = find_known,
    spell: Callable[[str], str] = str,
) -> Origin:
    """Decide which method, pre-training data and column the weights stand for.

    What is declared comes before what the file says of itself, that before the list of published files, where
    `known` looks, and that before the registered name. `spell` gives the tables' name of a data set.

    Raises InputError, naming both readings and how to insist, if the file contradicts the method of its name and no
    method was declared.
    """
    declared = declared or Declared()
    if checkpoint is None:
        return choose_names(entry, declared, Statement(), None, None, spell)
    statement, published = read_statement(checkpoint), known(checkpoint)
    recognised = looks_of(checkpoint)
    origin = choose_names(entry, declared, statement, published, recognised, spell)
    against = find_contradictions(origin.method, recognised, statement, published)
    if against and declared.method is None:
        raise InputError(_refusal(checkpoint, against[0], entry))
    if declared.method is None or same_name(declared.method, "MoCo v3"):
        require_heads(entry, checkpoint, recognised, statement)
    told = (f"{why}; {origin.method} as declared" for why in against)
    remarks = [*origin.remarks, *told]
    if not published and not statement.architecture and _is_taken_for_openais(entry, checkpoint, recognised):
        data = origin.pretrain_data
        remarks.append(f"the file does not tell which GELU it has: read with OpenAI's quick one, as trained on {data}")
    return replace(origin, remarks=tuple(remarks))


def _is_taken_for_openais(entry: NamedBackbone, checkpoint: Checkpoint, recognised: Recognised) -> bool:
    """Whether a CLIP that may be open_clip's, whose names and shapes are OpenAI's, gets OpenAI's GELU by a name that
    does not say so, as timm's would."""
    names_it = entry.name == entry.arch
    return (
        "_quickgelu_" in entry.arch
        and not names_it
        and recognised.variant == "clip"
        and not tells_activation(checkpoint)
    )


_SELF_SUPERVISED = {"MAE", "MoCo v3"}
"""Methods whose encoders have no norm after pooling until they are fine-tuned; timm's BEiT has one."""


def choose_names(
    entry: NamedBackbone,
    declared: Declared,
    statement: Statement,
    published: PublishedFile | None,
    recognised: Recognised | None,
    spell: Callable[[str], str],
) -> Origin:
    """Take each of the three from the first that says it, without asking whether the others agree."""
    open_name = same_name(entry.method, "custom")
    method, method_by = _first(
        ("declared", declared.method),
        ("file", statement.method if open_name else None),
        ("published", published.method if published and open_name else None),
        ("file", recognised.likely_method if recognised and open_name else None),
        ("registry", entry.method),
    )
    method = spell_method(method)
    data, data_by = _first(
        ("declared", declared.pretrain_data),
        ("file", statement.pretrain_data),
        ("published", published.pretrain_data if published else None),
        ("file", label_data(method, recognised)),
        ("registry", entry.pretrain_data if same_name(method, entry.method) else "unstated"),
    )
    if data_by == "registry" and recognised and recognised.fine_tuned and method in _SELF_SUPERVISED:
        data = f"{data}{fine_tuning_data(recognised.classes)}"
    open_column = entry.model == entry.name
    model, model_by = _first(
        ("declared", declared.model), ("file", statement.model if open_column else None), ("registry", entry.model)
    )
    remarks = []
    elsewhere = statement.pretrain_data or (published.pretrain_data if published else None)
    if elsewhere and not same_name(spell(elsewhere), spell(data)):
        who = statement.who if statement.pretrain_data else f"{published.name if published else ''} is published as"
        remarks.append(f"{who} pre-trained on {spell(elsewhere)}; {spell(data)} as declared")
    if recognised and recognised.classes and method not in {"supervised", "custom"}:
        remarks.append(f"the file has a head for {recognised.classes:,} classes: these weights have seen labels")
    said_by: dict[str, Source] = {"method": method_by, "pretrain_data": data_by, "model": model_by}
    return Origin(method, spell(data), model, said_by, tuple(remarks))


def _first(*sayings: tuple[Source, str | None]) -> tuple[str, Source]:
    return next((said, source) for source, said in sayings if said is not None)


def _refusal(checkpoint: Checkpoint, why: str, entry: NamedBackbone) -> str:
    return (
        f"{checkpoint.path}: {why}; --backbone {entry.name} says "
        f"{entry.method}. Its number would stand under the wrong method. Take the backbone of the method that made the "
        f"file (`backbench inspect {checkpoint.path}` lists those that fit), or insist on this one: "
        f"--method {shlex.quote(entry.method)}"
    )
