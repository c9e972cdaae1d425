"""The whole segmentor against mmsegmentation's, as its packaged configuration for MAE on ADE20K builds and runs it."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmseg.models import EncoderDecoder, SegTTAModel
from mmseg.registry import MODELS
from torch import Tensor, nn

from backbones import create_backbone
from backbones.adapters import build_pyramid
from backbones.training.randomness import mix
from backbones.training.runner import stack
from benchmarks.planning.recipe import load_recipe
from tasks.segmentation.recipe import Inference, SegmentationAugmentation, SegmentorSettings
from tasks.segmentation.samples import EvaluationSamples, TrainingSamples
from tasks.segmentation.segmentor import Segmentor, build_segmentor
from tests.support.mmseg_examples import CLASSES, as_mmseg, mmseg_set, own_set, packaged, small_segmentor, write_scenes

SIDE, STRIDE, RESIZE = 64, 43, (256, 64)
"""The protocol's 512 × 512 pixels, 341 pixels and (2048, 512), an eighth as large."""

SETTINGS = SegmentorSettings(
    arch="vit_mini_patch8_48", adapter="beit", image_size=SIDE, channels=24, auxiliary_channels=8
)
SEED = 3


def own_segmentor(**inference: Any) -> Segmentor:
    """A small one with random weights, batch norms and biases, so that its predictions differ from pixel to pixel."""
    return small_segmentor(SETTINGS, Inference(resize=RESIZE, **inference), len(CLASSES))


def mmseg_segmentor(ours: Segmentor) -> EncoderDecoder:
    """The packaged configuration's, smaller, with a copy of our weights; the encoder with its neck is ours."""
    settings = packaged().model.to_dict()
    settings.update(backbone={"type": "PyramidBackbone", "pyramid": copy.deepcopy(ours.pyramid)}, neck=None)
    settings["pretrained"] = None
    settings["data_preprocessor"]["size"] = (SIDE, SIDE)
    for head, width, channels in (("decode_head", [128] * 4, 24), ("auxiliary_head", 128, 8)):
        settings[head].update(in_channels=width, channels=channels, norm_cfg={"type": "BN"})
    settings["test_cfg"] = ours.test_cfg
    with as_mmseg():
        theirs: EncoderDecoder = MODELS.build(settings)
    theirs.load_state_dict(ours.state_dict())
    return theirs.train(ours.training)


