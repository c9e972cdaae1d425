"""A suite's cells: what each is, where its number stands, what it needs and what of that is missing."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.plugins import import_files
from backbones.weights.directories import locate
from backbones.weights.origin import Declared
from backbones.weights.published import Cell as PublishedCell
from backbones.weights.published import published
from backbones.weights.references import split_part
from benchmarks.planning.cells import PlannedCell, find_planned_backbone, plan_pretraining, plan_task
from benchmarks.planning.names import settle_names
from benchmarks.planning.suites.site import DATA, Site
from benchmarks.planning.suites.suite import (
    ALL,
    PRETRAINED,
    BackboneUse,
    Comparison,
    Entry,
    PretrainingUse,
    RecipeUse,
    Suite,
)
from results.expectation import expected_number
from results.paper_tables import PAPER_TABLES
from tasks.registry import PRETRAINING, TASKS

NOWHERE = Path("nowhere")
"""Stands for a root folder that nobody has told."""


@dataclass(frozen=True)
class SuiteCell:
    """One cell of a suite: a run, planned, and what the suite says of it.

    name:       of letters, digits and _ . + -, unique in the suite
    comparison: which of the suite's it is of; empty for a pre-training
    backbone:   as the suite calls it; empty for a pre-training
    dataset:    what the site is asked for
    planned:    the run; where data or weights are missing, with paths that do not exist
    table:      of the paper's, with `method`, `pretrain_data` and `column` the place of its number
    expected:   the published number, by metric
    needs:      the cell whose weights it takes, if those come of a pre-training of the suite
    weights:    by which name the site knows its weights; empty where it takes none
    runtime:    settings of `runtime` that the site has for it
    missing:    what has to be there first, in words
    """

    name: str
    comparison: str
    backbone: str
    recipe: str
    overrides: tuple[str, ...]
    dataset: str
    planned: PlannedCell
    plugins: tuple[Path, ...] = ()
    table: str = ""
    method: str = ""
    pretrain_data: str = ""
    column: str = ""
    expected: Mapping[str, float] = field(default_factory=dict)
    needs: str = ""
    weights: str = ""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        return self.planned.recipe.task

    @property
    def seed(self) -> int:
        return self.planned.seed

    @property
    def published(self) -> PublishedCell | None:
        """What is known of public weights for its place in the paper's tables."""
        place = (self.table, self.method, self.pretrain_data, self.column)
        return next((cell for cell in published().cells if tuple(cell.place) == place), None)

    def with_weights(self, path: Path) -> "SuiteCell":
        """The cell once the weights that it waits for are there."""
        return replace(self, planned=replace(self.planned, checkpoint=path))

    def arguments(self, out: Path) -> list[str]:
        """Those of `backbench` that carry it out, with runs in `out`."""
        planned, declared = self.planned, self.planned.declared or Declared()
        options: list[tuple[str, object]] = [("--recipe", self.recipe), ("--data", planned.data)]
        if planned.recipe.task != PRETRAINING:
            options.append(("--backbone", _reference(planned)))
            named = (("--method", declared.method), ("--pretrain-data", declared.pretrain_data))
            options += [pair for pair in (*named, ("--model", declared.model)) if pair[1] is not None]
        options += [("--out", out), ("--seed", planned.seed)]
        settings = {f"runtime.{key}": value for key, value in self.runtime.items()}
        options += [("--set", text) for text in (*self.overrides, *_as_overrides(settings))]
        options += [("--plugin", path) for path in self.plugins]
        command = "pretrain" if planned.recipe.task == PRETRAINING else "run"
        return [command, *(str(part) for pair in options for part in pair)]


def _reference(planned: PlannedCell) -> str:
    if planned.checkpoint is None:
        return planned.backbone
    part = f"::{planned.part}" if planned.part else ""
    return f"{planned.backbone}={planned.checkpoint}{part}"


def expand(suite: Suite, site: Site) -> tuple[SuiteCell, ...]:
    """Every cell of a suite: pre-trainings first, then comparison by comparison.

    Imports its plug-ins. Raises InputError, with file and line, for whatever cannot be run as it is written.
    """
    import_files(suite.plugins)
    made = tuple(_pretrainings(suite, site)) + tuple(_comparisons(suite, site))
    _require_distinct(made, suite)
    _require_one_protocol(made, suite)
    return made


