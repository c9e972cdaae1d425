"""What scripts hand on of their comparisons, and the lines that are made of it."""

from pathlib import Path

import pytest

from benchmarks.speed.comparing.figures import COLUMNS, Comparison, Figures, compare, markdown_table, write_figures
from benchmarks.speed.comparing.turns import Turns

OURS, THEIRS = Turns([0.5, 0.4, 0.8], 4.4), Turns([1.0, 1.2, 0.9], 9.81)


def cells(*comparisons: Comparison) -> list[list[str]]:
    """The lines of a table, without what aligns them."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown_table(comparisons).splitlines()]


def test_speed_is_in_images_and_the_ratio_that_of_the_medians() -> None:
    found = compare("a step", OURS, "another's", THEIRS, images=2)
    assert (found.ours.median, found.ours.lowest, found.ours.highest) == pytest.approx((4, 2.5, 5))
    assert found.theirs and found.theirs.median == pytest.approx(2)
    assert found.ratio and (found.ratio.median, found.ratio.lowest, found.ratio.highest) == pytest.approx(
        (2, 0.9 / 0.8, 3)
    )
    assert found.device


def test_the_table_says_what_whose_how_fast_and_in_how_much_memory() -> None:
    found = compare("a step", OURS, "another's", THEIRS, images=2).model_copy(update={"device": "a GPU"})
    heading, _, line = cells(found)
    assert heading == [*COLUMNS]
    ratio, memory = "2.00 × (1.12 to 3.00)", "4.4 against 9.8 GiB"
    speeds = "4.00 (2.50 to 5.00) against 2.00 (1.67 to 2.22) images/s"
    assert line == ["a step", "another's", ratio, speeds, memory, "a GPU"]


def test_a_range_is_told_where_turns_are_far_apart() -> None:
    steady, other = Turns([1.0, 1.02, 0.99]), Turns([1.0, 1.04, 0.98])
    assert cells(compare("a step", steady, "another's", other))[2][3] == "1.00 against 1.00 (0.980 to 1.04) s"
    assert cells(compare("a step", steady, "another's", steady))[2][3] == "1.00 against 1.00 s"
    assert cells(compare("alone", other))[2][3] == "1.00 (0.980 to 1.04) s"


def test_the_table_tells_which_side_waits_for_the_host() -> None:
    ours, theirs = Turns([1.0], 1.0, host_share=0.3), Turns([2.0, 3.0, 2.5], 1.0, host_share=0.97)
    found = compare("a step", ours, "another's", Turns([2.0], 1.0, host_share=0.97))
    assert (found.our_host_share, found.their_host_share) == (0.3, 0.97)
    assert cells(found)[2][3] == "1.00 against 2.00 (waits for the host) s"
    assert cells(compare("alone", theirs))[2][3] == "2.50 (2.00 to 3.00, waits for the host) s"


def test_a_side_without_a_peer_has_a_line_too() -> None:
    line = cells(compare("a step", Turns([0.002], 1.26), images=8))[2]
    assert line[:5] == ["a step", "–", "–", "4,000 images/s", "1.3 GiB"]


def test_without_images_and_memory_seconds_are_compared() -> None:
    line = cells(compare("scoring", Turns([0.0312]), "theirs", Turns([3.2])))[2]
    assert line[2:5] == ["103 ×", "0.0312 against 3.20 s", "–"]


def test_figures_come_back_as_they_were_written(tmp_path: Path) -> None:
    comparisons = [compare("a step", OURS, "another's", THEIRS, images=2), compare("alone", OURS)]
    write_figures(tmp_path / "new/figures.json", comparisons)
    assert Figures.model_validate_json((tmp_path / "new/figures.json").read_text()).comparisons == comparisons
    write_figures(None, comparisons)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
