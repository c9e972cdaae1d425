"""UPerNet with our pyramid: its windows, its padding, its views, its parameter groups and their learning rates."""

import re
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from backbones import create_backbone
from backbones.adapters import build_pyramid, parameter_groups
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.training.compiling import compile_network
from backbones.training.schedule import learning_rate_curve
from benchmarks.planning.recipe import load_recipe
from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation.mmseg_parts import MODELS, EncoderDecoder
from tasks.segmentation.recipe import Inference, SegmentationRecipe, SegmentorSettings
from tasks.segmentation.segmentor import Segmentor, build_segmentor
from tests.support.mmseg_examples import as_mmseg, small_segmentor

CLASSES = 7
SETTINGS = SegmentorSettings(
    arch="vit_mini_patch8_48", adapter="beit", image_size=64, channels=16, auxiliary_channels=8
)


def segmentor(**inference: Any) -> Segmentor:
    """A small one with random weights, batch norms and biases, in evaluation mode."""
    return small_segmentor(SETTINGS, Inference(resize=(256, 64), **inference), CLASSES)


def scene(height: int, width: int, images: int = 1) -> Tensor:
    return torch.randint(256, (images, 3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(64, 64), (64, 48), (40, 64)])
@torch.no_grad()
def test_one_window_over_all_gives_what_the_whole_image_gives(size: tuple[int, int]) -> None:
    slide, whole = segmentor(mode="slide", stride=43), segmentor(mode="whole")
    image = scene(*size)
    logits = slide.logits(image, size)
    assert logits.std() > 0.01
    torch.testing.assert_close(logits, whole.logits(image, size), rtol=0, atol=1e-6)


