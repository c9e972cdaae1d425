"""The curve of accuracy over trained blocks, from a table."""

import pytest

from results.errors import ResultsError
from results.measurements import Number
from results.partial_picture import curves, draw_partial
from results.tables import Block, Column, Row, Table
from results.trained_blocks import trained_column


def number(value: float) -> Number:
    return Number(value, value - 1, value + 1, "images", (0,), "val", 100)


def table(*rows: tuple[str, tuple[float | None, ...]], models: tuple[str, ...] = ()) -> Table:
    models = models or tuple(trained_column("ViT-B", blocks) for blocks in (0, 1, 12))
    columns = tuple(Column("partial_top1", model, False, model) for model in models)
    lines = tuple(
        Row("mini", (method, "IN1K"), tuple(None if value is None else number(value) for value in values))
        for method, values in rows
    )
    return Table("partial", (Block("mini", ("method", "data"), columns, lines, ()),), "", ())


def test_each_backbone_has_a_curve_of_its_best_numbers() -> None:
    shown = table(("MAE", (60, 70, 83)), ("MAE", (65, None, 82)), ("DINO", (None, 75, None)))
    found = {curve.label: [(blocks, each.value) for blocks, each in curve.points] for curve in curves(shown.blocks[0])}
    assert found == {"MAE, IN1K: ViT-B": [(0, 65), (1, 70), (12, 83)], "DINO, IN1K: ViT-B": [(1, 75)]}
    (axes,) = draw_partial(shown).axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[65, 70, 83], [75]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*found]


def test_models_have_curves_of_their_own() -> None:
    models = tuple(trained_column(model, 1) for model in ("ViT-B", "ViT-L"))
    shown = table(("MAE", (70, 80)), models=models)
    assert [curve.label for curve in curves(shown.blocks[0])] == ["MAE, IN1K: ViT-B", "MAE, IN1K: ViT-L"]


def test_a_table_without_blocks_is_not_drawn() -> None:
    with pytest.raises(ResultsError, match='Expected layout "partial"'):
        draw_partial(table(("MAE", (70,)), models=("ViT-B",)))
