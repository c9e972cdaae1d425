"""Finding a recipe by name or file, with overrides laid over it."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.training.settings import Recipe, deviations, read_overrides, read_settings, validate
from results.errors import ResultsError
from results.metrics import find_metric
from tasks.registry import PRETRAINING, RECIPES, interpret

FOLDER = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class LoadedRecipe:
    """A validated recipe and the packaged one that it is measured against.

    name: as the record prints it
    reference: the packaged recipe that it extends, or else is; None for a file that extends nothing
    as_it_stands: itself, without overrides
    """

    name: str
    recipe: Recipe
    reference: Recipe | None
    as_it_stands: Recipe

    @property
    def own_deviations(self) -> tuple[str, ...]:
        """Those that it has without overrides: of 25 epochs, which its own `expect` is a number of."""
        return tuple(self.deviations(self.as_it_stands))

    def deviations(self, recipe: Recipe) -> list[str]:
        """Where `recipe`, what became of this one, departs from the reference."""
        if self.reference is None:
            return [f"recipe {self.name} is not one of the literature's"]
        return deviations(recipe, self.reference)


def list_recipes() -> dict[str, str]:
    """The packaged recipes: the first line of each, by name. Those in folders of their own are not among them."""
    return {path.stem: path.read_text().splitlines()[0].lstrip("# ") for path in sorted(FOLDER.glob("*.yaml"))}


def list_more_recipes() -> dict[str, list[str]]:
    """The names of the packaged recipes that lie in folders of their own, by folder: as good as the others, but many
    of a kind."""
    folders = sorted({path.parent for path in FOLDER.glob("*/*.yaml")})
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}


def load_recipe(name: str, overrides: list[str], tasks: Collection[str]) -> LoadedRecipe:
    """Load a packaged recipe by name, or a YAML file by path, for one of `tasks`.

    A recipe may say `extends: NAME` and give only what differs; it is then measured against the packaged recipe at the
    end of that chain. The numbers that are expected of that one are not expected of it.
    Raises InputError for an unknown name, for a key or a type that the task does not know, and for a recipe of another
    task.
    """
    packaged = not name.endswith((".yaml", ".yml"))
    layers = recipe_files(name)
    if PRETRAINING in tasks:  # code that registers models decides what its settings are
        return _load(name, layers[-1].stem, packaged, layers, overrides, tasks)
    states = tuple((layer.absolute(), *_state(layer)) for layer in layers)
    return _loaded(name, packaged, states, tuple(overrides), tuple(tasks))


def recipe_files(name: str) -> list[Path]:
    """A recipe's file, packaged or one's own, after those that it extends. Raises InputError for an unknown name."""
    return _layers(Path(name) if name.endswith((".yaml", ".yml")) else _packaged(name))


@lru_cache(maxsize=1024)
def _loaded(
    name: str,
    packaged: bool,
    states: tuple[tuple[Path, int, int], ...],
    overrides: tuple[str, ...],
    tasks: tuple[str, ...],
) -> LoadedRecipe:
    """A recipe of files as they are now; a planner asks for the same one for every backbone and seed."""
    layers = [path for path, _, _ in states]
    return _load(name, layers[-1].stem, packaged, layers, list(overrides), tasks)


def _load(
    name: str, stem: str, packaged: bool, layers: list[Path], overrides: list[str], tasks: Collection[str]
) -> LoadedRecipe:
    where = f"recipe {name}"
    settings = _merged(layers, overrides)
    if len(layers) > 1:
        own = read_settings(layers[-1:], overrides)
        settings |= {"expect": own.get("expect", {}), "expect_of": own.get("expect_of")}
    recipe = _build(settings, where, tasks)
    reference = None if len(layers) == 1 and not packaged else _build(_merged(layers[:1], []), where, tasks)
    return LoadedRecipe(stem, recipe, reference, _build(_merged(layers, []), where, tasks))


def _layers(path: Path) -> list[Path]:
    """The file and what it extends, the foundation first."""
    base = _base_of(path.absolute(), *_state(path)) if path.is_file() else _read_base(path)
    return [path] if base is None else [*_layers(_packaged(base)), path]


@lru_cache(maxsize=256)
def _base_of(path: Path, size: int, changed: int) -> str | None:
    return _read_base(path)


def _read_base(path: Path) -> str | None:
    base = read_settings([path], []).get("extends")
    return None if base is None else str(base)


def _state(path: Path) -> tuple[int, int]:
    """What changes with a file: its size in bytes, and when it was written."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _merged(layers: list[Path], overrides: list[str]) -> dict[str, Any]:
    settings = read_settings(layers, overrides)
    if "extends" not in read_overrides(overrides):  # which cannot say so: it is no setting then
        settings.pop("extends", None)
    return settings


def _build(settings: dict[str, Any], where: str, tasks: Collection[str]) -> Recipe:
    task = settings.get("task")
    if task not in tasks:
        if task is None:
            raise InputError(f'{where}, key "task": missing. Expected {_either(tasks)}, or `extends: NAME`')
        verb = "pretrain" if task == PRETRAINING else "run"
        hint = f": use `backbench {verb}`" if task in RECIPES else f". Known: {', '.join(RECIPES)}"
        raise InputError(f'{where}: its task is "{task}", expected {_either(tasks)}{hint}')
    kind, taken = interpret(str(task), settings)
    recipe: Recipe = validate(kind, taken, where)
    for metric in recipe.expect:
        try:
            find_metric(metric)
        except ResultsError as error:
            raise InputError(f'{where}, key "expect": {error}') from None
    return recipe


def _either(names: Collection[str]) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} or {last}" if first else last


def _packaged(name: str) -> Path:
    path = FOLDER / f"{name}.yaml"
    if Path(name).name == name and path.is_file():
        return path
    paths = {path.stem: path for path in FOLDER.glob("*/*.yaml")}
    if name not in paths:
        known = list_recipes()
        near = difflib.get_close_matches(name, sorted([*paths, *known]), n=3, cutoff=0.4) or sorted(known)
        raise InputError(f'recipe {name}: no such recipe. Nearest: {", ".join(near)}; or give a file "….yaml"')
    return paths[name]