@torch.no_grad()
def test_windows_are_averaged_as_mmsegmentation_does() -> None:
    """Against an EncoderDecoder of mmsegmentation itself that holds the same parts."""
    ours = segmentor(mode="slide", stride=43)
    with as_mmseg():
        theirs = EncoderDecoder(
            backbone={"type": "PyramidBackbone", "pyramid": ours.pyramid},
            decode_head={
                "type": "UPerHead",
                "in_channels": [128] * 4,
                "in_index": [0, 1, 2, 3],
                "pool_scales": (1, 2, 3, 6),
                "channels": 16,
                "num_classes": CLASSES,
                "norm_cfg": {"type": "BN"},
            },
            test_cfg=ConfigDict(mode="slide", crop_size=(64, 64), stride=(43, 43)),
        ).eval()
    theirs.decode_head.load_state_dict(ours.decode_head.state_dict())
    image = scene(97, 130)
    meta = {"ori_shape": (97, 130), "img_shape": (97, 130), "pad_shape": (97, 130)}
    expected = theirs.slide_inference(normalise(image, IMAGENET), [meta])
    torch.testing.assert_close(ours.logits(image, (97, 130)), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_windows_are_averaged_by_hand() -> None:
    """One row of three windows of which the last is moved back to the edge."""
    model = segmentor(mode="slide", stride=43)
    image = scene(64, 130)
    total, count = torch.zeros(1, CLASSES, 64, 130), torch.zeros(130)
    for left in (0, 43, 66):
        maps = model.pyramid(normalise(image[..., left : left + 64], IMAGENET))
        logits = nn.functional.interpolate(model.decode_head(maps), size=(64, 64), mode="bilinear")
        total[..., left : left + 64] += logits
        count[left : left + 64] += 1
    torch.testing.assert_close(model.logits(image, (64, 130)), total / count, rtol=0, atol=1e-5)


@torch.no_grad()
def test_views_are_averaged_as_probabilities() -> None:
    model = segmentor(mode="whole", scales=(1.0, 0.5), flip=True)
    views = [scene(64, 80), scene(32, 40)]
    size = (100, 125)
    probabilities = torch.zeros(1, CLASSES, *size)
    for view in views:
        probabilities += model.logits(view, size).softmax(1)
        mirrored = model.logits(view.flip(3).contiguous(), size)
        probabilities += mirrored.flip(3).softmax(1)
    found = model.predict_labels(views, size)
    assert found.shape == (1, *size)
    assert (found == probabilities.argmax(1)).float().mean() > 0.999
    assert (found != model.predict_labels(views[:1], size)).any()


@pytest.mark.parametrize(("inference", "compiled"), [({"mode": "whole"}, 0), ({"mode": "slide", "stride": 43}, 1)])
@torch.no_grad()
def test_windows_are_compiled_and_whole_images_of_any_size_are_not(inference: dict[str, Any], compiled: int) -> None:
    graphs = []

    def backend(graph: Any, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    model = segmentor(**inference)
    expected = [model.logits(scene(*size), size) for size in ((64, 64), (64, 80))]
    compile_network(model.network, backend)
    for logits, size in zip(expected, ((64, 64), (64, 80)), strict=True):
        torch.testing.assert_close(model.logits(scene(*size), size), logits, rtol=0, atol=1e-5)
    assert len(graphs) == compiled


@torch.no_grad()
def test_padding_is_of_the_mean_colour_and_has_no_say_in_the_loss() -> None:
    model = segmentor(mode="whole")
    generator = torch.Generator().manual_seed(2)
    images = scene(64, 64, images=2)
    labels = torch.randint(CLASSES, (2, 64, 64), generator=generator, dtype=torch.uint8)
    labels[0, 50:], labels[0, :, 40:] = IGNORED, IGNORED
    sizes = {"heights": torch.tensor([50, 64]), "widths": torch.tensor([40, 64])}
    losses = model(mode="loss", images=images, labels=labels, **sizes)
    other = images.clone()
    other[0, :, 50:], other[0, :, :, 40:] = 9, 200
    again = model(mode="loss", images=other, labels=labels, **sizes)
    assert losses["decode.loss_ce"] == again["decode.loss_ce"]
    assert losses["aux.loss_ce"] == again["aux.loss_ce"]
    normalised = normalise(images, IMAGENET)
    normalised[0, :, 50:], normalised[0, :, :, 40:] = 0, 0
    maps = model.pyramid(normalised)
    for head, name, weight in ((model.decode_head, "decode", 1.0), (model.auxiliary_head, "aux", 0.4)):
        logits = nn.functional.interpolate(head(maps), size=(64, 64), mode="bilinear")
        loss = nn.functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="sum")
        assert losses[f"{name}.loss_ce"].item() == pytest.approx(weight * loss.item() / labels.numel(), rel=1e-5)


def recipe_of(name: str, *overrides: str) -> SegmentationRecipe:
    recipe = load_recipe(name, list(overrides), {"segmentation"}).recipe
    assert isinstance(recipe, SegmentationRecipe)
    return recipe


def layer_of(name: str, depth: int) -> int:
    """The reference's rule: embeddings are layer 0, block i is layer i + 1, all else the last."""
    trunk = name.removeprefix("backbone.pyramid.trunk.")
    if block := re.match(r"blocks\.(\d+)\.", trunk):
        return int(block[1]) + 1
    return 0 if trunk.startswith(("patch_embed.", "pos_embed", "cls_token")) else depth + 1


def vit_base() -> tuple[Segmentor, SegmentationRecipe]:
    recipe = recipe_of("ade20k_vit_base")
    settings = recipe.model
    with torch.device("meta"):
        network = create_backbone("random_vit_base")
    pyramid = build_pyramid(
        network.to_empty(device="cpu"),
        settings.adapter,
        image_size=settings.image_size,
        window=None,
        taps=settings.taps,
        layer_scale=settings.layer_scale,
    )
    return build_segmentor(pyramid, settings, recipe.inference, 150), recipe


def test_rates_of_all_groups_in_the_recipe_for_vit_base() -> None:
    """After 0, 1, 1,500 and 160,000 iterations: 1e-4 × 0.65^(13 - layer) × warm-up × (1 - iterations / 160,000)."""
    model, recipe = vit_base()
    optimizer = recipe.optimizer
    groups = parameter_groups(
        model,
        model.pyramid,
        **optimizer.decays,
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert set(found) == set(names.values())
    for name, parameter in model.named_parameters():
        decay = 0.0 if parameter.ndim <= 1 or name.endswith(".bias") else 0.05
        assert found[name] == (pytest.approx(0.65 ** (13 - layer_of(name, 12)), rel=1e-12), decay), name
    assert len({round(scale, 12) for scale, _ in found.values()}) == 14
    curve = learning_rate_curve(recipe.schedule, optimizer.peak_lr, per_epoch=1263, accumulation=1)
    warm = {0: 1e-6, 1: 1e-6 + (1 - 1e-6) / 1500, 1_500: 1.0, 160_000: 1.0}
    for iterations, factor in warm.items():
        rates = sorted({curve(iterations) * group["lr_scale"] for group in groups})
        expected = [1e-4 * 0.65**power * factor * (1 - iterations / 160_000) for power in range(13, -1, -1)]
        assert sorted(set(expected)) == pytest.approx(rates, rel=1e-9, abs=1e-30)


def test_groups_hold_what_transfer_adds() -> None:
    """Bias tables and layer scales belong to their blocks; a table decays, a scale does not."""
    model, recipe = vit_base()
    groups = parameter_groups(
        model, model.pyramid, weight_decay=0.05, layer_decay=0.65, no_weight_decay=recipe.optimizer.no_weight_decay
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tables = [
        (group["lr_scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
        if "relative_position_bias_table" in names[id(parameter)]
    ]
    assert sorted(tables) == [(pytest.approx(0.65 ** (12 - block)), 0.05) for block in range(12)]
    scales = [name for name in names.values() if re.search(r"blocks\.\d+\.ls[12]\.", name)]
    assert len(scales) == 24


@pytest.mark.parametrize(("size", "depth"), [("base", 12), ("large", 24), ("huge", 32)])
def test_recipes_agree_with_the_protocol(size: str, depth: int) -> None:
    recipe = recipe_of(f"ade20k_vit_{size}")
    taps = recipe.model.taps
    assert taps is not None
    assert taps[-1] == depth - 1
    assert [round(6 * (tap + 1) / depth) for tap in taps] == [2, 3, 4, 6]
    assert recipe.schedule.iterations * recipe.optimizer.batch_size == 160_000 * 16


def test_registered_with_mmsegmentation() -> None:
    assert MODELS.get("PyramidBackbone") is not None
    assert MODELS.get("Segmentor") is Segmentor
