"""transformers' folders, in the names of published files: `AutoModel.from_pretrained(DIR)`.

An encoder becomes a ViTModel whose pooler hands on the class token, so that nothing has to be made up when it is
loaded. A classifier on the class token becomes a ViTForImageClassification; that class knows no averaged patches, so
one on those becomes a BeitForImageClassification without layer scale and relative positions, which computes the same:
its keys have no bias, and a bias of the keys adds the same to all scores of a query, which softmax takes away again.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.beit import Beit
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.exporting.plain_vit import PlainViT, plain_vit
from backbones.exporting.products import About, NoHomeError, Product, as_json, as_safetensors, no_home, plain
from backbones.images.views import View
from backbones.mae.model import MaskedAutoencoder

FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
_RESAMPLING = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""

_ENCODER = (
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("norm.", "layernorm."),
)
_BLOCK = (
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("attn.proj.", "attention.output.dense."),
    ("attn.q_bias", "attention.attention.query.bias"),
    ("attn.v_bias", "attention.attention.value.bias"),
    ("attn.relative_position_bias_table", "attention.attention.relative_position_bias.relative_position_bias_table"),
    ("gamma_", "lambda_"),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)
_PARTS = ("query", "key", "value")


def vit_folder(model: nn.Module, about: About, decoder: bool = False) -> Product:
    """A plain ViT, encoder or classifier, or a BEiT, with its configuration and its pixels'.

    decoder: of a masked autoencoder write all, as a ViTMAEForPreTraining. Raises InputError for a model that
    transformers does not have.
    """
    if isinstance(model, Beit):
        config, tensors = _beit(model)
    else:
        vit = _require_plain(model)
        if decoder:
            config, tensors = _autoencoder(model, vit)
        else:
            own = model.encoder_state_dict() if isinstance(model, MaskedAutoencoder) else model.state_dict()
            config, tensors = _of_vit(plain(own), vit)
    config |= {"dtype": "float32", "torch_dtype": "float32"}
    if about.classes:
        config["id2label"] = {str(number): name for number, name in enumerate(about.classes)}
        config["label2id"] = {name: number for number, name in enumerate(about.classes)}
    described, weights, pixels = FILES
    kind = config["architectures"][0]
    return Product(
        files={
            described: as_json(config),
            weights: as_safetensors(tensors, about),
            pixels: as_json(_preprocessor(about, config["image_size"])),
        },
        tensors=tensors,
        kind=f"transformers' {kind}",
        is_folder=True,
        remarks=_REMARKS.get(kind, ()) if not isinstance(model, Beit) else (),
    )


_REMARKS = {
    "ViTModel": ("its pooler_output is the class token behind the last norm, as it is",),
    "BeitForImageClassification": (
        "ViTForImageClassification knows no averaged patches: it is a BEiT without layer scale and relative positions, "
        "which computes the same; the biases of the keys, which change nothing, are left out",
    ),
}


def _require_plain(model: nn.Module) -> PlainViT:
    try:
        return plain_vit(model)
    except InputError as error:
        others = "--to timm takes every model of timm's"
        raise no_home(type(model).__name__, "transformers", str(error), others) from error


def _of_vit(own: Mapping[str, Tensor], vit: PlainViT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = {"model_type": "vit", "qkv_bias": True, **_sizes(vit)}
    if not vit.classes:
        width = torch.eye(vit.width)
        pooler = {"pooler.dense.weight": width, "pooler.dense.bias": torch.zeros(vit.width)}
        config |= {"architectures": ["ViTModel"], "pooler_act": "linear", "pooler_output_size": vit.width}
        return config, _encoder(own) | pooler
    head = {f"classifier.{kind}": own[f"head.{kind}"] for kind in ("weight", "bias")}
    inner = {name: tensor for name, tensor in own.items() if not name.startswith(("head.", "fc_norm."))}
    if not vit.averaged:
        return config | {"architectures": ["ViTForImageClassification"]}, _encoder(inner, "vit.") | head
    config = {"model_type": "beit", "architectures": ["BeitForImageClassification"], **_sizes(vit)}
    config |= {"use_absolute_position_embeddings": True, "use_relative_position_bias": False}
    config |= {"layer_scale_init_value": 0.0, "use_mean_pooling": True, "drop_path_rate": 0.0}
    norm = {f"beit.pooler.layernorm.{kind}": own[f"fc_norm.{kind}"] for kind in ("weight", "bias")}
    encoder = {name: each for name, each in _encoder(inner, "beit.").items() if not name.endswith("key.bias")}
    return config, encoder | norm | head


def _sizes(vit: PlainViT) -> dict[str, Any]:
    return {
        "hidden_size": vit.width,
        "num_hidden_layers": vit.depth,
        "num_attention_heads": vit.heads,
        "intermediate_size": vit.mlp,
        "hidden_act": "gelu",
        "layer_norm_eps": vit.epsilon,
        "image_size": vit.side,
        "patch_size": vit.patch,
        "num_channels": 3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _encoder(own: Mapping[str, Tensor], before: str = "") -> dict[str, Tensor]:
    """An encoder's tensors under transformers' names."""
    named: dict[str, Tensor] = {}
    for name, tensor in own.items():
        kind, number, inner = _split(name, "blocks.")
        if kind:
            named |= _of_block(f"{before}encoder.layer.{number}.", inner, tensor)
        else:
            named[before + _renamed(name, _ENCODER)] = tensor
    return named


def _split(name: str, container: str) -> tuple[str, str, str]:
    """Container, number and the rest of a name within one of numbered modules; empty of any other."""
    if not name.startswith(container):
        return "", "", ""
    number, _, inner = name.removeprefix(container).partition(".")
    return container, number, inner


def _of_block(before: str, inner: str, tensor: Tensor) -> dict[str, Tensor]:
    if not inner.startswith("attn.qkv."):
        return {before + _renamed(inner, _BLOCK): tensor}
    kind = inner.removeprefix("attn.qkv.")
    thirds = tensor.chunk(3)
    return {
        f"{before}attention.attention.{part}.{kind}": third.contiguous()
        for part, third in zip(_PARTS, thirds, strict=True)
    }


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in rules:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise NoHomeError(f"transformers has no place for its {name}")


def _autoencoder(model: nn.Module, vit: PlainViT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All of a masked autoencoder. Raises InputError for one whose encoder sees more than the visible patches."""
    if not isinstance(model, MaskedAutoencoder):
        raise InputError(f"--decoder: {type(model).__name__} has none. It is for a pre-training's masked autoencoder")
    if model.mask_tokens_in_encoder:
        raise no_home(
            "an autoencoder with mask tokens in its encoder",
            "transformers",
            "ViTMAE's encoder sees the visible patches alone",
            "Its encoder can, without --decoder",
        )
    decoder = model.decoder_blocks
    first: Any = decoder[0]
    config = {
        "model_type": "vit_mae",
        "architectures": ["ViTMAEForPreTraining"],
        "qkv_bias": True,
        **_sizes(vit),
        "decoder_hidden_size": model.decoder_embed.out_features,
        "decoder_num_hidden_layers": len(decoder),
        "decoder_num_attention_heads": first.attn.num_heads,
        "decoder_intermediate_size": first.mlp.fc1.out_features,
        "norm_pix_loss": model.norm_pix_loss,
    }
    tensors = _encoder(plain(model.encoder_state_dict()), "vit.")
    encoder = {*model.encoder_state_dict()}
    for name, tensor in plain(model.state_dict()).items():
        kind, number, inner = _split(name, "decoder_blocks.")
        if kind:
            tensors |= _of_block(f"decoder.decoder_layers.{number}.", inner, tensor)
        elif name not in encoder:
            tensors[f"decoder.{name}"] = tensor
    return config, tensors


