"""The structure of the house: imports, and strings that name modules, point downwards; no imports go round in circles.

Every import of every module counts: within functions, relative, for type checkers only, and of a name that a package
passes on, which is an import from where the package has it. Names that are put together at run time cannot be seen.
"""

import ast
import graphlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]

FLOORS: dict[str, tuple[str, ...]] = {
    "benchmarks": ("tasks", "backbones", "results"),
    "tasks": ("backbones", "results"),
    "backbones": (),
    "results": (),
}
"""The packages, and what of the others each may import."""

_DRAWERS = (
    *("tasks.datasets.class_folders", "tasks.datasets.coco", "tasks.datasets.image_lists"),
    *("tasks.datasets.imagenet_variants", "tasks.datasets.label_maps", "tasks.datasets.torchvision_layouts"),
)
_SISTERS = ("tasks.classification", "tasks.detection", "tasks.segmentation")
_PROBES = ("tasks.probing", "tasks.dense_probing")
_TRAINED_PROBES = ("tasks.linear_probing", "tasks.partial_fine_tuning")
_WORK = ("benchmarks.launching", "benchmarks.running", "benchmarks.planning")

ROOMS: dict[str, tuple[str, ...]] = {
    "backbones": ("backbones.errors", "backbones.images", "backbones.running_statistics", "backbones.weights"),
    "backbones.cache": ("backbones.errors", "backbones.images", "backbones.training"),
    "backbones.kept_features": ("backbones.cache", "backbones.errors", "backbones.images", "backbones.training"),
    "backbones.errors": (),
    "backbones.images": ("backbones.errors",),
    "backbones.running_statistics": (),
    "backbones.training": ("backbones.errors", "backbones.images", "backbones.running_statistics"),
    "backbones.exporting": (
        *("backbones", "backbones.errors", "backbones.images", "backbones.training", "backbones.weights"),
        *("backbones.trained", "backbones.pretraining"),
    ),
    "backbones.trained": ("backbones.errors", "backbones.training", "backbones.weights"),
    "backbones.weights": ("backbones.errors", "backbones.images"),
    "backbones.pretraining": (
        *("backbones", "backbones.errors", "backbones.images", "backbones.training", "backbones.weights"),
        *("backbones.mae.reconstructions", "backbones.cache", "backbones.trained"),
    ),
    "backbones.mae.reconstructions": ("backbones", "backbones.errors", "backbones.images", "backbones.training"),
    **dict.fromkeys(("results", "tasks"), ()),
    "tasks.data_sets": ("tasks.datasets", *_DRAWERS),
    "tasks.registry": ("tasks", "tasks.data_sets", "tasks.datasets", *_DRAWERS, *_SISTERS, *_PROBES, *_TRAINED_PROBES),
    "tasks.datasets": (),
    **dict.fromkeys(_DRAWERS, ("tasks.datasets",)),
    "tasks.datasets.image_lists": ("tasks.datasets", "tasks.datasets.class_folders"),
    "tasks.datasets.torchvision_layouts": ("tasks.datasets", "tasks.datasets.image_lists"),
    **dict.fromkeys(_SISTERS, ("tasks", "tasks.data_sets", "tasks.datasets", *_DRAWERS)),
    **dict.fromkeys(_PROBES, ("tasks", "tasks.data_sets", "tasks.datasets", *_DRAWERS, *_SISTERS)),
    **dict.fromkeys(_TRAINED_PROBES, ("tasks", "tasks.classification", "tasks.data_sets", "tasks.datasets", *_PROBES)),
    "benchmarks": ("benchmarks.commands", "benchmarks.planning", "benchmarks.scheduling"),
    "benchmarks.commands": (*_WORK, "benchmarks.mini", "benchmarks.selftest", "benchmarks.scheduling"),
    "benchmarks.launching": (),
    "benchmarks.scheduling": _WORK,
    "benchmarks.running": ("benchmarks.planning",),
    "benchmarks.planning": (),
    "benchmarks.mini": (),
    "benchmarks.shown": ("benchmarks.mini",),
    "benchmarks.selftest": (*_WORK, "benchmarks.mini"),
    "benchmarks.speed": (*_WORK, "benchmarks.scheduling", "benchmarks.selftest"),
}
"""The rooms of each package, and which others of the same package each may import.

A module belongs to the room with the longest name that begins its own; a package's own name stands for all that is in
none of its rooms.
"""