def eighth(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A packaged pipeline for images an eighth as large."""
    smaller = {"scale": RESIZE, "crop_size": (SIDE, SIDE)}
    return [{key: smaller.get(key, value) for key, value in step.items()} for step in pipeline]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, [(64, 80), (90, 60), (40, 100), (30, 30)], "train")
    return write_scenes(root, [(64, 80), (90, 60), (40, 100), (30, 200), (150, 131)], "val")


def test_losses_and_gradients_are_those_of_mmsegmentation(scenes: Path) -> None:
    """From the files to the gradients, with the same random numbers in the pipelines and in dropout."""
    ours = own_segmentor(mode="whole").train()
    theirs = mmseg_segmentor(ours)
    own_samples = TrainingSamples(own_set(scenes, "train"), SIDE, SegmentationAugmentation(resize=RESIZE), SEED)
    other_samples, batch = mmseg_set(scenes, "train", eighth(packaged().train_pipeline)), []
    for index in range(4):
        np.random.seed(mix(SEED, "image", 0, index) & 0xFFFFFFFF)
        batch.append(other_samples[index])
    own_batch = ours.data_preprocessor(stack([own_samples[(index, 0)] for index in range(4)]), training=True)
    assert (own_batch["heights"] < SIDE).any()
    results = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        if model is ours:
            losses = ours(mode="loss", **{key: value for key, value in own_batch.items() if key != "corrupt"})
        else:
            losses = theirs(**theirs.data_preprocessor(pseudo_collate(batch), training=True), mode="loss")
        model.parse_losses(losses)[0].backward()
        results.append(losses)
    own, other = results
    assert own.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(own[name], value, rtol=1e-5, atol=0)
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        expected = gradients.pop(name).grad
        largest = expected.abs().max().item()
        assert largest > 0, name
        assert torch.allclose(parameter.grad, expected, rtol=0, atol=1e-4 * largest + 1e-8), name
    assert not gradients
    running = dict(theirs.named_buffers())
    assert all(torch.allclose(value, running[name], atol=1e-5) for name, value in ours.named_buffers())


def own_predictions(model: Segmentor, samples: EvaluationSamples) -> list[Tensor]:
    return [model.val_step(stack([sample]))[0]["predictions"][0] for sample in samples]


@pytest.mark.parametrize("look", [{"mode": "slide", "stride": STRIDE}, {"mode": "whole"}])
def test_predictions_are_those_of_mmsegmentation(scenes: Path, look: dict[str, Any]) -> None:
    ours = own_segmentor(**look)
    theirs = mmseg_segmentor(ours)
    samples = EvaluationSamples(own_set(scenes, "val"), Inference(resize=RESIZE, **look))
    other_samples = mmseg_set(scenes, "val", eighth(packaged().test_pipeline))
    for index, found in enumerate(own_predictions(ours, samples)):
        (expected,) = theirs.test_step(pseudo_collate([other_samples[index]]))
        labels = expected.pred_sem_seg.data[0]
        assert len(labels.unique()) > 5
        assert found.shape == labels.shape
        assert (found != labels).float().mean() < 1e-3  # where two classes are equally likely, rounding decides


def test_predictions_at_several_scales_are_those_of_mmsegmentation(tmp_path: Path) -> None:
    """On images of the resized images' size: what it packages measures scales from the images themselves."""
    root = tmp_path
    for split in ("train", "val"):
        write_scenes(root, [(64, 80), (88, 64)], split)
    settings = packaged()
    look = {"mode": "slide", "stride": STRIDE, "scales": tuple(settings.img_ratios), "flip": True}
    ours = own_segmentor(**look)
    theirs = SegTTAModel(module=mmseg_segmentor(ours))
    samples = EvaluationSamples(own_set(root, "val"), Inference(resize=RESIZE, **look))
    other_samples = mmseg_set(root, "val", settings.tta_pipeline)
    plain = own_predictions(own_segmentor(mode="slide", stride=STRIDE), samples)
    for index, (found, single) in enumerate(zip(own_predictions(ours, samples), plain, strict=True)):
        views = other_samples[index]["inputs"]
        assert len(views) == 2 * len(settings.img_ratios)
        for number, view in enumerate(samples[index]["views"]):
            assert torch.equal(view, views[2 * number].flip(0))
            assert torch.equal(view.flip(2), views[2 * number + 1].flip(0))
        (expected,) = theirs.test_step(pseudo_collate([other_samples[index]]))
        assert (found != expected.pred_sem_seg.data).float().mean() < 1e-3
        assert (found != single).float().mean() > 0.02


def shapes(model: nn.Module) -> Counter[tuple[int, ...]]:
    return Counter(tuple(parameter.shape) for parameter in model.parameters() if parameter.requires_grad)


def test_parameters_are_those_of_mmsegmentation() -> None:
    """ViT-B at 512 × 512 pixels."""
    recipe: Any = load_recipe("ade20k_vit_base", [], {"segmentation"}).recipe
    model = recipe.model
    with torch.device("meta"):
        pyramid = build_pyramid(
            create_backbone("random_vit_base"),
            model.adapter,
            image_size=model.image_size,
            window=None,
            taps=model.taps,
            layer_scale=model.layer_scale,
        )
        ours = build_segmentor(pyramid, model, recipe.inference, len(CLASSES))
    settings = packaged().model
    settings.pretrained = settings.backbone.init_cfg = settings.data_preprocessor = None
    norm = {"type": "BN", "requires_grad": True}
    settings.neck.norm_cfg = settings.decode_head.norm_cfg = settings.auxiliary_head.norm_cfg = norm
    with as_mmseg():
        theirs: nn.Module = MODELS.build(settings)
    assert shapes(ours) == shapes(theirs)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 163_877_228
