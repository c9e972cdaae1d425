"""Classifiers of other code bases, small, with random weights: saved and evaluated as these do it.

Importing this module registers the small architectures that they have in timm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode

from backbones.mae.positions import sincos_position_embedding
from tests.support.checkpoint_examples import prefixed, randomised, renamed, save
from tests.support.restated import WIDTH, State, beit_shapes, random_state, vit_features, vit_shapes
from tests.support.small_architectures import DEPTH, HEADS, PATCH, SIDE

CLASSES = 8
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
_CONFIG = {
    "num_classes": 1000,
    "input_size": (3, SIDE, SIDE),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "mean": HALF[0],
    "std": HALF[1],
    "fixed_input_size": True,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}
_SIZES: dict[str, Any] = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
default_cfgs = generate_default_cfgs(
    dict.fromkeys(("vit_mite_patch8_32", "deit_mite_patch8_32", "beit_mite_patch8_32"), _CONFIG)
)


@register_model
def vit_mite_patch8_32(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    return build_model_with_cfg(VisionTransformer, "vit_mite_patch8_32", pretrained, **(_SIZES | kwargs))


@register_model
def deit_mite_patch8_32(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    return build_model_with_cfg(VisionTransformer, "deit_mite_patch8_32", pretrained, **(_SIZES | kwargs))


@register_model
def beit_mite_patch8_32(pretrained: bool = False, **kwargs: Any) -> Beit:
    sizes = _SIZES | {"use_rel_pos_bias": True, "init_values": 0.1}
    return build_model_with_cfg(Beit, "beit_mite_patch8_32", pretrained, **(sizes | kwargs))


@dataclass(frozen=True)
class Peer:
    """Another code base's classifier.

    name:     what a table calls it
    backbone: to be declared, where its files do not tell
    write:    saves it in a folder as the peer does; the file, and what gives its logits (1, classes) of an image
    """

    name: str
    backbone: str | None
    write: Callable[[Path], tuple[Path, Callable[[Image.Image], Tensor]]]


def seen_by(
    network: Callable[[Tensor], Tensor], see: Callable[[Image.Image], Tensor]
) -> Callable[[Image.Image], Tensor]:
    def logits(image: Image.Image) -> Tensor:
        with torch.no_grad():
            return network(see(image.convert("RGB"))[None])

    return logits


def torchvisions(
    size: int, resized: int, mode: str, pixels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
) -> Callable[[Image.Image], Tensor]:
    steps = [transforms.Resize(resized, InterpolationMode(mode)), transforms.CenterCrop(size), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(*pixels)])


def trained(network: nn.Module) -> nn.Module:
    """With weights and running statistics of its own."""
    network = randomised(network)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            drawn = 0.5 + torch.rand(buffer.shape, generator=generator)
            buffer.copy_(40 * drawn if name.endswith("running_var") else drawn)
    return network


def _timm(name: str, tag: str = "", **options: Any) -> Peer:
    """As timm's training saves it."""

    def write(folder: Path) -> tuple[Path, Callable[[Image.Image], Tensor]]:
        network = trained(timm.create_model(name, num_classes=CLASSES, **options))
        config = timm.get_pretrained_cfg(name + tag).to_dict()
        see = create_transform(**resolve_data_config(pretrained_cfg=config, use_test_size=True))
        path = save({"state_dict": network.state_dict(), "arch": name, "epoch": 3}, folder, "model_best.pth.tar")
        return path, seen_by(network, see)

    return Peer(f"timm, {name}{tag}", name + tag, write)


def _timms_folder(folder: Path) -> tuple[Path, Callable[[Image.Image], Tensor]]:
    """As timm pushes a model to the hub, averaging tokens, with a crop and pixels of its own."""
    from timm.models._hub import save_for_hf

    network: Any = trained(timm.create_model("vit_mite_patch8_32", num_classes=CLASSES, global_pool="avg"))
    network.pretrained_cfg |= {"crop_pct": 0.8, "interpolation": "bilinear", "mean": IMAGENET[0], "std": IMAGENET[1]}
    save_for_hf(network, str(folder), model_args={"global_pool": "avg"}, safe_serialization=True)
    see = create_transform(**resolve_data_config(pretrained_cfg=network.pretrained_cfg))
    return folder, seen_by(network, see)


