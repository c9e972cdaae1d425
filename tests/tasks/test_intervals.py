"""How sure a number is, as the record says it."""

import numpy as np
import pytest
from scipy.stats import binomtest

from tasks.intervals import image_interval


@pytest.mark.parametrize(("right", "images"), [(4, 4), (0, 7), (1931, 2000)])
def test_an_accuracy_has_wilsons_interval_also_where_all_answers_agree(right: int, images: int) -> None:
    values = np.repeat([100.0, 0.0], [right, images - right])
    expected = binomtest(right, images).proportion_ci(method="wilson")
    assert image_interval(values) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)


def test_other_values_have_the_bootstraps_interval() -> None:
    losses = np.random.default_rng(0).gamma(2.0, 1.0, 4000)
    half = 1.96 * losses.std() / len(losses) ** 0.5
    assert image_interval(losses) == pytest.approx((losses.mean() - half, losses.mean() + half), rel=0.01)
