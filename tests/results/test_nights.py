"""What is a night's name, and what only looks like one."""

import pytest

from results.errors import StoreError
from results.nights import first_night, is_night


@pytest.mark.parametrize(
    "name", ["20260101", "2026-1-01", "2026-13-01", "2026-13-45", "2026-W01-1", "x2026-01-01", "٢٠٢٦-٠١-٠١", ""]
)
def test_what_is_no_date_is_no_night(name: str) -> None:
    assert not is_night(name) and is_night("2026-01-01")


def test_the_first_night_of_a_place() -> None:
    assert first_night(["nights", "2026-01-02", "2026-01-03"], "place") == "2026-01-02"
    assert first_night(["nights", "20260102", "1-2-3"], "place") == ""
    with pytest.raises(
        StoreError, match=r"^a/2026-02-30: 2026-02-30 is no date. A night's folder is named by one, such"
    ):
        first_night(["a", "2026-02-30", "2026-01-03"], "a/2026-02-30")