def _torchvision(name: str, backbone: str | None, size: int, resized: int, mode: str, **options: Any) -> Peer:
    def write(folder: Path) -> tuple[Path, Callable[[Image.Image], Tensor]]:
        network = trained(getattr(models, name)(num_classes=CLASSES, **options))
        return save(network.state_dict(), folder, f"{name}.pth"), seen_by(network, torchvisions(size, resized, mode))

    return Peer(f"torchvision, {name}", backbone, write)


def _torchvisions_vit(folder: Path) -> tuple[Path, Callable[[Image.Image], Tensor]]:
    sizes = {"num_layers": DEPTH, "num_heads": HEADS, "hidden_dim": WIDTH, "mlp_dim": 4 * WIDTH}
    network = models.VisionTransformer(image_size=SIDE, patch_size=PATCH, num_classes=CLASSES, **sizes)
    see = torchvisions(SIDE, _RESIZED, "bilinear")
    return save(trained(network).state_dict(), folder, "vit.pth"), seen_by(network, see)


def _transformers(
    name: str, model: str, processor: str, backbone: str | None, size: dict[str, Any], **options: Any
) -> Peer:
    def write(folder: Path) -> tuple[Path, Callable[[Image.Image], Tensor]]:
        import transformers

        sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "patch_size": PATCH}
        sizes |= {"intermediate_size": 4 * WIDTH, "image_size": SIDE, "num_labels": CLASSES} | options
        config = getattr(transformers, model.split("For")[0] + "Config")(**sizes)
        theirs = randomised(getattr(transformers, model)(config))
        theirs.save_pretrained(folder)
        images = getattr(transformers, processor)(**size)
        images.save_pretrained(folder)

        def see(image: Image.Image) -> Tensor:
            return images(image, return_tensors="pt")["pixel_values"][0]

        return folder, seen_by(lambda pixels: theirs(pixels).logits, see)

    return Peer(f"transformers, {model}", backbone, write)


