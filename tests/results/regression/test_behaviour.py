"""What a changed course may come of, in words, and which run of a baseline another is held against."""

from typing import Any

import pytest

from results import to_frame
from results.regression.behaviour import (
    Courses,
    Origin,
    Parting,
    Tally,
    causes,
    end_of,
    made_weights,
    origin_of,
    parted,
    remade_weights,
    remarks_of,
)
from results.regression.findings import Severity
from results.regression.runs import NIGHT, Run, to_runs
from tests.support.results_examples import make_record


def run(night: str = "2026-01-01", **fields: Any) -> Run:
    (found,) = to_runs(to_frame([make_record(**fields)]).assign(**{NIGHT: night}))
    return found


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (Origin("a" * 12, versions={}), Origin("a" * 12, versions={}), ["same code and libraries"]),
        (Origin("a" * 12), Origin("a" * 12), ["same code"]),
        (Origin("a" * 12, versions={"timm": "1"}), Origin("a" * 12), ["same code"]),
        (Origin("a" * 12, versions={"timm": "1"}), Origin("a" * 12, versions={}), ["same code", "timm 1 → none"]),
        (Origin("a" * 12), Origin("b" * 12), ["code aaaaaaaa → bbbbbbbb"]),
        (Origin(""), Origin("b" * 12), ["whether the code is the same is not known"]),
        (
            Origin("a" * 12, "c" * 12, {}, ""),
            Origin("a" * 12, "", {}, "d" * 64),
            ["same code", "weights none → dddddddd", "model code cccccccc → none"],
        ),
    ],
)
def test_what_may_have_changed_a_course(before: Origin, now: Origin, told: list[str]) -> None:
    assert causes(before, now) == told


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (0.123456789, 0.1234, "0.1235 → 0.1234"),
        (1.0, 1.0 + 2**-52, "1 → 1.0000000000000002"),
        (None, 2.0, "none → 2"),
        (2.0, float("nan"), "2 → nan"),
    ],
)
def test_two_numbers_are_shown_apart(before: float | None, now: float | None, told: str) -> None:
    finding = parted(run(), Parting("loss", before, now, 1200), Origin(), Origin(), strict=False)
    assert finding.words.startswith(f"another course from update 1,200 on, seed 0: loss {told}; ")
    assert finding.severity is Severity.notice and finding.cell == run().cell


def test_the_latest_run_of_the_same_machine_is_found() -> None:
    nights = [run(f"2026-01-0{day}", device=device) for day, device in ((3, "H200"), (2, "H100"), (1, "H100"))]
    tally = Tally()
    assert Courses(nights).find(run("2026-01-04", device="H100"), tally) is nights[1]
    assert tally == Tally()
    assert Courses(nights).find(run("2026-01-04", device="A100"), tally) is None
    assert Courses(nights).find(run("2026-01-04", device="H100", seed=1), tally) is None
    assert Courses(nights).find(run("2026-01-04", device="H100", backbone="another"), tally) is None
    assert dict(tally.elsewhere) == {"device H200 → A100": 1} and tally.unpaired == 1
    assert remarks_of(Tally()) == []


def test_only_weights_that_are_made_here_are_made_anew() -> None:
    before, now = (run(checkpoint_sha256=digit * 64) for digit in "12")
    made = made_weights([run(task="pretraining", metric="loss", checkpoint_sha256="1" * 64, recipe="mae"), before])
    assert made == {"1" * 64: "mae_vit_base (mae, seed 0)"}
    assert remade_weights(before, now, made) == "mae_vit_base (mae, seed 0), 11111111 → 22222222"
    assert remade_weights(before, before, made) == remade_weights(before, now, {}) == ""
    assert origin_of(before).weights == "1" * 64


def test_the_losses_at_the_end() -> None:
    before, now, unknown = run(train_loss=2.0), run(train_loss=2.01), run()
    assert end_of(before, now, 0.0) == (True, Parting("loss", 2.0, 2.01))
    assert end_of(before, now, 0.01) == (True, None)
    assert end_of(before, unknown, 0.0) == end_of(unknown, now, 0.0) == (False, None)


def test_many_cells_are_counted() -> None:
    tally = Tally(remade={"mae": [f"cell {number}" for number in range(7)]})
    assert remarks_of(tally)[0].endswith("cell 0, cell 1, cell 2, cell 3, cell 4 and 2 more")
