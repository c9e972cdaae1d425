"""Site files: where data, weights and partitions are on this machine. Never part of a suite or of a key."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from backbones.errors import InputError
from backbones.training.settings import RuntimeSettings, Settings
from benchmarks.planning.recipe import list_more_recipes, list_recipes
from benchmarks.planning.suites.documents import as_list, nearest, read_document, validated
from benchmarks.planning.suites.slurm_settings import SlurmSettings
from tasks.data_sets import DATA_SETS

SITE = "BACKBENCH_SITE"
DATA = "BACKBENCH_DATA_"
WEIGHTS = "BACKBENCH_WEIGHTS"

ALL = "all"
"""The key of `runtime` whose settings hold for every recipe."""


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("expected the path of a folder or a file")
    _at_home(text)
    return text


def _at_home(text: str) -> Path:
    """The path, with the home folder in the place of ~ or ~USER. Raises ValueError where there is none."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = Path(text).parts[0]
        raise ValueError(f'expected a path; "{user}" is nobody\'s home folder here. Write the path out') from None


Place = Annotated[str, AfterValidator(_says_something)]


class SiteFile(Settings):
    """One file.

    data:    by a data set's name, as recipes or `backbench data check` have it, its root folder
    weights: folders in which files of weights are looked for by their names
    files:   by such a name, where that file is instead
    runtime: by recipe, packaged or the name of a file of one's own, or "all", settings of its section `runtime`
    slurm:   what a cluster is asked for
    """

    data: dict[str, Place] = Field(default_factory=dict)
    weights: Annotated[tuple[Place, ...], BeforeValidator(as_list), Field(strict=False)] = ()
    files: dict[str, Place] = Field(default_factory=dict)
    runtime: dict[str, RuntimeSettings] = Field(default_factory=dict)
    slurm: SlurmSettings = SlurmSettings()


@dataclass(frozen=True)
class Site:
    """Where things are on this machine; `said_in` is the file that says so, None where there is none."""

    data: Mapping[str, Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    runtime: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    said_in: Path | None = None

    def root(self, dataset: str) -> Path | None:
        """The root folder of a data set; None where nobody says."""
        return self.data.get(dataset)

    def find_weights(self, name: str) -> Path | None:
        """The file or folder of weights of that name; None where there is none."""
        if name in self.files:
            return self.files[name]
        return next((folder / name for folder in self.folders if (folder / name).exists()), None)

    def runtime_of(self, recipe: str) -> dict[str, Any]:
        """The settings of a recipe's `runtime` here; one of a file goes by the file's name."""
        return {**self.runtime.get(ALL, {}), **self.runtime.get(Path(recipe).name, {})}


def load_site(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Site:
    """What a site file says, the one given or that of BACKBENCH_SITE, with the other BACKBENCH_… variables before it.

    Paths that are not absolute count from the file's folder, those of variables from the current one. Raises
    InputError, with file and line, for what is wrong.
    """
    if path is None and environment.get(SITE):
        path = _of_variable(SITE, environment[SITE])
    site = _read_site(path) if path else Site()
    data, folders = dict(site.data), site.folders
    known = {spelled(name): name for name in data}
    for variable, value in environment.items():
        if variable.startswith(DATA) and value:
            name = variable.removeprefix(DATA)
            data[known.get(name, name)] = _of_variable(variable, value)
    if environment.get(WEIGHTS):
        told = (part for part in environment[WEIGHTS].split(os.pathsep) if part)
        folders = (*(_of_variable(WEIGHTS, part) for part in told), *folders)
    return Site(_Roots(data), folders, site.files, site.runtime, site.slurm, site.said_in)


def _placed(text: str, beside: Path = Path()) -> Path:
    return (beside / _at_home(text)).absolute()


def _of_variable(name: str, text: str) -> Path:
    try:
        return _placed(text)
    except ValueError as error:
        raise InputError(f"{name}: {text}: {error}") from None


class _Roots(dict[str, Path]):
    """Root folders by the names of data sets: of variables in capitals, in site files as recipes or checks have it, or
    but for punctuation and capitals so."""

    def get(self, name: str, default: Any = None) -> Any:
        known = [each.name for each in DATA_SETS.values() if each.record_name == name]
        spellings = {spelled(each): each for each in self}
        names = [spelled(name), name, *known, spellings.get(spelled(name), name)]
        return next((self[each] for each in names if each in self), default)


def variable_of(dataset: str) -> str:
    """The variable that tells the root folder of a data set."""
    return DATA + spelled(dataset)


def spelled(dataset: str) -> str:
    """How a data set is called in a variable's name: "mini-coco" as MINI_COCO."""
    return re.sub(r"\W", "_", dataset).upper()


def _read_site(path: Path) -> Site:
    document = read_document(path, "data: {imagenet1k: /data/imagenet}")
    own, beside = validated(SiteFile, document), path.absolute().parent
    known = [*list_recipes(), *(name for names in list_more_recipes().values() for name in names)]
    named = [("runtime", recipe) for recipe in own.runtime if recipe != ALL]
    for where in (*named, *(("slurm", "recipes", recipe) for recipe in own.slurm.recipes)):
        recipe = where[-1]
        if not recipe.endswith((".yaml", ".yml")) and recipe not in known:
            near = nearest(recipe, [*([ALL] if where[0] == "runtime" else []), *known])
            raise InputError(f"{document.key(*where)}: no such recipe. {near}")

    return Site(
        data={name: _placed(root, beside) for name, root in own.data.items()},
        folders=tuple(_placed(text, beside) for text in own.weights),
        files={name: _placed(text, beside) for name, text in own.files.items()},
        runtime={name: settings.model_dump(exclude_unset=True) for name, settings in own.runtime.items()},
        slurm=own.slurm,
        said_in=path,
    )