def _restated(
    name: str,
    backbone: str,
    state: State,
    see: Callable[[Image.Image], Tensor],
    pack: Callable[[State], object],
    averaged: bool,
) -> Peer:
    """A ViT written out from its paper and code, which averages patches before its last norm, or takes the class token
    behind it."""

    def network(images: Tensor) -> Tensor:
        trunk = {key: each for key, each in state.items() if not key.startswith(("head.", "fc_norm."))}
        tokens = vit_features(trunk, images)
        pooled = tokens[:, 0]
        if averaged:
            mean = tokens[:, 1:].mean(1)
            pooled = F.layer_norm(mean, (WIDTH,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6)
        return F.linear(pooled, state["head.weight"], state["head.bias"])

    def write(folder: Path) -> tuple[Path, Callable[[Image.Image], Tensor]]:
        return save(pack(state), folder, "published.pth"), seen_by(network, see)

    return Peer(name, backbone, write)


def _head(state: State, averaged: bool) -> State:
    head = random_state({"head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,)}, seed=7)
    return (renamed(state, (r"^norm\.", "fc_norm.")) if averaged else state) | head


def _in_mmpretrain(state: State) -> State:
    trunk = {name: each for name, each in state.items() if not name.startswith("head.")}
    rules = ((r"^fc_norm\.", "ln2."), (r"\.norm([12])\.", r".ln\1."), (r"^blocks\.", "layers."))
    layers = ((r"mlp\.fc1", "ffn.layers.0.0"), (r"mlp\.fc2", "ffn.layers.1"), (r"embed\.proj", "embed.projection"))
    head = {f"head.fc.{kind}": state[f"head.{kind}"] for kind in ("weight", "bias")}
    return prefixed(renamed(trunk, *rules, *layers), "backbone.") | head


_COLUMNS_FIRST = sincos_position_embedding((SIDE // PATCH, SIDE // PATCH), WIDTH)
_ROWS_FIRST = torch.cat([_COLUMNS_FIRST[..., WIDTH // 2 :], _COLUMNS_FIRST[..., : WIDTH // 2]], dim=-1)
_VIT = random_state(vit_shapes())
_MAE = _head(_VIT | {"pos_embed": _COLUMNS_FIRST}, averaged=True)
_BEIT = _head(random_state(beit_shapes(shared=False)), averaged=True)
_INDICES = {f"blocks.{i}.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.long) for i in range(DEPTH)}
_RESIZED = int(SIDE / 0.875)
_BICUBIC = torchvisions(SIDE, _RESIZED, "bicubic")

MAE = _restated("facebookresearch/mae", "vit_mite_patch8_32", _MAE, _BICUBIC, lambda s: {"model": s}, averaged=True)
VIT = _transformers(
    "ViT",
    "ViTForImageClassification",
    "ViTImageProcessorPil",
    "vit_mite_patch8_32",
    {"size": {"height": 32, "width": 32}},
)
TIMM = _timm("vit_mite_patch8_32")
PEERS = (
    TIMM,
    _timm("convnext_atto", ".d2_in1k"),
    _timm("resnet18", ".a1_in1k"),
    _timm("mobilenetv3_small_050", ".lamb_in1k"),
    _timm("levit_128s", ".fb_dist_in1k"),
    _timm("deit_tiny_distilled_patch16_224", ".fb_in1k"),
    Peer("timm, hub folder, average", None, _timms_folder),
    VIT,
    _transformers(
        *("BEiT", "BeitForImageClassification", "BeitImageProcessorPil", "beit_mite_patch8_32"),
        {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
        use_relative_position_bias=True,
    ),
    replace(
        _transformers(
            *("BEiT", "BeitForImageClassification", "BeitImageProcessorPil", None),
            {"size": {"height": 32, "width": 32}},
            **{"layer_scale_init_value": 0.0, "use_absolute_position_embeddings": True, "intermediate_size": 96},
        ),
        name="transformers, averaged ViT as backbench exports it",
    ),
    _transformers(
        *("DeiT", "DeiTForImageClassification", "DeiTImageProcessorPil", "vit_mite_patch8_32"),
        {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
    _transformers(
        *("DeiT", "DeiTForImageClassificationWithTeacher", "DeiTImageProcessorPil", None),
        {"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}},
        **{"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
        **{"image_size": 224, "patch_size": 16},
    ),
    Peer("torchvision, ViT", "vit_mite_patch8_32", _torchvisions_vit),
    _torchvision("resnet18", None, 224, 256, "bilinear"),
    _torchvision("swin_t", None, 224, 232, "bicubic"),
    _torchvision("convnext_tiny", None, 224, 236, "bilinear"),
    MAE,
    _restated(
        *("MoCo v3, linear", "vit_mite_patch8_32", _head(_VIT | {"pos_embed": _ROWS_FIRST}, averaged=False)),
        torchvisions(SIDE, _RESIZED, "bilinear"),
        lambda s: {
            "epoch": 90,
            "arch": "vit_base",
            "state_dict": prefixed(s, "module."),
            "best_acc1": torch.tensor(76.5),
        },
        averaged=False,
    ),
    _restated(
        *("facebookresearch/deit", "deit_mite_patch8_32", _head(_VIT, averaged=False), _BICUBIC),
        lambda s: {"model": s},
        averaged=False,
    ),
    _restated(
        *("microsoft/unilm, BEiT", "beit_mite_patch8_32", _BEIT, torchvisions(SIDE, _RESIZED, "bicubic", HALF)),
        lambda s: {"model": s | _INDICES},
        averaged=True,
    ),
    _restated(
        *("mmpretrain, MAE", "vit_mite_patch8_32", _MAE, _BICUBIC),
        lambda s: {"meta": {"epoch": 100}, "state_dict": _in_mmpretrain(s)},
        averaged=True,
    ),
)
