"""From a suite to its cells: every backbone under every recipe of its size, with every seed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from backbones.errors import InputError
from backbones.plugins import import_files
from backbones.training.settings import UNDECIDING
from backbones.weights.methods import METHODS, same_name
from backbones.weights.origin import Declared, Origin
from benchmarks.planning.cells import PlannedCell, find_planned_backbone, plan_pretraining, plan_task
from benchmarks.planning.names import settle_names
from benchmarks.planning.suites.cells import SuiteCell, as_overrides
from benchmarks.planning.suites.documents import nearest
from benchmarks.planning.suites.requirements import NOWHERE, Weights, find_data, find_weights
from benchmarks.planning.suites.site import Site
from benchmarks.planning.suites.suite import (
    ALL,
    LONGEST,
    BackboneUse,
    Comparison,
    Entry,
    PretrainingUse,
    RecipeUse,
    Suite,
    flat,
)
from results.expectation import expected_number
from results.paper_tables import PAPER_TABLES
from results.reference import reference_rows
from tasks.data_sets import pretraining_name
from tasks.registry import TASKS

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Choice:
    """A recipe of a comparison, as it is run.

    recipe:    as the command line takes it
    settings:  laid over it, by key
    places:    where in the suite each of those stands
    place:     where the recipe does
    written:   the recipe's name there, before anything is replaced
    """

    recipe: str
    settings: Mapping[str, Any]
    places: Mapping[str, str]
    place: str
    written: str

    def attempt(self, find: Callable[[str, list[str]], Found]) -> Found:
        """What `find` makes of recipe and overrides; what is wrong with them is said to be of their line."""
        try:
            return find(self.recipe, as_overrides(self.settings))
        except InputError as error:
            said = (place for key, place in self.places.items() if f'"{key}' in str(error))
            raise InputError(f"{next(said, self.place)}: {error}") from None


@contextmanager
def _said_of(place: str) -> Iterator[None]:
    """Within the block what is wrong is said to be of that place."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


