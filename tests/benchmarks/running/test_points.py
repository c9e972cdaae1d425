"""Options that give a metric a number of points: one form, whatever the option."""

import pytest

from backbones.errors import InputError
from benchmarks.running.pairs import Allowance, read_allowances
from benchmarks.running.points import read_points


def test_metrics_and_points_are_read() -> None:
    assert [*read_points("--sigma", ["top1=0.1", "AP_box=0"], "top1=1")] == [("top1", 0.1), ("AP_box", 0.0)]
    assert read_allowances(["top1=0.5"]) == [Allowance("top1", 0.5)]


@pytest.mark.parametrize("text", ["top1", "top1=0,1", "top1=-0.1", "top1=nan", "top1=inf"])
def test_another_form_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(InputError) as raised:
        [*read_points("--much", [text], "top1=2")]
    told = 'expected METRIC=POINTS, for example "top1=2", with 0 points or more'
    assert str(raised.value) == f"--much {text}: {told}"


def test_an_unknown_metric_is_refused_by_its_option() -> None:
    with pytest.raises(
        InputError, match=r'^--fail-if-worse tpo1=1: metric "tpo1": no such metric\. Did you mean "top1"'
    ):
        read_allowances(["tpo1=1"])
