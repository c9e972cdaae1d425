"""The whole segmentor against mmsegmentation's for MAE on ADE20K, encoder and neck included, with copied weights."""

import re
from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import create_backbone
from backbones.adapters import parameter_groups
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from benchmarks.planning.recipe import load_recipe
from tasks.batch_norm import dense_norm
from tasks.segmentation.recipe import Inference, SegmentorSettings
from tasks.segmentation.segmentor import Segmentor
from tasks.segmentation.task import create_segmentor
from tests.support.mmseg_examples import as_mmseg, packaged, small_segmentor

SIDE, STRIDE, WIDTH, DEPTH, HEADS, CLASSES = 64, 43, 32, 4, 2, 7
SETTINGS = SegmentorSettings(arch="small", adapter="beit", image_size=SIDE, channels=24, auxiliary_channels=8)
INFERENCE = Inference(mode="slide", stride=STRIDE, resize=(256, SIDE))

NAMES_OF_MMSEG = {
    r"^backbone\.pyramid\.trunk\.": "backbone.",
    r"^backbone\.pyramid\.levels\.0": "neck.upsample_4x",
    r"^backbone\.pyramid\.levels\.1": "neck.upsample_2x",
    r"patch_embed\.proj": "patch_embed.projection",
    r"\.blocks\.": ".layers.",
    r"\.norm(\d)": r".ln\1",
    r"attn\.(attention|attend)": "attn",
    r"ls(\d)\.gamma": r"gamma_\1",
    r"mlp\.fc1": "ffn.layers.0.0",
    r"mlp\.fc2": "ffn.layers.1",
}


def mmseg_name(name: str) -> str:
    for ours, theirs in NAMES_OF_MMSEG.items():
        name = re.sub(ours, theirs, name)
    return name


def own_segmentor() -> Segmentor:
    """On a ViT that was made for images of half the side, so that its position embeddings are interpolated."""
    network = VisionTransformer(
        img_size=SIDE // 2, patch_size=16, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0
    )
    model = small_segmentor(SETTINGS, INFERENCE, CLASSES, network)
    torch.manual_seed(0)
    for parameter in model.pyramid.trunk.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return model


def mmseg_segmentor(ours: Segmentor) -> EncoderDecoder:
    """The packaged configuration's, smaller, with a copy of all our weights and batch statistics."""
    settings = packaged().model.to_dict()
    settings["pretrained"] = None
    settings["data_preprocessor"]["size"] = (SIDE, SIDE)
    sizes = {"img_size": (SIDE, SIDE), "embed_dims": WIDTH, "num_layers": DEPTH, "num_heads": HEADS}
    settings["backbone"].update(sizes, out_indices=[0, 1, 2, 3], drop_path_rate=0.0)
    norm = {"norm_cfg": {"type": "BN"}}
    settings["neck"].update(embed_dim=WIDTH, **norm)
    settings["decode_head"].update(in_channels=[WIDTH] * 4, channels=24, num_classes=CLASSES, **norm)
    settings["auxiliary_head"].update(in_channels=WIDTH, channels=8, num_classes=CLASSES, **norm)
    settings["test_cfg"] = ours.test_cfg
    with as_mmseg():
        theirs: EncoderDecoder = MODELS.build(settings)
    indices = {name for name in theirs.state_dict() if name.endswith("relative_position_index")}
    weights = {mmseg_name(name): value for name, value in ours.state_dict().items()}
    assert weights.keys() == theirs.state_dict().keys() - indices
    theirs.load_state_dict(weights, strict=False)
    return theirs.train(ours.training)


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    """Within 1e-4 of the largest value."""
    assert torch.allclose(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item()), name