def _pretrainings(suite: Suite, site: Site) -> Iterator[SuiteCell]:
    for name, entry in suite.pretraining.items():
        use: PretrainingUse = entry.value
        recipe, overrides = _recipe(suite, use, {}, entry.document.path.parent)
        planned = _at(
            entry, lambda r=recipe, o=overrides, s=use.seed: plan_pretraining(r, NOWHERE, seed=s, overrides=o)
        )
        dataset = suite.replaced.get(use.data or planned.recipe.dataset, use.data or planned.recipe.dataset)
        root, missing = _data(site, dataset)
        yield SuiteCell(
            name=name,
            comparison="",
            backbone="",
            recipe=recipe,
            overrides=tuple(overrides),
            dataset=dataset,
            planned=replace(planned, data=root),
            plugins=suite.plugins,
            runtime=site.runtime_of(Path(recipe).stem),
            missing=missing,
        )


def _comparisons(suite: Suite, site: Site) -> Iterator[SuiteCell]:
    for name, entry in suite.comparisons.items():
        comparison: Comparison = entry.value
        for position, backbone in enumerate(comparison.backbones):
            place = entry.at("backbones", position)
            use = _find_backbone_use(suite, backbone, place)
            for recipe, overrides, written in _recipes_for(suite, entry, use, place):
                for seed in comparison.seeds:
                    yield _cell(suite, site, entry, (name, backbone, written), use, recipe, overrides, seed)


def _find_backbone_use(suite: Suite, name: str, place: str) -> Entry:
    if name in suite.backbones:
        return suite.backbones[name]
    near = difflib.get_close_matches(name, suite.backbones, n=1)
    hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(suite.backbones)}"
    raise InputError(f"{place}: {name}: not among the suite's backbones. {hint}")


def _recipes_for(suite: Suite, entry: Entry, use: Entry, place: str) -> Iterator[tuple[str, list[str], str]]:
    """The recipes of a comparison for one backbone: each with its overrides, and as it is written there."""
    comparison: Comparison = entry.value
    by_model = comparison.recipes
    model = ALL if ALL in by_model else _model_of(use)
    if model not in by_model:
        raise InputError(
            f"{place}: its model is {model}, for which there is no recipe. Those are: {', '.join(by_model)}"
        )
    for one in by_model[model]:
        own = {**comparison.set, **use.value.set}
        recipe, overrides = _recipe(suite, one, own, entry.document.path.parent)
        yield recipe, overrides, one.recipe


def _model_of(use: Entry) -> str:
    from backbones.registry import find_backbone

    declared: BackboneUse = use.value
    if declared.model:
        return declared.model
    return str(_at(use, lambda: find_backbone(declared.backbone, with_checkpoint=declared.weights is not None)).model)


def _recipe(suite: Suite, use: RecipeUse, over: Mapping[str, Any], beside: Path) -> tuple[str, list[str]]:
    """A recipe as the command line takes it, and overrides; what the suite has in its place brings its own settings."""
    if use.recipe in suite.recipes:
        entry = suite.recipes[use.recipe]
        use, beside = entry.value, entry.document.path.parent
    name = str(beside / use.recipe) if use.recipe.endswith((".yaml", ".yml")) else use.recipe
    return name, _as_overrides({**use.set, **over})


def _as_overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_spelled(value)}" for key, value in settings.items()]


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cell(
    suite: Suite,
    site: Site,
    entry: Entry,
    names: tuple[str, str, str],
    use: Entry,
    recipe: str,
    overrides: list[str],
    seed: int,
) -> SuiteCell:
    comparison, backbone, written = names
    choice: BackboneUse = use.value
    declared = Declared(choice.method, choice.pretrain_data, choice.model)
    weights, path, needs, lacks = _weights(suite, site, use)
    argument = choice.backbone if path is None else f"{choice.backbone}={path}"

    def plan() -> tuple[Any, PlannedCell]:
        planned = plan_task(recipe, NOWHERE, argument, seed=seed, overrides=overrides, declared=declared)
        return find_planned_backbone(planned)

    found, planned = _at(entry, plan)
    dataset = suite.replaced.get(planned.recipe.dataset, planned.recipe.dataset)
    root, missing = _data(site, dataset)
    named = _at(use, lambda: settle_names(planned, found, None))
    table = TASKS[planned.recipe.task].table_of(planned.recipe.dataset)
    _require_table(entry, table)
    cell = SuiteCell(
        name=f"{comparison}-{backbone}-{Path(written).stem}-seed{seed}",
        comparison=comparison,
        backbone=backbone,
        recipe=recipe,
        overrides=tuple(overrides),
        dataset=dataset,
        planned=replace(planned, data=root),
        plugins=suite.plugins,
        table=table,
        method=named.method,
        pretrain_data=named.pretrain_data,
        column=named.model,
        needs=needs,
        weights=weights,
        runtime=site.runtime_of(Path(recipe).stem),
        missing=(*missing, *lacks),
    )
    return replace(cell, expected=_expected(cell))