def _beit(model: Beit) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A BEiT as transformers has it. Raises InputError for one that it has not."""
    block: Any = model.blocks[0]
    averaged = not isinstance(model.fc_norm, nn.Identity)
    own = {
        name: tensor
        for name, tensor in plain(model.state_dict()).items()
        if not name.endswith("relative_position_index")
    }
    if block.attn.q_bias is None or block.attn.qkv.bias is not None or getattr(model, "rel_pos_bias", None) is not None:
        raise no_home("this BEiT", "transformers", "its attention is another", "--to timm takes it")
    height, width = model.patch_embed.img_size
    head: Any = model.head
    classes = head.out_features if isinstance(head, nn.Linear) else 0
    vit = PlainViT(
        (height, width),
        model.patch_embed.patch_size[0],
        model.embed_dim,
        len(model.blocks),
        block.attn.num_heads,
        block.mlp.fc1.out_features,
        block.norm1.eps,
        averaged,
        classes,
    )
    config = {
        "model_type": "beit",
        "architectures": ["BeitForImageClassification" if classes else "BeitModel"],
        **_sizes(vit),
        "use_absolute_position_embeddings": model.pos_embed is not None,
        "use_relative_position_bias": block.attn.relative_position_bias_table is not None,
        "layer_scale_init_value": 0.0 if block.gamma_1 is None else 1e-5,
        "use_mean_pooling": averaged,
        "drop_path_rate": 0.0,
    }
    before = "beit." if classes else ""
    inner = {name: each for name, each in own.items() if not name.startswith(("head.", "fc_norm."))}
    tensors = _encoder(inner, before)
    for kind in ("weight", "bias"):
        if averaged:
            tensors[f"{before}pooler.layernorm.{kind}"] = own[f"fc_norm.{kind}"]
        if classes:
            tensors[f"classifier.{kind}"] = own[f"head.{kind}"]
    return config, tensors


def _preprocessor(about: About, side: int | tuple[int, int]) -> dict[str, Any]:
    """The evaluation's pixels: resized, and the centre cut out (transformers' BitImageProcessor)."""
    height, width = (side, side) if isinstance(side, int) else side
    view = about.view or View(min(height, width))
    is_square = view.shape == "square"
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": view.side, "width": view.side} if is_square else {"shortest_edge": view.side},
        "resample": _RESAMPLING[view.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(about.normalisation.mean),
        "image_std": list(about.normalisation.std),
    }
