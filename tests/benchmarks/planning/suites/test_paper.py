"""The shipped suites: the paper's cells, each with its published number and where its weights are to be had."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.planning.suites.plan import plan_suite
from benchmarks.planning.suites.suite import list_suites
from benchmarks.scheduling.previews import source_of
from results.reference import PREVIOUS_BEST, reference_rows

TABLES = ("coco", "ade20k", "transfer", "imagenet")


@pytest.fixture(autouse=True)
def _no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKBENCH_SITE", "BACKBENCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", list_suites())
def test_every_shipped_suite_expands(name: str, tmp_path: Path) -> None:
    plan = plan_suite(name, tmp_path)
    assert plan.cells
    assert plan.suite.about
    assert len({cell.name for cell in plan.cells}) == len(plan.cells)


def test_probes_wait_for_no_features_that_another_backbones_cell_could_take_meanwhile(tmp_path: Path) -> None:
    """Those of one backbone side by side would wait for one pass, each on a GPU of its own."""
    cells = plan_suite("probes", tmp_path).cells
    backbones = {cell.backbone for cell in cells}
    assert {cell.backbone for cell in cells[: len(backbones)]} == backbones
    assert Counter(cell.recipe for cell in cells) == dict.fromkeys({cell.recipe for cell in cells}, len(backbones))


def test_the_paper_has_thirty_six_cells_and_imagenets_nine(tmp_path: Path) -> None:
    plan = plan_suite("paper", tmp_path)
    assert Counter(cell.table for cell in plan.cells) == {"coco": 8, "ade20k": 8, "transfer": 20, "imagenet": 9}
    assert all(cell.missing for cell in plan.cells)
    assert not [*tmp_path.iterdir()]


def test_the_miniature_has_as_many_in_each_table_and_nothing_beside_them(tmp_path: Path) -> None:
    paper, mini = (plan_suite(name, tmp_path).cells for name in ("paper", "paper-mini"))
    first, other = ([(cell.comparison, cell.backbone, cell.method) for cell in cells] for cells in (mini, paper))
    assert first == other
    assert all(cell.table == cell.comparison for cell in mini if cell.comparison != "imagenet")
    assert {cell.column.removesuffix("-96") for cell in mini} == {"mini-B", "mini-L", "mini-H"}
    assert not any(cell.expected for cell in mini)


def test_each_published_number_has_one_cell_and_each_cell_its_number(tmp_path: Path) -> None:
    """But for rows that are no method's: the best before the paper, and training from scratch, of another recipe."""
    rows = [row for table in TABLES for row in reference_rows(table)]
    published = {
        (row.table, row.dataset, row.metric, row.method, row.pretrain_data, row.model): row.value
        for row in rows
        if row.method not in (PREVIOUS_BEST, "scratch")
    }
    cells = [
        ((cell.table, cell.dataset, metric, cell.method, cell.pretrain_data, cell.column), value)
        for cell in plan_suite("paper", tmp_path).cells
        for metric, value in cell.expected.items()
    ]
    assert dict(cells) == published
    assert len(cells) == len(published)


def test_weights_go_by_the_names_that_their_authors_gave_them(tmp_path: Path) -> None:
    for cell in plan_suite("paper", tmp_path).cells:
        place = cell.published
        assert place is not None, cell.name
        if place.weights:
            assert cell.weights in place.weights
            assert source_of(cell).startswith("https://github.com/")
        else:
            assert source_of(cell) == f"never released: {place.evidence}"


def test_methods_of_a_table_run_under_one_recipe(tmp_path: Path) -> None:
    recipes: dict[tuple[str, str, str], set[str]] = {}
    for cell in plan_suite("paper", tmp_path).cells:
        recipes.setdefault((cell.table, cell.dataset, cell.column), set()).add(cell.recipe)
        assert cell.planned.deviations == cell.planned.recipe_deviations == ()
    assert all(len(names) == 1 for names in recipes.values())


def test_the_cheap_point_has_other_detectors_and_the_authors_number_for_it(tmp_path: Path) -> None:
    paper, cheap = (plan_suite(name, tmp_path).cells for name in ("paper", "paper-25ep"))
    assert [cell.name for cell in paper] == [cell.name for cell in cheap]
    changed = {cell.recipe for cell in cheap} - {cell.recipe for cell in paper}
    assert changed == {"coco_fpn_vit_base_25ep", "coco_fpn_vit_large_25ep"}
    expected = {cell.backbone: dict(cell.expected) for cell in cheap if cell.table == "coco" and cell.expected}
    assert expected == {"mae_vit_base": {"AP_box": 48.1, "AP_mask": 43.2}}


def test_whoever_has_weights_that_were_never_released_fills_the_cell(tmp_path: Path) -> None:
    (tmp_path / "beit_large_in1k.pth").write_bytes(b"weights")
    (tmp_path / "coco").mkdir()
    (tmp_path / "site.yaml").write_text("data: {coco: coco}\nweights: .\n")
    plan = plan_suite("paper", tmp_path / "runs", site=tmp_path / "site.yaml")
    (ready,) = (cell for cell in plan.cells if not cell.missing)
    assert (ready.backbone, ready.table, ready.pretrain_data) == ("beit_vit_large", "coco", "IN1K+DALLE")
    assert f"beit_vit_large={tmp_path / 'beit_large_in1k.pth'}" in ready.arguments(tmp_path / "runs")
