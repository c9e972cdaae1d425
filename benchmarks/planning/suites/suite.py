"""Suite files: backbones × recipes × seeds, in YAML."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from backbones.errors import InputError
from backbones.training.settings import Settings
from benchmarks.planning.suites.documents import Document, Location, Texts, as_list, nearest, read_document, validated

FOLDER = Path(__file__).parents[2] / "suites"


def _names_a_folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError("expected a name of letters, digits and _ . + -")
    return name


Name = Annotated[str, AfterValidator(_names_a_folder)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Overrides = Annotated[dict[str, JsonValue], Field(description="settings of the recipe, by key: {schedule.epochs: 25}")]

LONGEST = 200
"""Bytes of the name of a suite or a cell, which are names of folders."""

PRETRAINED = "@"
"""With what weights begin that a pre-training of the same suite makes: "@NAME"."""


def _as_mapping(key: str) -> BeforeValidator:
    """Takes a bare text for the mapping that has it under `key`."""
    return BeforeValidator(lambda given: {key: given} if isinstance(given, str) else given)


class RecipeUse(Settings):
    """A recipe, packaged or a file beside the suite's, and settings that are laid over it."""

    recipe: str
    set: Overrides = Field(default_factory=dict)


RecipeUses = Annotated[
    tuple[Annotated[RecipeUse, _as_mapping("recipe")], ...],
    BeforeValidator(as_list),
    Field(strict=False, min_length=1),
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

    backbones: Annotated[tuple[Name, ...], BeforeValidator(as_list), Field(strict=False, min_length=1)]
    recipes: Annotated[dict[str, RecipeUses], BeforeValidator(lambda given: _for_all(given)), Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(as_list), Field(strict=False, min_length=1)] = (0,)
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
    plugins: Texts = ()
    backbones: dict[Name, Annotated[BackboneUse, _as_mapping("backbone")]] = Field(default_factory=dict)
    pretraining: dict[Name, Annotated[PretrainingUse, _as_mapping("recipe")]] = Field(default_factory=dict)
    comparisons: dict[Name, Comparison | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One entry of a suite, and the file that has it; `said` is how the call has it where that does."""

    value: Any
    document: Document
    location: Location
    said: str = ""

    def at(self, *location: str | int) -> str:
        """Where something below it stands, for messages: "my.yaml, line 7"."""
        return self.said or self.document.at(*self.location, *location)

    def key(self, *location: str | int) -> str:
        """The same with the key."""
        return self.said or self.document.key(*self.location, *location)


@dataclass(frozen=True)
class Suite:
    """A suite as it is run: what it extends is laid below it already.

    files:    its own, after those that it extends
    replaced: names of data sets, and what the site is asked for instead
    is_of_candidate: whether it is of one backbone alone, which is to stand beside what else a store holds
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    about: str
    plugins: tuple[Entry, ...]
    backbones: Mapping[str, Entry]
    pretraining: Mapping[str, Entry]
    comparisons: Mapping[str, Entry]
    recipes: Mapping[str, Entry]
    replaced: Mapping[str, Entry]
    is_of_candidate: bool = False

    def site_name(self, dataset: str) -> str:
        """What the site is asked for where a recipe, or a pre-training, names that data set."""
        return str(self.replaced[dataset].value) if dataset in self.replaced else dataset


def list_suites() -> dict[str, str]:
    """The packaged suites: what each is about, by name."""
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for path in _packaged()}


def load_suite(name: str) -> Suite:
    """Read a packaged suite by name, or a YAML file by path, with all that it extends.

    Raises InputError, with file and line, for whatever is wrong in it.
    """
    path = find_suite(name)
    if path.stem.startswith(".") or len(path.stem.encode()) > LONGEST:
        raise InputError(f"suite {path}: expected a file's name such as my.yaml, by which the suite is to be called")
    suite = _load(path, ())
    if not suite.comparisons and not suite.pretraining:
        raise InputError(f"{path}, line 1: nothing to do. Expected comparisons, or pre-trainings")
    return suite


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


_SITES = "where that lies on a machine, its site file says (--site)"
_ELSEWHERE = {
    "data": f"{_SITES}: `data: {{NAME: FOLDER}}`",
    "weights": f"{_SITES}: `weights: FOLDER`; here a backbone has a file's name",
    "files": f"{_SITES}",
    "runtime": "how a machine goes about it, its site file says (--site); what all are to have, `set: {runtime.…: …}`",
    "slurm": "what Slurm is asked for, the site file says (--site)",
    "recipes": "no such setting. Recipes stand in a comparison, and what takes their place in `replace: {recipes: …}`",
    "seeds": "no such setting. Seeds stand in a comparison",
}
"""What people may look for at the top of a suite."""


def _load(path: Path, above: tuple[Path, ...]) -> Suite:
    document = read_document(path, "comparisons: {…}")
    own = validated(SuiteFile, document, _ELSEWHERE)
    _require_portable(own, document)
    base = None
    if own.extends is not None:
        found = find_suite(own.extends, f"{document.key('extends')}: suite", path.parent)
        if found.resolve() in (path.resolve(), *above):
            raise InputError(f"{document.key('extends')}: {own.extends}: a suite cannot extend itself")
        base = _load(found, (*above, path.resolve()))
    elif own.replace != Replacements():
        raise InputError(f"{document.key('replace')}: only a suite that extends another replaces what it has")
    _require_replaced(base, own, document)
    return _laid_over(base, own, document)


def _require_portable(own: SuiteFile, document: Document) -> None:
    """Refuse paths: a suite is the same on every machine."""
    named: list[tuple[Location, str | None, str]] = []
    for section, uses in (("backbones", own.backbones), ("replace", own.replace.backbones)):
        for name, use in uses.items():
            above = (section,) if section == "backbones" else (section, "backbones")
            named.append(((*above, name, "weights"), use.weights, "a file"))
    named += [(("pretraining", name, "data"), each.data, "a data set") for name, each in own.pretraining.items()]
    named += [(("replace", "data", name), other, "a data set") for name, other in own.replace.data.items()]
    for location, text, what in named:
        if text is not None and (re.search(r"[/\\~]", text) or text.partition("::")[0].strip() in ("", ".", "..")):
            where = f"{document.key(*location)}: {text or repr(text)}"
            raise InputError(
                f"{where}: expected the name of {what}, without a folder: where it lies on a machine, its site file "
                "says (--site)"
            )


def _laid_over(base: Suite | None, own: SuiteFile, document: Document) -> Suite:
    """The suite that a file makes of the one below it; a comparison of null is taken away."""

    def entries(section: str) -> dict[str, Entry]:
        return {name: Entry(value, document, (section, name)) for name, value in getattr(own, section).items()}

    sections = {name: entries(name) for name in ("backbones", "pretraining", "comparisons")}
    below = {name: dict(getattr(base, name)) if base else {} for name in sections}
    for name, value in own.replace.backbones.items():
        below["backbones"][name] = Entry(value, document, ("replace", "backbones", name))
    merged = {name: below[name] | sections[name] for name in sections}
    replaced = {
        section: {
            name: Entry(value, document, ("replace", section, name))
            for name, value in getattr(own.replace, section).items()
        }
        for section in ("recipes", "data")
    }
    return Suite(
        name=document.path.stem,
        path=document.path,
        files=(*(base.files if base else ()), document.path.absolute()),
        about=own.about or (base.about if base else ""),
        plugins=(*(base.plugins if base else ()), *_plugins(own, document)),
        backbones=merged["backbones"],
        pretraining=merged["pretraining"],
        comparisons={name: entry for name, entry in merged["comparisons"].items() if entry.value is not None},
        recipes={**(base.recipes if base else {}), **replaced["recipes"]},
        replaced={**(base.replaced if base else {}), **replaced["data"]},
    )


def _plugins(own: SuiteFile, document: Document) -> Iterator[Entry]:
    for position, text in enumerate(own.plugins):
        yield Entry(document.path.parent / text, document, ("plugins", position))


def _require_replaced(base: Suite | None, own: SuiteFile, document: Document) -> None:
    """Raise InputError for what would replace nothing, and for a comparison taken away that is not there.

    Of data sets only the cells tell: `benchmarks.planning.suites.expanding` looks for those.
    """
    there = {"backbones": {*base.backbones}, "recipes": {*base.recipes, *_recipes_of(base)}} if base else {}
    for section, known in there.items():
        for name in getattr(own.replace, section):
            if name not in known:
                where = document.key("replace", section, name)
                raise InputError(f"{where}: what is extended has no such name to be replaced. {nearest(name, known)}")
    compared = base.comparisons if base else {}
    for name, value in own.comparisons.items():
        if value is None and name not in compared:
            raise InputError(f"{document.key('comparisons', name)}: nothing of that name to be taken away")


def _recipes_of(suite: Suite) -> Iterator[str]:
    for entry in suite.pretraining.values():
        yield entry.value.recipe
    for entry in suite.comparisons.values():
        yield from (use.recipe for uses in entry.value.recipes.values() for use in uses)


def flat(settings: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Settings, those within settings too, by the keys that lead to them as they are written."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value