def test_features_losses_and_gradients_are_those_of_mmsegmentation() -> None:
    ours = own_segmentor().train()
    theirs = mmseg_segmentor(ours)
    torch.manual_seed(1)
    images = torch.randint(256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (4, SIDE, SIDE), dtype=torch.uint8)
    whole = torch.full((4,), SIDE)
    torch.manual_seed(2)
    own_losses = ours(mode="loss", images=images, labels=labels, heights=whole, widths=whole)
    torch.manual_seed(2)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None].long())) for each in labels]
    losses = theirs.loss(normalise(images, IMAGENET), samples)
    assert own_losses.keys() == losses.keys()
    for name, value in losses.items():
        torch.testing.assert_close(own_losses[name], value, rtol=1e-4, atol=0)
    for model, found in ((ours, own_losses), (theirs, losses)):
        model.parse_losses(found)[0].backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in ours.named_parameters():
        expected = gradients.pop(mmseg_name(name))
        if expected.abs().max() > 1e-6 * largest:
            close(parameter.grad, expected, name)
        else:  # a bias before batch norm, which takes it away again, has rounding errors alone
            assert parameter.grad.abs().max() < 1e-6 * largest, name
    assert not gradients
    statistics = dict(theirs.named_buffers())
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, statistics[mmseg_name(name)], rtol=1e-4, atol=1e-4)
    for own_map, expected in zip(
        ours.extract_feat(normalise(images, IMAGENET)), theirs.extract_feat(normalise(images, IMAGENET)), strict=True
    ):
        close(own_map, expected)


@pytest.mark.parametrize("size", [(64, 64), (64, 100), (97, 130)])
@torch.no_grad()
def test_sliding_windows_predict_as_mmsegmentations(size: tuple[int, int]) -> None:
    ours = own_segmentor()
    image = torch.randint(256, (1, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    meta = {"ori_shape": size, "img_shape": size, "pad_shape": size}
    expected = mmseg_segmentor(ours).slide_inference(normalise(image, IMAGENET), [meta])
    close(ours.logits(image, size), expected)
    assert len(expected.argmax(1).unique()) > 2


def test_the_recipe_trains_the_class_token_in_the_first_layer() -> None:
    """What the task builds from it, with its own norm, and the rates of mae_segmentation's groups."""
    recipe: Any = load_recipe(
        "ade20k_vit_base", ["model.channels=16", "model.auxiliary_channels=8"], {"segmentation"}
    ).recipe
    model, _, _ = create_segmentor(recipe, "random_vit_base", None, CLASSES, 0, IMAGENET)
    trunk = model.pyramid.trunk
    assert trunk.pos_embed.shape == (1, 1 + 32 * 32, 768)
    source = create_backbone("random_vit_base").pos_embed
    assert source.shape == (1, 1 + 14 * 14, 768)
    assert {len(block.attn.attend.relative_position_bias_table) for block in trunk.blocks} == {63 * 63 + 3}
    assert type(model.pyramid.levels[0][1]) is dense_norm()
    groups = parameter_groups(model, model.pyramid, **recipe.optimizer.decays)
    found = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    first = (pytest.approx(0.65**13), 0.05)
    assert found[id(trunk.cls_token)] == found[id(trunk.pos_embed)] == first
    convolution, norm = model.pyramid.levels[0][:2]
    assert found[id(convolution.weight)] == (1.0, 0.05)
    assert found[id(norm.weight)] == found[id(norm.bias)] == found[id(convolution.bias)] == (1.0, 0.0)


def test_a_recipe_of_an_earlier_version_builds_what_it_built() -> None:
    """Its model section names no adapter, and its checkpoints hold no class token."""
    recipe: Any = load_recipe("mini_segmentation", [], {"segmentation"}).recipe
    model = {name: value for name, value in recipe.model.model_dump().items() if name != "adapter"}
    earlier = recipe.model_copy(update={"model": SegmentorSettings.model_validate(model)})
    segmentor, _, _ = create_segmentor(earlier, "random_vit_mini", None, CLASSES, 0, IMAGENET)
    assert segmentor.pyramid.trunk.pos_embed.shape == (1, 6, 6, 128)
    assert not any("cls_token" in name for name in segmentor.state_dict())
    today, _, _ = create_segmentor(recipe, "random_vit_mini", None, CLASSES, 0, IMAGENET)
    assert today.pyramid.trunk.pos_embed.shape == (1, 1 + 12 * 12, 128)