def _at(entry: Entry, find: Any) -> Any:
    """What `find` returns; what is wrong with it is said to be of the entry."""
    try:
        return find()
    except InputError as error:
        raise InputError(f"{entry.at()}: {error}") from None


def _expected(cell: SuiteCell) -> dict[str, float]:
    """The published number of each of the table's metrics."""
    planned = cell.planned
    if set(planned.deviations) != set(planned.recipe_deviations):
        return {}
    settings = planned.recipe.model_dump(mode="json")
    place = (cell.table, planned.recipe.dataset)
    row = (cell.method, cell.pretrain_data, cell.column)
    found = {name: expected_number(settings, (*place, name), row) for name in PAPER_TABLES[cell.table].metrics}
    return {name: value for name, value in found.items() if value is not None}


def _require_table(entry: Entry, table: str) -> None:
    comparison: Comparison = entry.value
    if comparison.table not in (None, table):
        raise InputError(
            f'{entry.at("table")}: key "table": its numbers stand in the table "{table}", found {comparison.table!r}'
        )


def _weights(suite: Suite, site: Site, use: Entry) -> tuple[str, str | None, str, tuple[str, ...]]:
    """The weights' name, their path with the part, the pre-training that makes them, and what is missing."""
    choice: BackboneUse = use.value
    if choice.weights is None:
        return "", None, "", ()
    if choice.weights.startswith(PRETRAINED):
        made_by = choice.weights.removeprefix(PRETRAINED)
        if made_by not in suite.pretraining:
            known = ", ".join(suite.pretraining) or "none"
            raise InputError(f"{use.at('weights')}: {choice.weights}: no such pre-training in the suite: {known}")
        return "", choice.weights, made_by, ()
    file, part = split_part(Path(choice.weights))
    found = site.find_weights(str(file))
    if found is None and ("/" in choice.weights or Path(choice.weights).is_absolute()):
        raise InputError(
            f"{use.at('weights')}: {choice.weights}: expected the name of a file, without its folder: where it lies "
            "is the site's to say"
        )
    path = f"{found or file}{f'::{part}' if part else ''}"
    return str(file), path, "", _lack_of_weights(site, str(file), found)


def _lack_of_weights(site: Site, name: str, found: Path | None) -> tuple[str, ...]:
    if found is None:
        where = ", ".join(map(str, site.folders)) or "no folder: give --site, or BACKBENCH_WEIGHTS"
        return (f"weights {name}: in {where}",)
    try:
        return () if found.is_file() or locate(found).files else (f"weights {name}: nothing in {found}",)
    except InputError as error:
        return (f"weights {name}: {error}",)


def _data(site: Site, dataset: str) -> tuple[Path, tuple[str, ...]]:
    """The root folder of a data set, and what is missing of it."""
    root = site.root(dataset)
    if root is None:
        said = f"not in {site.said_in}" if site.said_in else f"give --site, or {DATA}{dataset.upper()}"
        return NOWHERE / dataset, (f"data {dataset}: {said}",)
    return root, () if root.is_dir() else (f"data {dataset}: {root} is no folder",)


def _require_distinct(cells: Iterable[SuiteCell], suite: Suite) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.name in seen:
            raise InputError(f"{suite.path}: {cell.name}: the suite has this cell twice. Name one of them otherwise")
        seen.add(cell.name)


def _require_one_protocol(cells: Iterable[SuiteCell], suite: Suite) -> None:
    """All methods of a table run under one recipe; what is tuned for a method is a row of its own."""
    first: dict[tuple[str, ...], SuiteCell] = {}
    for cell in cells:
        if not cell.comparison:
            continue
        place = (cell.table, cell.planned.recipe.dataset, cell.dataset, cell.column)
        other = first.setdefault(place, cell)
        if (other.recipe, other.overrides) == (cell.recipe, cell.overrides):
            continue
        use = suite.backbones[cell.backbone]
        is_own_row = use.value.method is not None and cell.method != other.method
        if not is_own_row:
            raise InputError(
                f"{use.at()}: {cell.name} has another recipe or other settings than {other.name}, in the same column "
                f"of the table {cell.table}. All methods of a table run under one recipe: give what is tuned a row of "
                f'its own, such as method: "{cell.method}, tuned"'
            )
