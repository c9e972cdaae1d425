"""What the configuration beside a segmentor's weights says, in the forms of mmsegmentation 0.x and 1.x."""

from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from tasks.segmentation.stated import stated_epsilon, stated_inference, stated_normalisation, stated_taps
from tests.support.mmseg_files import CONFIGURATIONS, packaged_as
from tests.support.published_segmentors import CLASSES, planned, restated

EARLIER: dict[str, Any] = {
    "img_norm_cfg": {"mean": [127.5, 127.5, 127.5], "std": [127.5, 127.5, 127.5], "to_rgb": True},
    "data": {"test": {"pipeline": [{"type": "MultiScaleFlipAug", "img_scale": [2560, 640], "flip": False}]}},
    "model": {"test_cfg": {"mode": "whole"}},
}
"""As mmsegmentation 0.11 has it."""


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def test_a_packaged_configuration_says_how_it_is_tested() -> None:
    configuration = plain(packaged_as(CONFIGURATIONS["BEiT"]).to_dict())
    slide = {"inference.mode": "slide", "inference.stride": 426}
    assert stated_inference(configuration) == {**slide, "inference.resize": (2560, 640)}
    assert stated_taps(configuration) == (3, 5, 7, 11)
    assert stated_normalisation(configuration) == IMAGENET
    assert stated_epsilon(configuration) == 1e-6


def test_an_earlier_one_has_them_elsewhere() -> None:
    whole = {"inference.mode": "whole", "inference.stride": None}
    assert stated_inference(EARLIER) == {**whole, "inference.resize": (2560, 640)}
    found = stated_normalisation(EARLIER)
    assert found is not None and found.mean == found.std == (0.5, 0.5, 0.5)
    assert stated_taps(EARLIER) is stated_epsilon(EARLIER) is None
    assert stated_epsilon({"model": {"backbone": {"norm_cfg": {"type": "LN"}}}}) == 1e-5


def test_nothing_stated_is_nothing_said() -> None:
    assert stated_inference({}) == {}
    assert stated_taps({}) is stated_epsilon({}) is stated_normalisation({}) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model = dict(decode_head=dict(align_corners=True))", "model.decode_head.align_corners is True"),
        ("model = dict(decode_head=dict(pool_scales=(1, 2, 4, 8)))", "model.decode_head.pool_scales is"),
        ("model = dict(data_preprocessor=dict(bgr_to_rgb=False))", "model.data_preprocessor.bgr_to_rgb is False"),
        ("model = dict(data_preprocessor=dict(mean=[300, 0, 0], std=[1, 1, 1]))", "expected three numbers"),
    ],
)
def test_a_network_that_computes_otherwise_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "segmentor.pth"
    torch.save({"meta": {"cfg": text, "CLASSES": CLASSES}, "state_dict": restated().state_dict()}, file)
    with pytest.raises(InputError, match=r"segmentor\.pth: its configuration") as caught:
        planned(file, "tests.support.mmseg_files:mae")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