class _Mistakes:
    """What is wrong with a suite, all of it."""

    def __init__(self) -> None:
        self.told: dict[str, None] = {}

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Within the block what is wrong is noted, and not raised."""
        try:
            yield
        except InputError as error:
            self.told[str(error)] = None

    def raise_any(self) -> None:
        if self.told:
            raise InputError("\n".join(self.told))


def expand(suite: Suite, site: Site) -> tuple[SuiteCell, ...]:
    """Every cell of a suite: pre-trainings first, then comparison by comparison.

    Imports its plug-ins. Raises InputError, with file and line, that names whatever cannot be run as it is written.
    """
    mistakes = _Mistakes()
    for entry in suite.plugins:
        with mistakes.gathered(), nullcontext() if entry.said else _said_of(entry.key()):
            import_files([entry.value])
    mistakes.raise_any()
    made: list[SuiteCell] = []
    for name, entry in suite.pretraining.items():
        with mistakes.gathered():
            made.append(_pretraining(suite, site, name, entry))
    for name, entry in suite.comparisons.items():
        comparison: Comparison = entry.value
        for position, backbone in enumerate(comparison.backbones):
            with mistakes.gathered():
                place = entry.key("backbones", position)
                use = _backbone_use(suite, backbone, place)
                weights = find_weights(suite, site, use)
                firsts: list[tuple[_Choice, SuiteCell]] = []
                for choice in _choices(suite, entry, use, place):
                    with mistakes.gathered():
                        firsts.append((choice, _cell(suite, site, (name, entry), (backbone, use), choice, weights)))
                columns = _columns_apart([first for _, first in firsts])
                for (choice, first), column in zip(firsts, columns, strict=True):
                    if column != first.column:
                        first = _cell(suite, site, (name, entry), (backbone, use), choice, weights, column)
                    made += [_with_seed(first, seed) for seed in comparison.seeds]
    mistakes.raise_any()
    _require_distinct(made)
    _require_one_protocol(made, suite)
    return tuple(made)


def _pretraining(suite: Suite, site: Site, name: str, entry: Entry) -> SuiteCell:
    use: PretrainingUse = entry.value
    choice = _chosen(suite, use, entry, (), [])
    planned = choice.attempt(
        lambda recipe, settings: plan_pretraining(recipe, NOWHERE, seed=use.seed, overrides=settings)
    )
    dataset = suite.site_name(use.data or planned.recipe.dataset)
    root, missing = find_data(site, dataset)
    return SuiteCell(
        name=name,
        comparison="",
        backbone="",
        recipe=choice.recipe,
        overrides=tuple(as_overrides(choice.settings)),
        dataset=dataset,
        planned=replace(planned, data=root),
        plugins=tuple(each.value for each in suite.plugins),
        runtime=site.runtime_of(choice.recipe),
        missing=missing,
        place=entry.at(),
    )


def _backbone_use(suite: Suite, name: str, place: str) -> Entry:
    if name not in suite.backbones:
        raise InputError(f"{place}: {name}: not among the suite's backbones. {nearest(name, suite.backbones)}")
    return suite.backbones[name]


def _choices(suite: Suite, entry: Entry, use: Entry, place: str) -> Iterator[_Choice]:
    """The recipes of a comparison for one backbone."""
    comparison: Comparison = entry.value
    by_model = comparison.recipes
    model = ALL if ALL in by_model else _model_of(use)
    if model not in by_model:
        raise InputError(
            f"{place}: {use.location[-1]} is a {model}, for which there is no recipe. There are those of: "
            f"{', '.join(by_model)}. Say `model` of it, or leave it out here"
        )
    for position, one in enumerate(by_model[model]):
        yield _chosen(suite, one, entry, ("recipes", model, position), [entry, use])


def _model_of(use: Entry) -> str:
    from backbones.registry import find_backbone

    declared: BackboneUse = use.value
    if declared.model:
        return declared.model
    with _said_of(use.at()):
        return str(find_backbone(declared.backbone, with_checkpoint=declared.weights is not None).model)


def _chosen(
    suite: Suite, use: RecipeUse, entry: Entry, location: tuple[str | int, ...], over: Sequence[Entry]
) -> _Choice:
    """A recipe with the settings of its own, or those of what the suite has in its place, and of `over` over them."""
    written, place = use.recipe, entry.at(*location)
    sources: list[tuple[Entry, tuple[str | int, ...], Mapping[str, Any]]] = [(entry, location, use.set)]
    if use.recipe in suite.recipes:
        entry = suite.recipes[use.recipe]
        use, place = entry.value, entry.at()
        sources = [(entry, (), use.set)]
    sources += [(each, (), each.value.set) for each in over]
    settings: dict[str, Any] = {}
    places: dict[str, str] = {}
    for source, below, given in sources:
        said: set[str] = set()
        for path, value in flat(given):
            key = ".".join(path)
            if key in said:
                raise InputError(f'{source.at(*below, "set", *path)}: "{key}" is set twice, in two spellings')
            said.add(key)
            settings[key] = value
            places[key] = source.at(*below, "set", *path)
    is_file = use.recipe.endswith((".yaml", ".yml"))
    recipe = str(entry.document.path.parent / use.recipe) if is_file else use.recipe
    return _Choice(recipe, settings, places, place, Path(written).stem)


def _cell(
    suite: Suite,
    site: Site,
    of_comparison: tuple[str, Entry],
    of_backbone: tuple[str, Entry],
    choice: _Choice,
    weights: Weights,
    column: str | None = None,
) -> SuiteCell:
    """The cell of a backbone under a recipe with seed 0; in that column, if it is given."""
    (comparison, entry), (backbone, use) = of_comparison, of_backbone
    planned, named = _planned(use, choice, weights, column)
    pretraining = _needed(suite, weights.needs) if weights.needs else None
    if pretraining and not use.value.pretrain_data:
        named = replace(named, pretrain_data=pretraining_name(pretraining.recipe.dataset))
    table = TASKS[planned.recipe.task].table_of(planned.recipe.dataset)
    _require_table(entry, table)
    dataset = suite.site_name(planned.recipe.dataset)
    is_otherwise = dataset != planned.recipe.dataset or (pretraining is not None and _is_otherwise(suite, pretraining))
    root, missing = find_data(site, dataset)
    return SuiteCell(
        name=f"{comparison}-{backbone}-{choice.written}-seed0",
        comparison=comparison,
        backbone=backbone,
        recipe=choice.recipe,
        overrides=tuple(as_overrides(choice.settings)),
        dataset=dataset,
        planned=replace(planned, data=root),
        plugins=tuple(each.value for each in suite.plugins),
        table=table,
        method=named.method,
        pretrain_data=named.pretrain_data,
        column=named.model,
        expected={} if is_otherwise else expected_numbers(planned, named, table),
        needs=weights.needs,
        weights=weights.name,
        runtime=site.runtime_of(choice.recipe),
        missing=(*missing, *weights.missing),
        place=choice.place,
    )


def _columns_apart(cells: Sequence[SuiteCell]) -> list[str]:
    """The columns of one backbone's cells: two image sizes on the same data stand apart, as "ViT-H" and "ViT-H-448" do.

    The smallest keeps the model's name.
    """
    smallest: dict[tuple[str, ...], int] = {}
    for cell in cells:
        place = (cell.table, cell.dataset, cell.column)
        smallest[place] = min(_image_size(cell), smallest.get(place, _image_size(cell)))
    columns = []
    for cell in cells:
        size = _image_size(cell)
        is_apart = TASKS[cell.task].columns_by_image_size and size != smallest[cell.table, cell.dataset, cell.column]
        columns.append(f"{cell.column}-{size}" if is_apart else cell.column)
    return columns


def _image_size(cell: SuiteCell) -> int:
    settings: Any = cell.planned.recipe
    return int(settings.model.image_size)


def _with_seed(cell: SuiteCell, seed: int) -> SuiteCell:
    name = f"{cell.name.removesuffix('0')}{seed}"
    return replace(cell, name=name, planned=replace(cell.planned, seed=seed))


def _planned(use: Entry, choice: _Choice, weights: Weights, column: str | None) -> tuple[PlannedCell, Origin]:
    """The run with seed 0, and the names of its row and column as far as nothing is read of the weights."""
    backbone: BackboneUse = use.value
    declared = Declared(backbone.method, backbone.pretrain_data, column or backbone.model)
    argument = backbone.backbone if weights.path is None else f"{backbone.backbone}={weights.path}"
    bare = choice.attempt(
        lambda recipe, settings: plan_task(recipe, NOWHERE, argument, seed=0, overrides=settings, declared=declared)
    )
    with _said_of(use.at()):
        if not use.said:
            _require_weights(backbone)
        entry, planned = find_planned_backbone(bare)
        return planned, settle_names(planned, entry, None)


def _needed(suite: Suite, pretraining: str) -> PlannedCell:
    """One of a suite's pre-trainings, planned, on data that are not looked at."""
    entry = suite.pretraining[pretraining]
    return _chosen(suite, entry.value, entry, (), []).attempt(
        lambda name, settings: plan_pretraining(name, NOWHERE, seed=0, overrides=settings)
    )


