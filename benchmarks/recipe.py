"""Finding a recipe by name or file, with overrides laid over it."""

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.training.settings import Recipe, deviations, read_settings, validate

FOLDER = Path(__file__).parent / "recipes"

KINDS = {
    "pretraining": ("backbones.pretraining", "PretrainingRecipe"),
    "classification": ("tasks.classification", "ClassificationRecipe"),
}
"""By a recipe's `task`: the module and the class of its settings."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A validated recipe and the packaged one that it is measured against.

    name: as the record prints it
    reference: the packaged recipe of that name, or the one that a file extends; None for a file that extends nothing
    """

    name: str
    recipe: Recipe
    reference: Recipe | None

    def deviations(self, recipe: Recipe) -> list[str]:
        """Where `recipe`, what became of this one, departs from the reference."""
        if self.reference is None:
            return [f"recipe {self.name} is not one of the literature's"]
        return deviations(recipe, self.reference)


def list_recipes() -> dict[str, str]:
    """The packaged recipes: the first line of each, by name."""
    return {path.stem: path.read_text().splitlines()[0].lstrip("# ") for path in sorted(FOLDER.glob("*.yaml"))}


def load_recipe(name: str, overrides: list[str], tasks: set[str]) -> LoadedRecipe:
    """Load a packaged recipe by name, or a YAML file by path, for one of `tasks`.

    A file may say `extends: NAME` and give only what differs. Raises InputError for an unknown name, for a key or a
    type that the task does not know, and for a recipe of another task.
    """
    if not name.endswith((".yaml", ".yml")):
        path = _packaged(name)
        packaged = _build(read_settings([path], []), f"recipe {name}", tasks)
        return LoadedRecipe(name, _build(read_settings([path], overrides), f"recipe {name}", tasks), packaged)
    path = Path(name)
    base = read_settings([path], []).pop("extends", None)
    layers = [path] if base is None else [_packaged(str(base)), path]
    settings = read_settings(layers, overrides)
    settings.pop("extends", None)
    reference = None if base is None else _build(read_settings(layers[:1], []), f"recipe {base}", tasks)
    return LoadedRecipe(path.stem, _build(settings, f"recipe {name}", tasks), reference)


def _build(settings: dict[str, Any], where: str, tasks: set[str]) -> Recipe:
    task = settings.get("task")
    if task not in tasks:
        if task is None:
            raise InputError(f'{where}, key "task": missing. Expected {" or ".join(sorted(tasks))}, or `extends: NAME`')
        verb = "pretrain" if task == "pretraining" else "run"
        hint = f": use `backbench {verb}`" if task in KINDS else f". Known: {', '.join(KINDS)}"
        raise InputError(f'{where}: its task is "{task}", expected {" or ".join(sorted(tasks))}{hint}')
    module, kind = KINDS[str(task)]
    return validate(getattr(importlib.import_module(module), kind), settings, where)


def _packaged(name: str) -> Path:
    path = FOLDER / f"{name}.yaml"
    known = sorted(list_recipes())
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        raise InputError(f'recipe {name}: no such recipe. Nearest: {", ".join(near)}; or give a file "….yaml"')
    return path
