"""How a classifier's answers are told."""

import numpy as np
import pytest

from tasks.classification.predicting import draw_classes, words_of


def test_wordnets_ids_are_put_into_words() -> None:
    assert words_of(["n01440764", "n02123045"]) == {"n01440764": "tench, Tinca tinca", "n02123045": "tabby, tabby cat"}
    assert words_of(["n01440764", "tabby"]) == {}
    assert words_of(["n99999999"]) == {}


@pytest.mark.parametrize(("height", "classes"), [(512, 5), (100, 12)])
def test_bars_are_as_long_as_probabilities(height: int, classes: int) -> None:
    image = np.zeros((height, 200, 3), np.uint8)
    shares = [0.5, 0.25, *[0.0] * (classes - 2)]
    picture = draw_classes(
        image, [(f"a class with a name that is far too long for a line {share}", share) for share in shares]
    )
    pixels = np.asarray(picture)
    assert pixels.shape[0] >= max(height, classes * 40)
    lengths = [int((pixels == colour).all(-1).any(0).sum()) for colour in ((67, 99, 216), (160, 178, 236))]
    assert lengths == [170, 85]
