"""What the picture of a history shows, read from the figure that it is made of."""

import io
import itertools
from dataclasses import replace

import pytest
from PIL import Image

from results.regression.findings import CellName
from results.regression.history import Change, Drift, History, Series
from results.regression.history_picture import MOST_CELLS, draw_history, history_picture

NIGHTS = tuple(f"2026-11-{day:02d}" for day in range(1, 13))
CELL = CellName("classification", "imagenet1k", "val", "top1", "MAE", "IN1K", "ViT-B", "vit", "imagenet_vit_base")
VALUES = (*([83.5, 83.6] * 3), *([83.0, 82.9] * 3))
QUIET = Series(CELL, "a1", "accuracy", NIGHTS, VALUES, 1, False, 0.1, (83.3, 83.7))
CHANGED = replace(QUIET, changes=(Change(NIGHTS[6], 83.55, 82.95, -0.6, 0.001, True),))
SPEED = replace(QUIET, quantity="speed", values=(1000.0,) * 12, band=(950.0, 1050.0))


def texts(history: History) -> list[str]:
    return [text.get_text() for axes in draw_history(history).axes for text in axes.texts]


def test_a_change_is_a_line_with_its_size() -> None:
    (axes, below) = draw_history(History((CHANGED, SPEED))).axes
    verticals = [line for line in axes.lines if list(line.get_ydata()) == [0, 1] and line.get_xdata()[0] != 0]
    days = axes.lines[1].get_xdata()
    assert [line.get_xdata()[0] for line in verticals] == [(days[5] + days[6]) / 2]
    assert [text.get_text() for text in axes.texts] == ["-0.60"] and not below.texts
    assert below.get_ylabel() == "images/s" and axes.get_title(loc="left") == "vit on imagenet1k (imagenet_vit_base)"
    low, high = axes.get_ylim()
    assert low < 82.9 and high > 83.7, "all nights and the band"


def test_a_drift_is_a_line_through_its_nights() -> None:
    drifting = replace(QUIET, drift=Drift(NIGHTS[0], NIGHTS[-1], 83.7, 82.9, -0.8, 0.001, True))
    axes = draw_history(History((drifting,))).axes[0]
    assert list(axes.lines[-1].get_ydata()) == [83.7, 82.9] and axes.texts[0].get_text() == "drift -0.80"


def test_memory_is_shown_where_it_changed() -> None:
    memory = replace(SPEED, quantity="memory")
    assert len(draw_history(History((QUIET, SPEED, memory))).axes) == 2
    more = replace(memory, changes=(Change(NIGHTS[6], 8000, 8800, 10.0, 0.0, True),))
    assert len(draw_history(History((QUIET, SPEED, more))).axes) == 3
    assert texts(History((QUIET, SPEED, more))) == ["+10.0 %"]


def test_cells_with_changes_come_first_and_what_is_left_out_is_told() -> None:
    quiet = [replace(QUIET, cell=CELL._replace(backbone=f"b{number}")) for number in range(MOST_CELLS)]
    figure = draw_history(History((*quiet, CHANGED)))
    assert len(figure.axes) == MOST_CELLS and figure.axes[0].get_title(loc="left").startswith("vit on")
    assert "61 cells; the first 60 are shown" in figure.get_suptitle()


@pytest.mark.parametrize("nights", [NIGHTS, tuple("abcdefghijkl")])
def test_a_night_need_not_be_a_date(nights: tuple[str, ...]) -> None:
    picture = Image.open(io.BytesIO(history_picture(History((replace(QUIET, nights=nights, band=None),)))))
    assert picture.format == "PNG" and picture.width > 300


def test_one_night_and_none() -> None:
    one = replace(QUIET, nights=NIGHTS[:1], values=(83.5,), band=None, sigma=None)
    assert history_picture(History((one,))) and history_picture(History(()))


def test_cells_that_differ_in_what_no_title_says_are_told_apart() -> None:
    other = replace(QUIET, cell=CELL._replace(method="DINO"))
    assert [*History((QUIET, other, replace(QUIET, protocol="b2"))).names.values()] == [
        "vit on imagenet1k (imagenet_vit_base), MAE, protocol a1",
        "vit on imagenet1k (imagenet_vit_base), DINO, protocol a1",
        "vit on imagenet1k (imagenet_vit_base), MAE, protocol b2",
    ]


def test_a_name_is_no_formula() -> None:
    history = History((replace(QUIET, cell=CELL._replace(recipe="$\\frac{$")),))
    assert history_picture(history).startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
def test_a_name_in_letters_that_the_font_lacks_is_spelled_out() -> None:
    history = History((replace(QUIET, cell=CELL._replace(backbone="视é")),))
    assert history_picture(history).startswith(b"\x89PNG")
    assert draw_history(history).axes[0].get_title(loc="left").startswith("\\u89c6é on imagenet1k")


def test_the_axes_of_a_panel_lie_below_each_other_and_panels_apart() -> None:
    memory = replace(SPEED, quantity="memory", changes=(Change(NIGHTS[6], 8000, 8800, 10.0, 0.0, True),))
    other = [replace(one, cell=CELL._replace(backbone="other")) for one in (QUIET, SPEED)]
    boxes = [axes.get_position() for axes in draw_history(History((QUIET, SPEED, memory, *other))).axes]
    for first, second in itertools.combinations(boxes, 2):
        assert first.x1 < second.x0 or first.y0 > second.y1
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    assert boxes[0].height == pytest.approx(3 * boxes[1].height) and boxes[0].x0 == boxes[2].x0


def test_a_picture_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn, draw = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda figure, renderer: [drawn.append(1), draw(figure, renderer)])
    assert history_picture(History((QUIET, SPEED))).startswith(b"\x89PNG") and len(drawn) == 1


def test_one_night_is_no_span() -> None:
    night = replace(QUIET, nights=NIGHTS[:1], values=VALUES[:1])
    assert draw_history(History((night,))).get_suptitle().startswith("1 night, 2026-11-01, 1 cell. Shaded")
