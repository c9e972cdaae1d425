"""How a classifier's answers are told."""

import numpy as np
import pytest
import torch

from tasks.classification.predicting import draw_classes, words_of
from tasks.pictures import show_image


def test_wordnets_ids_are_put_into_words() -> None:
    assert words_of(["n01440764", "n02123045"]) == {"n01440764": "tench, Tinca tinca", "n02123045": "tabby, tabby cat"}
    assert words_of(["n01440764", "tabby"]) == {}
    assert words_of(["n99999999"]) == {}


@pytest.mark.parametrize(("height", "classes"), [(512, 5), (100, 12)])
def test_bars_are_as_long_as_probabilities(height: int, classes: int) -> None:
    image = np.zeros((height, 200, 3), np.uint8)
    shares = [0.5, 0.25, *[0.0] * (classes - 2)]
    bars = [(f"a class with a name that is far too long for a line {share}", share) for share in shares]
    pixels = np.asarray(draw_classes(image, bars, np.full((224, 224, 3), (9, 8, 7), np.uint8)))
    assert pixels.shape[0] >= max(height, classes * 40)
    lengths = [int((pixels == colour).all(-1).any(0).sum()) for colour in ((67, 99, 216), (160, 178, 236))]
    assert lengths == [170, 85]
    seen = (pixels == (9, 8, 7)).all(-1).sum()
    assert seen == (224 * 224 if height == 512 else 0)


def test_an_image_of_a_telephone_is_shown_without_floats_of_all_its_pixels() -> None:
    shown = show_image(torch.arange(6000, dtype=torch.int64).remainder(256).byte().expand(3, 30, 6000))
    assert shown.shape == (3, 512, 3)
