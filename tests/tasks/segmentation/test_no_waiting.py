"""A step of segmentation does not wait for the GPU, and measures what mmsegmentation measures."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.losses import accuracy
from torch import nn

from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation.heads import Pool, enlarged, enlarged_by_products, pixel_accuracy, pooled_in_order
from tasks.segmentation.recipe import Inference, SegmentorSettings
from tasks.segmentation.segmentor import _padding
from tests.support.mmseg_examples import small_segmentor
from tests.support.waiting import losses_without_waiting, no_waiting

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


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("small", "large"), [((8, 8), (32, 32)), ((5, 9), (20, 36)), ((7, 5), (17, 23))])
def test_logits_are_enlarged_by_products_as_pytorch_does(
    small: tuple[int, int], large: tuple[int, int], align_corners: bool
) -> None:
    logits = torch.randn(2, CLASSES, *small, requires_grad=True)
    found = enlarged_by_products(logits, large, align_corners)
    expected = F.interpolate(logits, large, mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    of_found, of_expected = (torch.autograd.grad(each, logits, direction)[0] for each in (found, expected))
    torch.testing.assert_close(of_found, of_expected)


def test_the_heads_enlarge_so_on_a_gpu_alone() -> None:
    """In single precision, of which the loss is taken in any case."""
    small = torch.randn(1, CLASSES, 4, 4, dtype=torch.bfloat16)
    assert enlarged(small, (16, 16), False).dtype == torch.bfloat16
    with no_waiting():
        on_gpu = torch.zeros(1, CLASSES, 4, 4, dtype=torch.bfloat16, device="cuda")
        assert enlarged(on_gpu, (16, 16), False).dtype == torch.float32


def test_padding_begins_where_the_image_ends() -> None:
    padding = _padding(torch.ones(2, 3, 4, 5), torch.tensor([4, 2]), torch.tensor([3, 5]))
    expected = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    expected[0, :, :, 3:] = expected[1, :, 2:] = True
    assert torch.equal(padding, expected)


@pytest.mark.parametrize("side", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (1, 3, 7, 5), (2, 2, 6, 13)])
def test_pooling_in_a_fixed_order_is_pytorchs_pooling(side: int, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float32, requires_grad=True)
    found, expected = pooled_in_order(x, side), torch.nn.functional.adaptive_avg_pool2d(x, side)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    torch.testing.assert_close(torch.autograd.grad(found, x, direction), torch.autograd.grad(expected, x, direction))


def test_the_main_head_pools_so_where_it_is_asked_for() -> None:
    settings = SegmentorSettings(
        arch="vit_mini_patch8_48", adapter="beit", image_size=64, channels=16, auxiliary_channels=8
    )
    head = small_segmentor(settings, Inference(resize=(256, 64), mode="whole", stride=None), CLASSES).decode_head
    pools = [module for module in head.psp_modules.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    assert [type(pool) for pool in pools] == [Pool] * 4
    x = torch.randn(2, 3, 7, 7)
    assert all(torch.equal(pool(x), nn.functional.adaptive_avg_pool2d(x, pool.output_size)) for pool in pools)
    with no_waiting():
        y = torch.zeros(2, 3, 7, 7, device="cuda", dtype=torch.bfloat16)
        torch.use_deterministic_algorithms(True)
        try:
            assert [pool(y).shape[-1] for pool in pools] == [1, 2, 3, 6]
        finally:
            torch.use_deterministic_algorithms(False)
