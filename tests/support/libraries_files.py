"""Files that transformers and torchvision write of their own models, with small random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from tests.support.authors_files import Features, Kind
from tests.support.checkpoint_examples import State, randomised, renamed, save

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
}
_DINOV2 = {name: value for name, value in _SIZES.items() if name != "intermediate_size"}
_DECODER = {
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 64,
}


def _transformers(
    name: str,
    into: str,
    model: str,
    features: Callable[[Any, Tensor], Tensor],
    in_memory: bool = False,
    of: str = "",
    config: dict[str, Any] = _SIZES,
    **options: Any,
) -> Kind:
    """A model of transformers, as it is published or with the names that it has in memory."""

    def write(folder: Path) -> tuple[Path, Features]:
        import transformers

        settings = getattr(transformers, of or model.split("For")[0].removesuffix("Model") + "Config")
        theirs: Any = randomised(getattr(transformers, model)(settings(**(config | options))))
        if not in_memory:
            theirs.save_pretrained(folder)
        path = save(theirs.state_dict(), folder) if in_memory else folder / "model.safetensors"
        return path, lambda images: features(theirs, images)

    return Kind(f"transformers, {name}{', in memory' if in_memory else ''}", into, write)


def _both(*args: Any, **kwargs: Any) -> tuple[Kind, Kind]:
    return _transformers(*args, **kwargs), _transformers(*args, in_memory=True, **kwargs)


def _last(model: Any, images: Tensor) -> Tensor:
    return model(images).last_hidden_state


def _inner(name: str) -> Callable[[Any, Tensor], Tensor]:
    return lambda model, images: getattr(model, name)(images).last_hidden_state


def _mae(model: Any, images: Tensor) -> Tensor:
    model.config.mask_ratio = model.vit.config.mask_ratio = 0.0
    return model.vit(images, noise=torch.arange(16.0).expand(len(images), 16)).last_hidden_state


def _masked_beit(model: Any, images: Tensor) -> Tensor:
    return model.layernorm(model.beit(images).last_hidden_state)


def _clip(model: Any, images: Tensor) -> Tensor:
    tower = getattr(model, "vision_model", model)
    return tower.post_layernorm(tower(images).last_hidden_state)


def _siglip(model: Any, images: Tensor) -> Tensor:
    return model.vision_model(images).last_hidden_state


_SHARED = {"use_shared_relative_position_bias": True, "use_mask_token": True}
_CLIP: dict[str, Any] = _SIZES | {"layer_norm_eps": 1e-5}
_TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 9}
_DINOV3: dict[str, Any] = _SIZES | {"num_register_tokens": 4, "layer_norm_eps": 1e-5}
_NO_BIASES = {"query_bias": False, "value_bias": False}
_AIMV2 = {name: value for name, value in _SIZES.items() if name != "layer_norm_eps"}
_WHOLE = {"vision_config": _CLIP, "text_config": _TEXT, "projection_dim": 24}

TRANSFORMERS = (
    *_both("ViT", "vit", "ViTForImageClassification", _inner("vit")),
    *_both("ViTMAE", "vit", "ViTMAEForPreTraining", _mae, **_DECODER),
    *_both("DeiT", "deit_distilled", "DeiTForImageClassificationWithTeacher", _inner("deit")),
    *_both("BEiT", "beit", "BeitForMaskedImageModeling", _masked_beit, vocab_size=16, **_SHARED),
    _transformers(
        "BEiT fine-tuned",
        "beit_averaged",
        "BeitForImageClassification",
        _inner("beit"),
        use_relative_position_bias=True,
    ),
    *_both("data2vec-vision", "beit", "Data2VecVisionModel", _last, use_mean_pooling=False, **_SHARED),
    _transformers(
        "data2vec-vision fine-tuned",
        "beit_averaged",
        "Data2VecVisionForImageClassification",
        _inner("data2vec_vision"),
        use_relative_position_bias=True,
    ),
    *_both("ViTMSN", "vit", "ViTMSNModel", _last),
    *_both("I-JEPA", "vit_without_class_token", "IJepaModel", _last),
    *_both("DINOv2", "dinov2", "Dinov2Model", _last, config=_DINOV2),
    *_both("DINOv2, ViT-g", "dinov2_giant", "Dinov2Model", _last, config=_DINOV2, use_swiglu_ffn=True),
    *_both(
        "DINOv2, registers",
        "dinov2_registers",
        "Dinov2WithRegistersForImageClassification",
        _inner("dinov2_with_registers"),
        config=_DINOV2,
    ),
    *_both("CLIP", "clip_quickgelu", "CLIPModel", _clip, config=_WHOLE),
    *_both("CLIP's image encoder", "clip_quickgelu", "CLIPVisionModel", _clip, config=_CLIP),
    _transformers(
        "CLIP's image encoder and projection",
        "clip",
        "CLIPVisionModelWithProjection",
        _clip,
        of="CLIPVisionConfig",
        config=_CLIP,
        hidden_act="gelu",
    ),
    *_both("SigLIP", "siglip", "SiglipModel", _siglip, config={"vision_config": _SIZES, "text_config": _TEXT}),
    *_both("SigLIP's image encoder", "siglip", "SiglipVisionModel", _last),
    _transformers("SigLIP's, averaged", "siglip_averaged", "SiglipVisionModel", _last),
    *_both("DINOv3", "dinov3", "DINOv3ViTModel", _last, of="DINOv3ViTConfig", config=_DINOV3, **_NO_BIASES),
    *_both("DINOv3, biases", "dinov3_biases", "DINOv3ViTModel", _last, of="DINOv3ViTConfig", config=_DINOV3),
    _transformers(
        "DINOv3, gates",
        "dinov3_gates",
        "DINOv3ViTModel",
        _last,
        of="DINOv3ViTConfig",
        config=_DINOV3,
        use_gated_mlp=True,
        hidden_act="silu",
    ),
    *_both("AIMv2's image encoder", "aimv2", "Aimv2VisionModel", _last, config=_AIMV2),
)


def _torchvision(name: str, into: str, build: Callable[[], nn.Module], features: str, rules: Any = ()) -> Kind:
    """A model of torchvision's, or with `rules` for its names one of the original authors."""

    def write(folder: Path) -> tuple[Path, Features]:
        theirs: Any = randomised(build())
        state: State = theirs.state_dict()
        if features == "vit":
            return save(state, folder), lambda images: _vit_tokens(theirs, images)
        maps: Features = {
            "swin": lambda images: theirs.norm(theirs.features(images)),
            "maps": lambda images: theirs.features(images),
            "resnet": lambda images: _resnet_map(theirs, images),
        }[features]
        originals = {
            name: tensor.flatten() if name.endswith("layer_scale") else tensor for name, tensor in state.items()
        }
        return save({"model": renamed(originals, *rules)} if rules else state, folder), maps

    return Kind(name, into, write)


