"""A segmentor in mmsegmentation's names: its own inferencer builds it from the configuration, and sees the same."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.images.normalisation import HALF
from benchmarks.planning.recipe import load_recipe
from tasks.segmentation.samples import Views
from tasks.segmentation.segmentor import Segmentor
from tasks.segmentation.task import create_segmentor
from tests.support.checkpoint_examples import randomised
from tests.support.in_process import refusal, success
from tests.support.trained_files import leave_weights

CLASSES = ["wall", "sky", "tree", "road"]
SMALL = (
    *("model.image_size=64", "model.channels=16", "model.auxiliary_channels=8"),
    *("inference.resize=[256,64]", "inference.stride=43"),
)
LARGE, BEIT = (
    "tests.support.small_architectures:" + name for name in ("vit_of_large_patches", "beit_of_large_patches")
)


def trained(run: Path, *changes: str, backbone: str = "random_vit_mini") -> Segmentor:
    """A segmentor whose weights and batch statistics lie in a run's directory."""
    recipe: Any = load_recipe("mini_segmentation", [*SMALL, *changes], {"segmentation"}).recipe
    torch.manual_seed(0)
    segmentor, _, _ = create_segmentor(recipe, backbone, None, len(CLASSES), 0, HALF)
    randomised(segmentor)
    for name, buffer in segmentor.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    leave_weights(run, segmentor, recipe, backbone, CLASSES)
    return segmentor.eval()


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        ("random_vit_mini", ["model.layer_scale=null", "model.relative_position=false"]),
        (LARGE, ["model.layer_scale=1.0", "model.taps=[0,1,2,3]"]),
        (BEIT, ["model.taps=null"]),
    ],
)
@torch.no_grad()
def test_mmsegmentation_builds_it_and_sees_the_same(tmp_path: Path, backbone: str, changes: list[str]) -> None:
    from mmseg.apis import inference_model, init_model

    ours = trained(tmp_path / "run", *changes, backbone=backbone)
    out = tmp_path / "upernet.pth"
    result = success("export", tmp_path / "run", "--to", "mmseg", "--out", out)
    assert f"mmsegmentation's UPerNet on its {'BEiT' if backbone == BEIT else 'MAE'}" in result.output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = init_model(str(out.with_suffix(".py")), str(out), device="cpu")
    assert theirs.dataset_meta["classes"] == CLASSES and len(theirs.dataset_meta["palette"]) == len(CLASSES)
    for height, width in ((64, 64), (64, 97), (81, 64)):
        pixels = np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        found = inference_model(theirs, str(tmp_path / "image.png"))
        view = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        expected = ours.logits(view, (height, width))[0]
        torch.testing.assert_close(found.seg_logits.data, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
        assert torch.equal(found.pred_sem_seg.data[0], expected.argmax(0))
        assert len(expected.argmax(0).unique()) > 1


@torch.no_grad()
def test_a_single_scale_is_the_configurations(tmp_path: Path) -> None:
    from mmseg.apis import inference_model, init_model

    settings = ["model.layer_scale=null", "model.relative_position=false", "inference.scales=[1.5]"]
    ours = trained(tmp_path / "run", *settings)
    out = tmp_path / "upernet.pth"
    assert "note" not in success("export", tmp_path / "run", "--to", "mmseg", "--out", out).output
    recipe: Any = load_recipe("mini_segmentation", [*SMALL, *settings], {"segmentation"}).recipe
    pixels = np.random.default_rng(0).integers(0, 256, (64, 97, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = init_model(str(out.with_suffix(".py")), str(out), device="cpu")
    found = inference_model(theirs, str(tmp_path / "image.png"))
    (view,) = Views(recipe.inference).of(pixels)
    assert view.shape == (3, 96, 146)
    expected = ours.logits(view[None], (64, 97))[0]
    assert (found.pred_sem_seg.data[0] == expected.argmax(0)).float().mean() > 0.999


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["inference.scales=[0.5,1.0]"], "evaluated with scales [0.5, 1.0]\n"),
        (["inference.scales=[0.5,1.0]", "inference.flip=true"], "evaluated with scales [0.5, 1.0] and flips\n"),
        (["inference.flip=true"], "evaluated with flips\n"),
    ],
)
def test_more_views_than_one_are_remarked(tmp_path: Path, changes: list[str], words: str) -> None:
    trained(tmp_path / "run", *changes)
    assert words in success("export", tmp_path / "run", "--to", "mmseg", "--out", tmp_path / "upernet.pth").output


def test_what_mmsegmentations_mae_is_not_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "fpn", "model.adapter=fpn")
    message = refusal("export", tmp_path / "fpn", "--to", "mmseg", "--out", tmp_path / "upernet.pth")
    assert message.startswith(f"{tmp_path / 'fpn'}: a segmentor with the adapter fpn on this backbone cannot")
    assert "that of the adapter `beit`" in message
    message = refusal("export", tmp_path / "fpn", "--to", "mae", "--out", tmp_path / "mae.pth")
    assert (
        message.startswith(f"{tmp_path / 'fpn'}: a segmentor cannot be handed on to mae")
        and "Use --to mmseg" in message
    )