def _is_otherwise(suite: Suite, pretraining: PlannedCell) -> bool:
    """Whether what a pre-training makes is not what the literature's numbers of its method are of."""
    dataset = pretraining.recipe.dataset
    return bool(pretraining.deviations) or suite.site_name(dataset) != dataset


def _require_weights(use: BackboneUse) -> None:
    from backbones.registry import find_backbone

    if use.weights is None and find_backbone(use.backbone).needs_checkpoint:
        raise InputError(
            f'{use.backbone}: needs its weights, `weights: FILE`, or "@NAME" of one of the suite\'s pre-trainings'
        )


def require_replaced_data(suite: Suite, cells: Sequence[SuiteCell]) -> None:
    """Raise InputError if a suite's own file replaces a data set that none of its cells has."""
    asked = {entry.value.data for entry in suite.pretraining.values()} | {cell.planned.recipe.dataset for cell in cells}
    known = sorted(filter(None, asked))
    for name, entry in suite.replaced.items():
        if entry.document.path == suite.path and name not in known:
            raise InputError(f"{entry.key()}: no cell has such a data set to be replaced. {nearest(name, known)}")


def expected_numbers(planned: PlannedCell, named: Origin, table: str) -> dict[str, float]:
    """The published number of each of the table's metrics for that row and column; none of a run that deviates."""
    if set(planned.deviations) != set(planned.recipe_deviations):
        return {}
    settings = planned.recipe.model_dump(mode="json")
    place, row = (table, planned.recipe.dataset), (named.method, named.pretrain_data, named.model)
    found = {name: expected_number(settings, (*place, name), row) for name in PAPER_TABLES[table].metrics}
    return {name: value for name, value in found.items() if value is not None}


