"""Some of a suite's cells, and one backbone of the user's own in the place of all."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backbones.errors import InputError
from backbones.plugins import import_files
from backbones.weights.origin import Declared
from backbones.weights.references import split_part
from benchmarks.planning.cells import parse_backbone
from benchmarks.planning.names import spell_declared
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.site import Site
from benchmarks.planning.suites.suite import ALL, BackboneUse, Comparison, Entry, Suite
from results.measurements import simplified

FIELDS = (
    *("cell", "comparison", "task", "table", "dataset", "recipe", "backbone"),
    *("method", "pretrain_data", "model", "seed"),
)
"""What `--only` can ask for."""


def select(cells: Sequence[SuiteCell], wanted: Iterable[str]) -> tuple[SuiteCell, ...]:
    """The cells that `--only` asks for, with the pre-trainings that they need.

    wanted: each "task=detection,model=ViT-B"; a cell has to agree with all fields of one of them

    Raises InputError for a field that there is not, and for whatever of `wanted` no cell agrees with.
    """
    conditions = {text: _parse(text) for text in wanted}
    if not conditions:
        return tuple(cells)
    chosen: set[str] = set()
    for text, condition in conditions.items():
        agreeing = {cell.name for cell in cells if _agrees(cell, condition)}
        if not agreeing:
            told = "; ".join(f"{name}: {', '.join(_values(cells, name))}" for name in condition)
            raise InputError(f"--only {text}: no cell of the suite is so. There are: {told}")
        chosen |= agreeing
    chosen |= {cell.needs for cell in cells if cell.name in chosen and cell.needs}
    return tuple(cell for cell in cells if cell.name in chosen)


def _parse(text: str) -> dict[str, str]:
    condition = {}
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if name not in FIELDS or not equals or not value:
            raise InputError(f"--only {text}: expected FIELD=VALUE,…, a field being one of {', '.join(FIELDS)}")
        if name in condition:
            raise InputError(f"--only {text}: {name} is there twice. For cells of either, repeat --only")
        condition[name] = value
    return condition


def _agrees(cell: SuiteCell, condition: Mapping[str, str]) -> bool:
    return all(simplified(_value(cell, name)) == simplified(value) for name, value in condition.items())


def _value(cell: SuiteCell, name: str) -> str:
    other = {"cell": cell.name, "model": cell.column, "recipe": cell.planned.recipe_name}
    return str(other[name] if name in other else getattr(cell, name))


def _values(cells: Iterable[SuiteCell], name: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (_value(cell, name) for cell in cells))))


@dataclass(frozen=True)
class Candidate:
    """A backbone of the user's own, to be judged alone in all of a suite's comparisons.

    backbone:   NAME[=CHECKPOINT[::PART]]
    recipes_of: the model whose recipes it takes, "ViT-B"; by default those of its own
    """

    backbone: str
    method: str | None = None
    pretrain_data: str | None = None
    model: str | None = None
    recipes_of: str | None = None


def with_backbone(suite: Suite, site: Site, candidate: Candidate) -> tuple[Suite, Site, tuple[str, ...]]:
    """The suite with one backbone in the place of all, in every comparison that has a recipe for its size.

    The third is a sentence for each comparison that has none. Raises InputError where no comparison has one.
    """
    from backbones.registry import find_backbone

    import_files([entry.value for entry in suite.plugins])
    name, weights = parse_backbone(candidate.backbone)
    known = {key: key for one in suite.comparisons.values() for key in one.value.recipes if key != ALL}
    own = find_backbone(name, with_checkpoint=weights is not None).model
    declared = spell_declared(Declared(candidate.method, candidate.pretrain_data, candidate.model), [*known, own])
    size = candidate.recipes_of or declared.model or own
    size = spell_declared(Declared(model=size), [*known, own]).model or size
    comparisons, notes = {}, []
    called = re.sub(r"[^\w.+-]+", "_", declared.method or name.rpartition(":")[2]).strip("_.+-") or "backbone"
    for title, one in suite.comparisons.items():
        comparison: Comparison = one.value
        key = ALL if ALL in comparison.recipes else size
        if key in comparison.recipes:
            changed = comparison.model_copy(update={"backbones": (called,), "recipes": {ALL: comparison.recipes[key]}})
            comparisons[title] = replace(one, value=changed)
        else:
            notes.append(f"{title}: no recipes for {size}. There are those of: {', '.join(comparison.recipes)}")
    if not comparisons:
        raise InputError(
            f"--backbone {name}: the suite {suite.name} has no recipes for {size}. Give --model or --recipes-of, one "
            f"of: {', '.join(known)}"
        )
    use = BackboneUse(
        backbone=name,
        weights=None if weights is None else str(weights),
        method=declared.method,
        pretrain_data=declared.pretrain_data,
        model=declared.model,
    )
    entry = Entry(use, next(iter(comparisons.values())).document, ("backbones", called), said=f"--backbone {name}")
    files = dict(site.files)
    if weights is not None:
        file, _ = split_part(weights)
        files[str(file)] = file.absolute()
    named = f"{suite.name}-{called}-{_digest(candidate, size)}"
    only = replace(suite, name=named, backbones={called: entry}, pretraining={}, comparisons=comparisons)
    only = replace(only, is_of_candidate=True)
    return only, replace(site, files=files), tuple(notes)


def _digest(candidate: Candidate, size: str) -> str:
    """Six hexadecimal digits of a candidate: another one's cells do not lie in the same folder."""
    name, weights = parse_backbone(candidate.backbone)
    told = [*asdict(candidate).values(), name, str(weights.absolute()) if weights else "", size]
    told.remove(candidate.backbone)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:6]


MOST_SEEDS = 1000


def with_seeds(suite: Suite, count: int) -> Suite:
    """The suite with so many seeds, 0, 1, …, in every comparison. Raises InputError for none, or too many."""
    if not 1 <= count <= MOST_SEEDS:
        raise InputError(f"seeds: expected 1 to {MOST_SEEDS}; found {count}")

    def seeded(entry: Entry) -> Entry:
        return replace(entry, value=entry.value.model_copy(update={"seeds": tuple(range(count))}))

    return replace(suite, comparisons={name: seeded(entry) for name, entry in suite.comparisons.items()})


def with_plugins(suite: Suite, files: Iterable[Path]) -> Suite:
    """The suite with more files that register backbones and methods."""
    first = next(iter((*suite.comparisons.values(), *suite.pretraining.values()))).document
    entries = tuple(Entry(path.absolute(), first, (), said=f"--plugin {path}") for path in files)
    return replace(suite, plugins=(*suite.plugins, *entries))
