"""What probes refuse: features and images of which nothing can be learnt, each with one message."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from tasks.probing import linear_grid
from tasks.probing.probes import hold_out
from tests.support.in_process import refusal
from tests.support.probing_runs import arguments


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            "mini_few_labels",
            {"few_labels__per_class": "[20]"},
            'key "few_labels.per_class": 20 images of each class, and arrow has 8 to train on. '
            "Use --set few_labels.per_class=[1,2,5]",
        ),
        (
            "mini_linear_grid",
            {"held_out__share": 0.001},
            'key "held_out.share": 0.001 of 64 training images in 8 classes are none. Give a larger share',
        ),
    ],
)
def test_too_few_images_are_told(
    mini: Path, shown: list[int], tmp_path: Path, recipe: str, changes: dict[str, object], message: str
) -> None:
    before = len(shown)
    assert refusal(*arguments(recipe, mini, tmp_path, **changes)).startswith(message)
    assert len(shown) == before  # hours of a pass over ImageNet come after


@pytest.mark.parametrize("share", [0.01, 0.1, 0.9])
def test_where_each_class_has_one_image_no_share_is_advised(share: float) -> None:
    with pytest.raises(InputError, match=r"each of 8 classes has one training image.*few_labels\.per_class=\[1\]"):
        hold_out(torch.arange(8), share, 0)


@pytest.mark.parametrize(
    ("recipe", "key"), [("mini_knn", "features.pool=avg"), ("mini_linear_grid", "grid.pools=[avg]")]
)
def test_a_backbone_without_a_class_token(mini: Path, shown: list[int], tmp_path: Path, recipe: str, key: str) -> None:
    message = refusal(*arguments(recipe, mini, tmp_path, backbone="resnet10t", model__image_size=64))
    assert "resnet10t has no class token" in message and f"--set {key}" in message


def test_more_blocks_than_there_are(mini: Path, shown: list[int], tmp_path: Path) -> None:
    message = refusal(*arguments("mini_knn", mini, tmp_path, features__pool="avg", features__layers=2))
    assert message.startswith('key "features.layers": 2') and "--set features.layers=1" in message


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_features_that_do_not_fit_are_told(
    error: RuntimeError, mini: Path, shown: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*about: object) -> None:
        raise error

    monkeypatch.setattr(linear_grid, "train", full)
    message = refusal(*arguments("mini_linear_grid", mini, tmp_path), status=75)
    assert "of features are to be on this device" in message and "grid.layers" in message and str(error) in message
    assert "activation_checkpointing" not in message


class Constant(torch.nn.Module):
    """Says the same of every image, or nothing finite."""

    num_prefix_tokens = 1
    value = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, images: Tensor) -> Tensor:
        cells = (images.shape[2] // 8) * (images.shape[3] // 8)
        return self.scale * torch.full((len(images), 1 + cells, 4), self.value)


class Zero(Constant):
    value = 0.0


class NotANumber(Constant):
    value = float("nan")


class Rectified(Constant):
    """Is 0 for black images."""

    def forward_features(self, images: Tensor) -> Tensor:
        darkest_CHW = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), IMAGENET)[0]
        cells = torch.relu(images - darkest_CHW).unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)).flatten(2).mT
        return self.scale * torch.cat([cells.mean(1, keepdim=True), cells], 1)


def rectified(image_size: int | None, drop_path: float) -> Rectified:
    return Rectified()


def constant(image_size: int | None, drop_path: float) -> Constant:
    return Constant()


def zero(image_size: int | None, drop_path: float) -> Zero:
    return Zero()


def not_a_number(image_size: int | None, drop_path: float) -> NotANumber:
    return NotANumber()


@pytest.mark.parametrize(
    ("builder", "told"),
    [
        ("constant", "the features (token1) of all 64 training images are the same"),
        ("zero", "are the same"),
        ("not_a_number", "are not finite, nor are those of"),
    ],
)
def test_features_that_tell_nothing_are_refused(
    mini: Path, shown: list[int], tmp_path: Path, builder: str, told: str
) -> None:
    name = f"tests.tasks.probing.test_refusals:{builder}"
    assert told in refusal(*arguments("mini_knn", mini, tmp_path, backbone=name))


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_whose_features_are_0_is_named(mini: Path, shown: list[int], tmp_path: Path, split: str) -> None:
    data = tmp_path / "images"
    shutil.copytree(mini, data, ignore=shutil.ignore_patterns("unlabelled", "coco", "ade20k"))
    black = sorted((data / split).rglob("*.jpg"))[0]
    Image.new("RGB", (48, 48)).save(black)
    message = refusal(*arguments("mini_knn", data, tmp_path / "out", backbone=f"{__name__}:rectified"))
    assert message.startswith(f"{black}: its features (token1) are all 0, which have no direction")


@pytest.mark.parametrize("rates", ["[1e+38]", "[1e+38,3e+38]"])
def test_a_grid_that_diverges_is_refused(mini: Path, shown: list[int], tmp_path: Path, rates: str) -> None:
    message = refusal(*arguments("mini_linear_grid", mini, tmp_path, grid__rates=rates), status=4)
    assert "heads none has finite weights: training has diverged" in message
