"""A step of segmentation does not wait for the GPU, and measures what mmsegmentation measures."""

import pytest
import torch
from mmseg.models.losses import accuracy

from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation.heads import pixel_accuracy
from tasks.segmentation.recipe import Inference, SegmentorSettings
from tasks.segmentation.segmentor import _padding
from tests.support.mmseg_examples import small_segmentor
from tests.support.waiting import losses_without_waiting

CLASSES = 7


@pytest.mark.parametrize("adapter", ["beit", "fpn"])
def test_a_step_does_not_wait(adapter: str) -> None:
    settings = SegmentorSettings(
        arch="vit_mini_patch8_48", adapter=adapter, image_size=64, channels=16, auxiliary_channels=8
    )
    segmentor = small_segmentor(settings, Inference(resize=(256, 64), mode="whole", stride=None), CLASSES)
    batch = {
        "images": torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        "labels": torch.zeros(2, 64, 64, dtype=torch.uint8),
        "heights": torch.tensor([64, 40]),
        "widths": torch.tensor([48, 64]),
        "corrupt": {},
    }
    losses = losses_without_waiting(segmentor, batch)
    assert {*losses} == {"loss", "decode.loss_ce", "decode.acc_seg", "aux.loss_ce", "aux.acc_seg"}


@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_accuracy_is_that_of_mmsegmentation_to_the_last_digit(ignored: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, CLASSES, 13, 9).to(dtype)
    labels = torch.randint(CLASSES, (3, 13, 9))
    labels[torch.rand(3, 13, 9) < ignored] = IGNORED
    assert torch.equal(pixel_accuracy(logits, labels, IGNORED), accuracy(logits, labels, ignore_index=IGNORED))


def test_padding_begins_where_the_image_ends() -> None:
    padding = _padding(torch.ones(2, 3, 4, 5), torch.tensor([4, 2]), torch.tensor([3, 5]))
    expected = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    expected[0, :, :, 3:] = expected[1, :, 2:] = True
    assert torch.equal(padding, expected)
