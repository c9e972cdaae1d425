"""Suite files: backbones × recipes × seeds, in YAML."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from backbones.errors import InputError
from backbones.training.settings import Settings
from benchmarks.planning.suites.documents import Document, read_document, validated

FOLDER = Path(__file__).parents[2] / "suites"

Name = Annotated[str, Field(pattern=r"^[\w][\w.+-]*$", description="of letters, digits, and _ . + -")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Overrides = Annotated[dict[str, Any], Field(description="settings of the recipe, by key: {schedule.epochs: 25}")]

PRETRAINED = "@"
"""With what weights begin that a pre-training of the same suite makes: "@NAME"."""


def _as_mapping(key: str) -> BeforeValidator:
    """Takes a bare text for the mapping that has it under `key`."""
    return BeforeValidator(lambda given: {key: given} if isinstance(given, str) else given)


def _as_list(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else [given]


class RecipeUse(Settings):
    """A recipe, packaged or a file beside the suite's, and settings that are laid over it."""

    recipe: str
    set: Overrides = Field(default_factory=dict)


RecipeUses = Annotated[
    tuple[Annotated[RecipeUse, _as_mapping("recipe")], ...], BeforeValidator(_as_list), Field(strict=False)
]


class BackboneUse(Settings):
    """A backbone with its weights, and what is declared of it for the tables.

    weights: a file's name, which the site knows the place of, or "@NAME" of one of the suite's pre-trainings; with
             "::PART" for a part of it
    """

    backbone: str
    weights: str | None = None
    method: str | None = None
    pretrain_data: str | None = None
    model: str | None = None
    set: Overrides = Field(default_factory=dict)


class PretrainingUse(RecipeUse):
    """A pre-training whose outcome the suite's backbones can have as their weights.

    data: by which name the site knows the root of the images; by default the recipe's data set
    """

    data: str | None = None
    seed: Seed = 0


class Comparison(Settings):
    """Backbones × recipes × seeds.

    recipes: for every backbone, or by the backbones' model: {ViT-B: coco_fpn_vit_base, …}
    table:   the paper's table that its numbers belong to; by default where their data set stands
    """

    backbones: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
    recipes: Annotated[dict[str, RecipeUses], BeforeValidator(lambda given: _for_all(given))]
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)] = (0,)
    table: str | None = None
    set: Overrides = Field(default_factory=dict)


ALL = "all"
"""The key of recipes that every backbone of a comparison is judged under, whatever its model."""


def _for_all(given: Any) -> Any:
    is_one = isinstance(given, Mapping) and "recipe" in given
    return given if isinstance(given, Mapping) and not is_one else {ALL: given}


class Replacements(Settings):
    """What takes the place of recipes, backbones and data sets of a suite that is extended, by their names there."""

    recipes: dict[str, Annotated[RecipeUse, _as_mapping("recipe")]] = Field(default_factory=dict)
    backbones: dict[str, Annotated[BackboneUse, _as_mapping("backbone")]] = Field(default_factory=dict)
    data: dict[str, str] = Field(default_factory=dict)


