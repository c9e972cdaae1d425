"""The files of the published segmentors by their names and shapes, without numbers: ViT-B, BEiT-B and BEiT-L."""

from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from backbones.weights.checkpoints import Checkpoint
from backbones.weights.conversion import Weights
from benchmarks.planning.recipe import load_recipe
from tasks.segmentation.published import recognise
from tasks.segmentation.task import create_segmentor
from tests.support.mmseg_examples import as_mmseg
from tests.support.mmseg_files import packaged_as

LARGE = "beit/beit-large_upernet_8xb1-amp-160k_ade20k-640x640.py"
SOURCES = {
    "f92a2975": ("mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py", "mae_vit_base", "MAE", "ViT-B", 48.13),
    "eead221d": ("beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py", "beit_vit_base", "BEiT", "ViT-B", 53.08),
    "8fc0dd5d": (LARGE, "beit_vit_large", "BEiT", "ViT-L", 56.33),
}


def checkpoint_of(configuration: Any, sha256: str) -> Checkpoint:
    """What its file would hold, without the configuration beside it, as files of mmcv may be."""
    model = configuration.model
    model.pretrained = model.backbone.init_cfg = model.data_preprocessor = None
    rates = mock.patch("torch.linspace", partial(torch.linspace, device="cpu"))  # whose values mmsegmentation looks at
    with torch.device("meta"), rates, as_mmseg():
        theirs: nn.Module = MODELS.build(model)
    tensors: dict[str, Tensor] = dict(theirs.state_dict())
    return Checkpoint("released.pth", sha256.ljust(64, "0"), 0, "torch", "state_dict", tensors, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("digest", SOURCES)
def test_a_released_file_is_known_and_fits(digest: str) -> None:
    name, backbone, method, model, expected = SOURCES[digest]
    configuration = packaged_as(name)
    windows = configuration.model.test_cfg
    checkpoint = checkpoint_of(configuration, digest)
    asked: Any = load_recipe("ade20k_vit_base", [], {"segmentation"}).recipe
    known = recognise(checkpoint, asked)
    assert (known.backbone, known.method, known.model, known.expected) == (backbone, method, model, {"mIoU": expected})
    own = [f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in known.settings.items()]
    recipe: Any = load_recipe("ade20k_vit_base", own, {"segmentation"}).recipe
    assert [recipe.model.image_size] * 2 == list(windows.crop_size)
    assert recipe.inference.stride == windows.stride[0]
    assert recipe.inference.resize == (4 * windows.crop_size[0], windows.crop_size[0])
    assert list(recipe.model.taps) == list(configuration.model.backbone.out_indices)
    with torch.device("meta"):
        ours, *_ = create_segmentor(recipe, known.backbone, None, 150, 0, known.normalisation, empty=True)
    weights = Weights.from_file(checkpoint.state_dict)
    for step in known.steps:
        step(weights, ours)
    assert shapes(weights.tensors) == shapes(ours.state_dict())
    assert {*weights.dropped.values()} == {"computed from the image size"}
    assert not weights.initialised


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_mae_recipe_is_its_files_own_protocol() -> None:
    """Nothing of it has to change for mmsegmentation's file."""
    checkpoint = checkpoint_of(packaged_as(SOURCES["f92a2975"][0]), "f92a2975")
    asked: Any = load_recipe("ade20k_vit_base", [], {"segmentation"}).recipe
    assert recognise(checkpoint, asked).settings == {}


def test_another_file_of_the_same_names_has_no_row_but_what_it_is_declared_as() -> None:
    checkpoint = checkpoint_of(packaged_as(SOURCES["f92a2975"][0]), "0")
    asked: Any = load_recipe("ade20k_vit_base", [], {"segmentation"}).recipe
    unknown, declared = recognise(checkpoint, asked), recognise(checkpoint, asked, "mae_vit_base")
    assert (unknown.backbone, unknown.method, unknown.pretrain_data) == ("vit_base_patch16_224", "custom", "unstated")
    assert unknown.model == "ViT-B"
    assert (declared.method, declared.pretrain_data) == ("MAE", "IN1K")
    assert unknown.expected == declared.expected == {}
