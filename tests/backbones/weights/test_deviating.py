"""What is said, in short, of a training that departed from the literature's."""

import pytest

from backbones.weights.deviating import in_short

EPOCHS, WARM_UP = "schedule.epochs=2 (reference 1600)", "schedule.warmup_epochs=1 (reference 40)"
LONG = f"recipe {'a' * 60} is not one of the literature's"


@pytest.mark.parametrize(
    ("deviations", "told"),
    [
        ([], ""),
        ([EPOCHS], EPOCHS),
        ([EPOCHS, "flip=0"], f"{EPOCHS}; flip=0"),
        ([EPOCHS, WARM_UP], f"{EPOCHS} and 1 more"),
        ([LONG], "1 setting"),
        ([LONG, EPOCHS], "2 settings"),
        ([f"pre-training: {EPOCHS}"], EPOCHS),
    ],
)
def test_all_of_it_or_how_much(deviations: list[str], told: str) -> None:
    assert in_short(deviations) == told
