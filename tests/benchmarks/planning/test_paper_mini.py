"""The suite `paper-mini`: the paper's cells with the small models, on all that `backbench data mini` writes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.mini.site import PLACES, write_site
from benchmarks.mini.weights import stand_in_files
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.expanding import expand
from benchmarks.planning.suites.site import Site, load_site
from benchmarks.planning.suites.suite import load_suite
from tests.support.mini_backbones import registered

SIZES = {"ViT-B": "mini-B", "ViT-L": "mini-L", "ViT-H": "mini-H", "ViT-H-448": "mini-H-96"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Of folders and files that are there, and empty."""
    for folder in (*PLACES.values(), "weights"):
        (tmp_path / folder).mkdir(exist_ok=True)
    for file in stand_in_files(tmp_path / "weights").values():
        file.touch()
    with registered():
        yield load_site(write_site(tmp_path), {})


def place(cell: SuiteCell) -> tuple[str, str, str, str]:
    return cell.comparison, cell.planned.recipe.dataset, cell.method, cell.column


def test_it_has_the_papers_cells_in_the_small_columns(site: Site) -> None:
    ours, papers = expand(load_suite("paper-mini"), site), expand(load_suite("paper"), Site())
    sets = {"coco2017": "mini-coco", "ade20k": "mini-ade20k", "imagenet1k": "mini"}
    expected = [
        (comparison, sets.get(dataset, dataset), method, SIZES[column])
        for comparison, dataset, method, column in map(place, papers)
    ]
    assert Counter(map(place, ours)) == Counter(expected)
    assert sum(cell.comparison != "imagenet" for cell in ours) == 36


def test_nothing_is_missing_of_it_and_nothing_published_stands_beside(site: Site) -> None:
    cells = expand(load_suite("paper-mini"), site)
    assert [cell.missing for cell in cells if cell.missing] == []
    assert [cell.expected for cell in cells if cell.expected] == []
    assert {cell.planned.deviations for cell in cells} == {()}