def _vit_tokens(model: Any, images: Tensor) -> Tensor:
    tokens = model._process_input(images)
    return model.encoder(torch.cat([model.class_token.expand(len(images), -1, -1), tokens], dim=1))


def _resnet_map(model: Any, images: Tensor) -> Tensor:
    stem = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    return model.layer4(model.layer3(model.layer2(model.layer1(stem))))


def _vit() -> nn.Module:
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "mlp_dim": 256}
    return torchvision.models.VisionTransformer(image_size=32, patch_size=8, **sizes)


def _swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=10)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig

    stages = [(16, 24, 1), (24, 32, 1), (32, 48, 2), (48, None, 1)]
    return torchvision.models.ConvNeXt([CNBlockConfig(*stage) for stage in stages], num_classes=10)


_MICROSOFTS = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"^features\.1\.(\d+)\.", r"layers.0.blocks.\1."),
    (r"^features\.2\.", "layers.0.downsample."),
    (r"^features\.3\.(\d+)\.", r"layers.1.blocks.\1."),
    (r"mlp\.0\.", "mlp.fc1."),
    (r"mlp\.3\.", "mlp.fc2."),
)
_SIMMIMS = (*_MICROSOFTS, (r"^(?!head)", "encoder."), (r"^head\.", "decoder.0."))
_FACEBOOKS = (
    *((rf"^features\.{2 * stage}\.(\d)\.", rf"downsample_layers.{stage}.\1.") for stage in range(4)),
    *((rf"^features\.{2 * stage + 1}\.(\d+)\.", rf"stages.{stage}.\1.") for stage in range(4)),
    (r"block\.0\.", "dwconv."),
    (r"block\.2\.", "norm."),
    (r"block\.3\.", "pwconv1."),
    (r"block\.5\.", "pwconv2."),
    (r"layer_scale", "gamma"),
    (r"classifier\.0\.", "norm."),
    (r"classifier\.2\.", "head."),
)