class SuiteFile(Settings):
    """One file. What it extends, it lays its own sections over, entry by entry."""

    about: str = ""
    extends: str | None = None
    replace: Replacements = Replacements()
    plugins: Annotated[tuple[str, ...], Field(strict=False)] = ()
    backbones: dict[Name, Annotated[BackboneUse, _as_mapping("backbone")]] = Field(default_factory=dict)
    pretraining: dict[Name, Annotated[PretrainingUse, _as_mapping("recipe")]] = Field(default_factory=dict)
    comparisons: dict[Name, Comparison | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One entry of a suite, and the file that has it."""

    value: Any
    document: Document
    location: tuple[str | int, ...]

    def at(self, *location: str | int) -> str:
        """Where something below it stands, for messages."""
        return self.document.at(*self.location, *location)


@dataclass(frozen=True)
class Suite:
    """A suite as it is run: what it extends is laid below it already.

    replaced: names of data sets, and what the site is asked for instead
    """

    name: str
    path: Path
    about: str
    plugins: tuple[Path, ...]
    backbones: Mapping[str, Entry]
    pretraining: Mapping[str, Entry]
    comparisons: Mapping[str, Entry]
    recipes: Mapping[str, Entry]
    replaced: Mapping[str, str]


def list_suites() -> dict[str, str]:
    """The packaged suites: what each is about, by name."""
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for path in _packaged()}


def load_suite(name: str) -> Suite:
    """Read a packaged suite by name, or a YAML file by path, with all that it extends.

    Raises InputError, with file and line, for whatever is wrong in it.
    """
    path = find_suite(name)
    return _load(path, ())


def find_suite(name: str, at: str = "suite", beside: Path = Path()) -> Path:
    """The file of a suite: packaged, by its name, or by its path. Raises InputError that names the nearest."""
    if name.endswith((".yaml", ".yml")):
        path = beside / name
        if not path.is_file() and (FOLDER / name).is_file():
            path = FOLDER / name
        if not path.is_file():
            raise InputError(f"{at} {name}: no such file. Packaged are: {', '.join(list_suites())}")
        return path
    known = {path.stem: path for path in _packaged()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        raise InputError(f'{at} {name}: no such suite. Nearest: {", ".join(near)}; or give a file "….yaml"')
    return known[name]


@cache
def _packaged() -> tuple[Path, ...]:
    return tuple(sorted(FOLDER.glob("*.yaml")))


def _load(path: Path, above: tuple[Path, ...]) -> Suite:
    document = read_document(path, "comparisons: {…}")
    own = validated(SuiteFile, document)
    if path.resolve() in above:
        raise InputError(f'{document.at("extends")}: key "extends": {path.name} extends itself')
    base = None
    if own.extends is not None:
        found = find_suite(own.extends, f'{document.at("extends")}: key "extends":', path.parent)
        base = _load(found, (*above, path.resolve()))
    elif own.replace != Replacements():
        raise InputError(f'{document.at("replace")}: key "replace": only a suite that `extends` another replaces')
    return _laid_over(base, own, document)


def _laid_over(base: Suite | None, own: SuiteFile, document: Document) -> Suite:
    """The suite that a file makes of the one below it; a comparison of null is taken away."""

    def entries(section: str) -> dict[str, Entry]:
        return {name: Entry(value, document, (section, name)) for name, value in getattr(own, section).items()}

    sections = {name: entries(name) for name in ("backbones", "pretraining", "comparisons")}
    below = {name: dict(getattr(base, name)) if base else {} for name in sections}
    for name, value in own.replace.backbones.items():
        _require_replaceable("backbones", name, below["backbones"], document)
        below["backbones"][name] = Entry(value, document, ("replace", "backbones", name))
    merged = {name: below[name] | sections[name] for name in sections}
    replaced = {
        name: Entry(value, document, ("replace", "recipes", name)) for name, value in own.replace.recipes.items()
    }
    return Suite(
        name=document.path.stem,
        path=document.path,
        about=own.about or (base.about if base else ""),
        plugins=(*(base.plugins if base else ()), *(_plugin(document, text) for text in own.plugins)),
        backbones=merged["backbones"],
        pretraining=merged["pretraining"],
        comparisons={name: entry for name, entry in merged["comparisons"].items() if entry.value is not None},
        recipes={**(base.recipes if base else {}), **replaced},
        replaced={**(base.replaced if base else {}), **own.replace.data},
    )


def _require_replaceable(section: str, name: str, there: Mapping[str, Any], document: Document) -> None:
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(there)}"
        where = document.at("replace", section, name)
        raise InputError(f'{where}: key "replace.{section}.{name}": nothing of that name is extended. {hint}')


def _plugin(document: Document, text: str) -> Path:
    return document.path.parent / text
