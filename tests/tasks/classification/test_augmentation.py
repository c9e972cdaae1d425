"""Fine-tuning's augmentation is timm's, as the MAE reference sets it up."""

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment

from backbones import InputError
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from tasks.classification.samples import rand_augment

NOTATION = "rand-m9-mstd0.5-inc1"


@pytest.mark.parametrize("normalisation", [IMAGENET, HALF], ids=lambda each: each.label)
def test_rand_augment_has_the_parameters_of_timm_create_transform(normalisation: Normalisation) -> None:
    """The colour that it fills with among them."""
    theirs = create_transform(
        224, is_training=True, auto_augment=NOTATION, interpolation="bicubic", mean=normalisation.mean
    )
    (reference,) = [step for step in theirs.transforms if isinstance(step, RandAugment)]
    ours = rand_augment(NOTATION, 224, normalisation)
    assert ours.num_layers == reference.num_layers
    assert len(ours.ops) == len(reference.ops)
    for mine, other in zip(ours.ops, reference.ops, strict=True):
        assert (mine.name, mine.prob, mine.magnitude, mine.magnitude_std) == (
            (other.name, other.prob, other.magnitude, other.magnitude_std)
        )
        assert mine.hparams == other.hparams
        assert mine.kwargs == other.kwargs


def test_an_unknown_notation_is_named() -> None:
    with pytest.raises(InputError, match=r'augment.rand_augment.*"nonsense"'):
        rand_augment("nonsense", 224, IMAGENET)


@pytest.mark.parametrize("notation", ["rand-m10-inc1", "rand-m15-mmax20-inc1"])
def test_posterizing_to_no_bits_gives_black(notation: str) -> None:
    """What it was before Pillow 13 refused it; magnitude 9 with deviation 0.5 draws it once in some 650 images."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    (ours,) = [each for each in rand_augment(notation, 8, IMAGENET).ops if each.name == "PosterizeIncreasing"]
    ours.prob = 1.0
    assert not np.asarray(ours(image)).any()


def test_posterizing_to_some_bits_is_timms() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    (ours,) = [each for each in rand_augment("rand-m5-inc1", 8, IMAGENET).ops if each.name == "PosterizeIncreasing"]
    ours.prob = 1.0
    assert np.array_equal(np.asarray(ours(image)), np.asarray(image) & 0b11000000)