_LIGHTLYS = (
    *((rf"^layer{stage}\.", f"{stage + 3}.") for stage in range(1, 5)),
    (r"^conv1\.", "0."),
    (r"^bn1\.", "1."),
    (r"^(?=\d)", "backbone."),
    (r"^fc\.", "projection_head.layers.0."),
)

_HIERAS = (
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    *((rf"^encoder\.stages\.{stage}\.layers\.0\.", f"blocks.{first}.") for stage, first in enumerate((0, 1, 2, 4))),
    (r"^encoder\.stages\.2\.layers\.1\.", "blocks.3."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"^pooler\.layernorm\.", "norm."),
)


def _hiera(name: str, pre_trained: bool) -> Kind:
    """transformers' Hiera under the authors' names."""

    def write(folder: Path) -> tuple[Path, Features]:
        from transformers import HieraConfig, HieraModel

        config = HieraConfig(embed_dim=16, image_size=[64, 64], num_heads=[1, 2, 4, 8], depths=[1, 1, 2, 1])
        theirs: Any = randomised(HieraModel(config))
        state = renamed(theirs.state_dict(), *_HIERAS)
        if pre_trained:
            state = renamed(state, (r"^norm\.", "encoder_norm.")) | {
                "mask_token": torch.zeros(1, 1, 32),
                "multi_scale_fusion_heads.0.weight": torch.zeros(128, 16, 4, 4),
                "decoder_embed.weight": torch.zeros(32, 128),
                "decoder_pos_embed": torch.zeros(1, 4, 32),
            }
        else:
            state |= {"head.projection.weight": torch.zeros(10, 128), "head.projection.bias": torch.zeros(10)}
        return save({"model_state": state, "epoch": 3}, folder), lambda images: theirs(images).last_hidden_state

    return Kind(name, "hiera", write)


TORCHVISION = (
    _torchvision("torchvision, ViT", "vit", _vit, "vit"),
    _torchvision("torchvision, Swin", "swin", _swin, "swin"),
    _torchvision("torchvision, ConvNeXt", "convnext", _convnext, "maps"),
    _torchvision("torchvision, ResNet", "resnet", torchvision.models.resnet18, "resnet"),
    _torchvision("torchvision, ResNet in a row (lightly)", "resnet", torchvision.models.resnet18, "resnet", _LIGHTLYS),
    _torchvision("Swin (Microsoft)", "swin", _swin, "swin", _MICROSOFTS),
    _torchvision("SimMIM Swin", "swin", _swin, "swin", _SIMMIMS),
    _torchvision("ConvNeXt (Facebook)", "convnext", _convnext, "maps", _FACEBOOKS),
)

HIERA = (_hiera("Hiera", pre_trained=False), _hiera("Hiera, MAE", pre_trained=True))

LIBRARIES_FILES = (*TRANSFORMERS, *TORCHVISION, *HIERA)