def _require_table(entry: Entry, table: str) -> None:
    comparison: Comparison = entry.value
    named = comparison.table
    if named is not None and named not in PAPER_TABLES:
        raise InputError(f"{entry.key('table')}: {named}: no such table. {nearest(named, PAPER_TABLES)}")
    if named not in (None, table):
        raise InputError(f'{entry.key("table")}: {named}: the numbers of its recipes stand in the table "{table}"')


def _require_distinct(cells: Sequence[SuiteCell]) -> None:
    seen: set[str] = set()
    for cell in cells:
        if len(cell.name.encode()) > LONGEST:
            raise InputError(f"{cell.place}: {cell.name}: longer than {LONGEST} bytes. Give shorter names")
        if cell.name in seen:
            raise InputError(
                f"{cell.place}: {cell.name}: this cell is there twice. Name a backbone, a recipe and a seed once in a "
                "comparison, and a pre-training otherwise than those cells"
            )
        seen.add(cell.name)


def _require_one_protocol(cells: Sequence[SuiteCell], suite: Suite) -> None:
    """All methods of a table run under one recipe; what is tuned for a method is a row of its own."""
    compared = [cell for cell in cells if cell.comparison]
    is_own_row = {cell.backbone: _has_name_of_its_own(suite.backbones[cell.backbone], cell) for cell in compared}
    of_place: dict[tuple[str, ...], SuiteCell] = {}
    for cell in compared:
        place = (cell.table, cell.task, cell.planned.recipe.dataset, cell.dataset, cell.column)
        row = (*place, cell.method, cell.pretrain_data) if is_own_row[cell.backbone] else place
        first = of_place.setdefault(row, cell)
        if _protocol(cell) != _protocol(first):
            raise InputError(
                f"{cell.place}: {cell.name} has another recipe or other settings than {first.name}, in the same column "
                f"of the table {cell.table}. All methods of a table run under one recipe: give what is tuned a row of "
                f'its own, such as `method: "{cell.method}, tuned"`'
            )


def _has_name_of_its_own(use: Entry, cell: SuiteCell) -> bool:
    """Whether a cell's row is by a name that neither its backbone has nor any method that is known."""
    if use.value.method is None:
        return False
    entry, planned = find_planned_backbone(replace(cell.planned, declared=None))
    undeclared = settle_names(planned, entry, None).method
    known = [undeclared, *METHODS, *(row.method for row in reference_rows())]
    return not any(same_name(cell.method, name) for name in known)


def _protocol(cell: SuiteCell) -> tuple[str, str]:
    """What has to agree within a column: the recipe, and settings that decide a number. Those that a plug-in
    registered a model with are the model's own."""
    deciding = {text for text in cell.overrides if text.partition(".")[0].partition("=")[0] not in UNDECIDING}
    return cell.recipe, json.dumps(sorted(deciding))
