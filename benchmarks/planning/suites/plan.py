"""What a suite is going to do: its cells, on this site, in one store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.planning.suites.cells import SuiteCell, expand
from benchmarks.planning.suites.selection import select, with_backbone, with_seeds
from benchmarks.planning.suites.site import Site, load_site
from benchmarks.planning.suites.suite import Suite, load_suite


@dataclass(frozen=True)
class SuitePlan:
    """The cells of a suite that are to be run, with runs in `out`.

    is_part: whether the suite has others, which are left as they are
    """

    suite: Suite
    site: Site
    out: Path
    cells: tuple[SuiteCell, ...]
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
) -> SuitePlan:
    """Say what a suite is going to do: nothing is started, and no image read.

    suite:    a packaged one (`backbench list suites`), or a YAML file
    out:      where runs and results go
    site:     the site file; by default that of BACKBENCH_SITE
    only:     such as "task=detection,model=ViT-B"
    seeds:    how many, 0, 1, …, in the place of the suite's
    backbone: NAME[=CHECKPOINT], to be judged alone in all of the suite's comparisons; the others name it for the tables

    Raises InputError, with file and line, for whatever is wrong in the suite or the site file.
    """
    loaded, where = load_suite(suite), load_site(None if site is None else Path(site))
    if seeds is not None:
        loaded = with_seeds(loaded, seeds)
    if backbone is not None:
        loaded, where = with_backbone(
            loaded,
            where,
            backbone,
            method=method,
            pretrain_data=pretrain_data,
            model=model,
            recipes_of=recipes_of,
        )
    return SuitePlan(loaded, where, Path(out), select(expand(loaded, where), only), bool(only) or backbone is not None)
