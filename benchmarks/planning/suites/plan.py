"""What a suite is going to do: its cells, on this site, in one store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.expanding import expand, require_replaced_data
from benchmarks.planning.suites.selection import Candidate, select, with_backbone, with_plugins, with_seeds
from benchmarks.planning.suites.site import Site, load_site
from benchmarks.planning.suites.suite import Suite, load_suite


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
    if backbone is None:
        require_replaced_data(loaded, cells)
    return SuitePlan(loaded, where, Path(out), select(cells, only), notes, bool(only) or backbone is not None)


def _of_backbone(*values: str | None) -> list[tuple[str, str | None]]:
    return list(zip(("--method", "--pretrain-data", "--model", "--recipes-of"), values, strict=True))
