"""The largest model of the third table, ViT-H/14 at 448 pixels, in real numbers."""

import pytest
import torch

from backbones.architectures import count_parameters
from backbones.registry import create_backbone
from tasks.classification.classifier import add_head


@pytest.mark.slow
def test_a_huge_vit_classifies_an_image_of_448_pixels() -> None:
    """2.6 GB of weights in single precision."""
    backbone = create_backbone("random_vit_huge", image_size=448)
    assert count_parameters(backbone) == 630_764_800 + 768 * 1280  # as at 224 pixels, and 1,024 positions for 256
    with torch.inference_mode():
        images = torch.rand(1, 3, 448, 448)
        features = backbone.eval().forward_features(images)  # type: ignore[operator]
        assert features.shape == (1, 1025, 1280) and features.isfinite().all() and features.std() > 0
        answers = add_head(backbone, 8_142, "avg", 448).eval()(images)
    assert answers.shape == (1, 8_142) and answers.isfinite().all()