NAME = re.compile(rf"({'|'.join(FLOORS)})(\.\w+)+(:\w+)?")
FILES = {"results.csv"}
"""What looks like a module's name and is a file's."""


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]


House = dict[str, Module]


@dataclass(frozen=True)
class Arrow:
    """From one module to what another line of the house calls `target`.

    kind: "import", "typing" where only type checkers import it, "string" where a string names it
    """

    origin: Module
    line: int
    target: str
    kind: str

    def __str__(self) -> str:
        verb = "names" if self.kind == "string" else "imports"
        return f"{self.origin.name}, line {self.line}: {verb} {self.target}"


def read_house(root: Path) -> House:
    house: House = {}
    for package in FLOORS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            house[name] = Module(name, path, ast.parse(path.read_text(), str(path)))
    return house


def _statements(node: ast.AST, typing: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below this one, and whether only type checkers see it."""
    for child in ast.iter_child_nodes(node):
        hidden = typing
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            hidden = typing or child in node.body
        yield child, hidden
        yield from _statements(child, hidden)


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The module that a `from` names, in full."""
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def arrows(house: House) -> Iterator[Arrow]:
    """All from one module of the house to a name of the house, whether there is anything of that name or not."""
    for module in house.values():
        for node, typing in _statements(module.tree):
            kind = "typing" if typing else "import"
            match node:
                case ast.Import(names):
                    targets = [alias.name for alias in names]
                case ast.ImportFrom(names=names):
                    origin = _origin(module, node)
                    targets = [origin if alias.name == "*" else f"{origin}.{alias.name}" for alias in names]
                case ast.Constant(str(text)) if NAME.fullmatch(text) and text not in FILES:
                    targets, kind = [text], "string"
                case _:
                    continue
            for target in targets:
                if target.partition(".")[0] in FLOORS:
                    yield Arrow(module, node.lineno, target, kind)


def _bound(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """The names that statements bind, not those within functions, with the statement that does."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        match statement:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                found[name] = statement
            case ast.Import(names) | ast.ImportFrom(names=names):
                found |= {alias.asname or alias.name.partition(".")[0]: statement for alias in names}
            case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
                for part in ("body", "orelse", "finalbody"):
                    found |= _bound(getattr(statement, part, []))
            case _:
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        found[node.id] = statement
    return found


def modules_of(house: House, target: str) -> list[str]:
    """The modules of the house that a name leads to: the one it is in, and the one from which that has it.

    Raises LookupError if there is nothing of that name.
    """
    dotted, _, attribute = target.partition(":")
    parts = [*dotted.split("."), *([attribute] if attribute else [])]
    depth = next((depth for depth in range(len(parts), 0, -1) if ".".join(parts[:depth]) in house), 0)
    if not depth or (attribute and depth != len(parts) - 1):
        raise LookupError(target)
    home, names = ".".join(parts[:depth]), parts[depth:]
    body = house[home].tree.body
    for position, name in enumerate(names):
        match _bound(body).get(name):
            case ast.ImportFrom() as statement:
                origin = _origin(house[home], statement)
                if origin.partition(".")[0] not in FLOORS:
                    return [home]
                original = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
                return [home, *modules_of(house, ".".join([origin, original, *names[position + 1 :]]))]
            case ast.ClassDef(body=body):
                pass
            case None:
                raise LookupError(target)
            case _:
                return [home]
    return [home]


def room_of(module: str) -> str:
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def missing_rooms(house: House) -> list[str]:
    return [room for room in ROOMS if not any(f"{name}.".startswith(f"{room}.") for name in house)]


def _allowed(origin: str, target: str) -> bool:
    floor, other = origin.partition(".")[0], target.partition(".")[0]
    if floor != other:
        return other in FLOORS[floor]
    return room_of(origin) == room_of(target) or room_of(target) in ROOMS[room_of(origin)]


def mistakes(house: House) -> list[str]:
    """The arrows that lead nowhere, and those that lead where they may not."""
    found = []
    for arrow in arrows(house):
        try:
            targets = modules_of(house, arrow.target)
        except LookupError:
            found.append(f"{arrow}, which does not exist")
            continue
        found += [
            f"{arrow}, and {room_of(arrow.origin.name)} may not import {room_of(target)}"
            for target in targets
            if not _allowed(arrow.origin.name, target)
        ]
    return sorted(set(found))


def circle(house: House) -> list[str]:
    """Modules that import each other in turn, the first again at the end; none where there is no such circle."""
    graph: dict[str, set[str]] = {name: set() for name in house}
    for arrow in arrows(house):
        if arrow.kind == "import":
            graph[arrow.origin.name] |= {*modules_of(house, arrow.target)} - {arrow.origin.name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [*reversed(error.args[1])]
    return []


@pytest.fixture(scope="module")
def house() -> House:
    return read_house(HOUSE)


def test_every_room_of_the_table_exists(house: House) -> None:
    assert missing_rooms(house) == []
    assert {name.partition(".")[0] for name in house} == FLOORS.keys()


def test_arrows_point_downwards(house: House) -> None:
    found = mistakes(house)
    assert not found, "\n".join(found)


def test_there_are_no_circles(house: House) -> None:
    assert circle(house) == []


SMALL_HOUSE = {
    "backbones/__init__.py": "if TYPE_CHECKING:\n    from backbones.registry import create",
    "backbones/errors.py": "class InputError(ValueError):\n    where = None",
    "backbones/registry.py": "def create(): ...",
    "backbones/training/__init__.py": "",
    "backbones/training/job.py": "from ..errors import InputError",
    "backbones/pretraining/job.py": "from backbones.training import job",
    "results/store.py": "PLACE, (OTHER, *REST) = 'results.csv', 'ab'",
    "tasks/__init__.py": "",
    "tasks/outcome.py": "import results.store",
    "tasks/registry.py": "TASKS = ['tasks.detection.task', 'tasks.datasets.coco.check:check']",
    "tasks/datasets/coco/check.py": "async def check(): ...",
    "tasks/datasets/label_maps/check.py": "check = len",
    "tasks/detection/__init__.py": "",
    "tasks/detection/task.py": "from tasks.datasets.coco import check\nfrom tasks import outcome",
    "tasks/segmentation/task.py": "try:\n    import os\nexcept ImportError:\n    os = None",
    "benchmarks/planning/cells.py": "import os.path",
    "benchmarks/running/cells.py": "from benchmarks.planning.cells import os",
}
"""Sound as it stands."""


def build(root: Path, additions: dict[str, str]) -> House:
    """The small house with more lines at the end of some files."""
    for name, text in SMALL_HOUSE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n{additions.get(name, '')}\n")
    return read_house(root)


def test_a_sound_house_has_neither_mistakes_nor_circles(tmp_path: Path) -> None:
    house = build(tmp_path, {})
    assert (mistakes(house), circle(house)) == ([], [])
    assert len([*arrows(house)]) == 9


def test_a_room_that_is_no_more_is_found(tmp_path: Path) -> None:
    missing = missing_rooms(build(tmp_path, {}))
    assert "benchmarks.speed" in missing and "benchmarks.running" not in missing


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("results/store.py", "import tasks.outcome", "results.store, line 2: imports tasks.outcome, and results may"),
        ("backbones/registry.py", "import results.store", "and backbones may not import results"),
        ("results/store.py", "from backbones import errors", "and results may not import backbones.errors"),
        (
            "backbones/registry.py",
            "def f():\n    import benchmarks.running.cells",
            "line 3: imports benchmarks.running",
        ),
        (
            "backbones/registry.py",
            "from .training.job import InputError",
            "backbones may not import backbones.training",
        ),
        (
            "backbones/errors.py",
            "if TYPE_CHECKING:\n    from . import registry",
            "backbones.errors may not import back",
        ),
        ("backbones/training/job.py", "from .. import create", "imports backbones.create, and backbones.training may"),
        ("backbones/training/job.py", "from backbones import *", "backbones.training may not import backbones"),
        (
            "tasks/outcome.py",
            "class A:\n    def f(self):\n        from .detection import task",
            "import tasks.detection",
        ),
        ("tasks/detection/task.py", "import tasks.segmentation.task as other", "may not import tasks.segmentation"),
        ("tasks/detection/task.py", "NAME = 'tasks.segmentation.task'", "line 3: names tasks.segmentation.task, and"),
        ("tasks/detection/task.py", "f(at={'a': ['tasks.segmentation.task:os']})", "names tasks.segmentation.task:os,"),
        (
            "tasks/detection/task.py",
            "from tasks.registry import TASKS",
            "tasks.detection may not import tasks.registry",
        ),
        (
            "tasks/datasets/coco/check.py",
            "from ..label_maps.check import check",
            "not import tasks.datasets.label_maps",
        ),
        ("tasks/datasets/coco/check.py", "from tasks.detection import task", "coco may not import tasks.detection"),
        ("benchmarks/planning/cells.py", "import benchmarks.running.cells", "planning may not import benchmarks.run"),
        ("benchmarks/running/cells.py", "'benchmarks.commands.cli'", "commands.cli, which does not exist"),
        ("tasks/registry.py", "'tasks.detection.tusk'", "names tasks.detection.tusk, which does not exist"),
        ("tasks/registry.py", "'tasks.detection.task:fine_tune'", "task:fine_tune, which does not exist"),
        ("tasks/registry.py", "'backbones.errors.InputError.why'", "InputError.why, which does not exist"),
        ("tasks/registry.py", "'backbones.errors.InputError:where'", "InputError:where, which does not exist"),
        ("tasks/registry.py", "from tasks.outcome import Outcome", "tasks.outcome.Outcome, which does not exist"),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, file: str, text: str, expected: str) -> None:
    (found,) = mistakes(build(tmp_path, {file: text}))
    assert expected in found


@pytest.mark.parametrize("name", ["errors.InputError", "errors.InputError.where", "errors:InputError", "create"])
def test_what_exists_may_be_named(tmp_path: Path, name: str) -> None:
    assert mistakes(build(tmp_path, {"tasks/outcome.py": f"NAME = 'backbones.{name}'"})) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "tasks/outcome.py",
            "def f():\n    from tasks.detection import task",
            ["tasks.outcome", "tasks.detection.task"],
        ),
        ("tasks/datasets/coco/check.py", "from ...detection.task import check", None),
        ("backbones/errors.py", "from backbones.pretraining.job import job", None),
    ],
)
def test_a_circle_is_found(tmp_path: Path, file: str, text: str, expected: list[str] | None) -> None:
    found = circle(build(tmp_path, {file: text}))
    assert found[0] == found[-1] and len(found) >= 3
    origin = file.removesuffix(".py").replace("/", ".")
    assert origin in found and set(expected or []) <= set(found)


def test_what_only_type_checkers_import_makes_no_circle(tmp_path: Path) -> None:
    text = "if typing.TYPE_CHECKING:\n    import tasks.detection.task\nelse:\n    import os"
    assert circle(build(tmp_path, {"tasks/outcome.py": text})) == []
