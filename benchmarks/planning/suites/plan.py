"""What a suite is going to do: its cells, on this site, in one store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.expanding import expand, require_replaced_data
from benchmarks.planning.suites.selection import Candidate, select, with_backbone, with_plugins, with_seeds
from benchmarks.planning.suites.site import Site, load_site
from benchmarks.planning.suites.suite import FOLDER, Suite, load_suite


@dataclass(frozen=True)
class SuitePlan:
    """The cells of a suite that are to be run, with runs in `out`.

    notes:   sentences on what is left out
    is_part: whether the suite has others, which are left as they are
    """

    suite: Suite
    site: Site
    out: Path
    cells: tuple[SuiteCell, ...]
    notes: tuple[str, ...] = ()
    is_part: bool = False

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def file(self) -> str:
        """The suite's file; of a packaged one its name alone, wherever the package lies."""
        path = self.suite.path.absolute()
        return path.stem if path.parent == FOLDER else str(path)

    def is_another_than(self, file: str) -> bool:
        """Whether the suite is not the one of that `file`: both are there, and differ."""
        other = Path(file) if file.endswith((".yaml", ".yml")) else FOLDER / f"{file}.yaml"
        if not file or file == self.file or not other.is_file() or not self.suite.path.is_file():
            return False
        return other.read_bytes() != self.suite.path.read_bytes()


def plan_suite(
    suite: str,
    out: Path | str,
    *,
    site: Path | str | None = None,
    only: Sequence[str] = (),
    seeds: int | None = None,
    backbone: str | None = None,
    method: str | None = None,
    pretrain_data: str | None = None,
    model: str | None = None,
    recipes_of: str | None = None,
    plugins: Sequence[Path | str] = (),
) -> SuitePlan:
    """Say what a suite is going to do: nothing is started, and no image read.

    suite:    a packaged one (`backbench list suites`), or a YAML file
    out:      where runs and results go
    site:     the site file; by default that of BACKBENCH_SITE
    only:     such as "task=detection,model=ViT-B"
    seeds:    how many, 0, 1, …, in the place of the suite's
    backbone: NAME[=CHECKPOINT], to be judged alone in all of the suite's comparisons; the others name it for the tables
    plugins:  files of one's own that register backbones and methods, beside those that the suite names

    Raises InputError, with file and line, for whatever is wrong in the suite or the site file.
    """
    _require_place(Path(out))
    loaded, where = load_suite(suite), load_site(None if site is None else Path(site))
    loaded = with_plugins(loaded, map(Path, plugins))
    if seeds is not None:
        loaded = with_seeds(loaded, seeds)
    notes: tuple[str, ...] = ()
    if backbone is not None:
        candidate = Candidate(backbone, method, pretrain_data, model, recipes_of)
        loaded, where, notes = with_backbone(loaded, where, candidate)
    elif given := [name for name, value in _of_backbone(method, pretrain_data, model, recipes_of) if value is not None]:
        raise InputError(f"{given[0]}: goes with --backbone, of which it tells")
    cells = expand(loaded, where)
    is_part = bool(only) or seeds is not None or backbone is not None
    if backbone is None:
        require_replaced_data(loaded, cells)
    return SuitePlan(loaded, where, Path(out), select(cells, only), notes, is_part)


def _require_place(out: Path) -> None:
    """Raise InputError if no folder can be made there."""
    for path in (out, *out.parents):
        if path.is_file():
            raise InputError(f"--out {out}: {path} is a file. Expected a folder, there already or to be made")


def _of_backbone(*values: str | None) -> list[tuple[str, str | None]]:
    return list(zip(("--method", "--pretrain-data", "--model", "--recipes-of"), values, strict=True))
