"""Encoders, autoencoders and classifiers in the names of each target."""

from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.exporting.huggingface import vit_folder
from backbones.exporting.mmseg_names import name_encoder
from backbones.exporting.plain_vit import PlainViT, plain_vit
from backbones.exporting.products import About, Product, Target, as_pickle, as_torch, no_home, plain
from backbones.exporting.timm_folders import timm_folder
from backbones.images.crops import resized_side
from backbones.mae.model import MaskedAutoencoder
from backbones.weights.deviating import stating
from backbones.weights.patches import pyramid_side, resample_filters

_TIMM_TAKES_ALL = "--to timm takes every model of timm's"


def export_encoder(
    model: nn.Module, about: About, target: Target, *, decoder: bool = False, pickled: bool = False
) -> Product:
    """An encoder, or the encoder of a masked autoencoder; for "mae" all of it.

    decoder: for "transformers", all of it too. pickled: for "detectron2", as a `.pkl`. Raises InputError for a model
    that the target does not have.
    """
    if decoder and target != "transformers":
        own = "mae has the decoder anyway" if target == "mae" else f"{target} has no decoder"
        raise InputError(f"--decoder: is for --to transformers; {own}")
    if target == "timm":
        return timm_folder(model, about)
    if target == "transformers":
        return vit_folder(model, about, decoder)
    vit = _require_plain(model, target)
    if target == "mae":
        return _of_mae(model, about, vit)
    return _of_mmseg(model, about) if target == "mmseg" else _of_detectron2(model, about, vit, pickled)


def export_classifier(model: nn.Module, about: About, target: Target) -> Product:
    """A classifier with its head. Raises InputError for one that the target does not have."""
    if target == "timm":
        return timm_folder(model, about)
    if target == "transformers":
        return vit_folder(model, about)
    if target != "mae":
        raise no_home("a classifier", target, "it has none", "Use --to timm, transformers or mae")
    vit = _require_plain(model, target)
    tensors = plain(model.state_dict())
    pooled = "the patches' mean (--global_pool)" if vit.averaged else "the class token (--cls_token)"
    return Product(
        files={"": as_torch({"model": tensors, **said_beside(about)})},
        tensors=tensors,
        kind=f"facebookresearch/mae's fine-tuned ViT on {pooled}",
        remarks=_sees_otherwise(about),
    )


def _sees_otherwise(about: About) -> tuple[str, ...]:
    """What MAE's own evaluation, which has no settings for it, would show the network otherwise."""
    view = about.view
    if view is None or (view.side, view.shape, view.interpolation) == (resized_side(view.size), "short", "bicubic"):
        return ()
    what = "both sides" if view.shape == "square" else "the short side"
    return (
        f"its evaluation here resized {what} to {view.side} pixels ({view.interpolation}); mae's own resizes the short "
        f"side to {resized_side(view.size)} (bicubic)",
    )


def _require_plain(model: nn.Module, target: Target) -> PlainViT:
    try:
        return plain_vit(model)
    except InputError as error:
        raise no_home(type(model).__name__, target, str(error), _TIMM_TAKES_ALL) from error


def said_beside(about: About) -> dict[str, Any]:
    """What `backbench pretrain` writes beside an encoder's weights."""
    return {
        "method": about.method,
        "pretrain_data": about.pretrain_data,
        "mean": list(about.normalisation.mean),
        "std": list(about.normalisation.std),
        **stating(about.deviations),
    }


def _of_mae(model: nn.Module, about: About, vit: PlainViT) -> Product:
    """facebookresearch/mae's names are those of the autoencoder here, and its encoder's are timm's."""
    is_whole = isinstance(model, MaskedAutoencoder)
    if isinstance(model, MaskedAutoencoder) and model.mask_tokens_in_encoder:
        raise no_home(
            "an autoencoder with mask tokens in its encoder",
            "mae",
            "its encoder sees the visible patches alone",
            "--to timm and --to transformers take the encoder",
        )
    if vit.averaged:
        raise no_home("an encoder with fc_norm", "mae", "its encoder has a norm over tokens", _TIMM_TAKES_ALL)
    tensors = plain(model.state_dict())
    rows, columns = (side // vit.patch for side in vit.image_size)
    return Product(
        files={"": as_torch({"model": tensors, "grid": f"{rows}×{columns}", **said_beside(about)})},
        tensors=tensors,
        kind="facebookresearch/mae's " + ("autoencoder, decoder and all" if is_whole else "encoder"),
    )


def _own(model: nn.Module) -> dict[str, Any]:
    return plain(model.encoder_state_dict() if isinstance(model, MaskedAutoencoder) else model.state_dict())


def _of_mmseg(model: nn.Module, about: About) -> Product:
    tensors = name_encoder(_own(model))
    return Product(
        files={"": as_torch({"state_dict": tensors, "meta": {}, **said_beside(about)})},
        tensors=tensors,
        kind="mmsegmentation's MAE backbone, and mmpretrain's VisionTransformer",
        remarks=("in the configuration: backbone.init_cfg=dict(type='Pretrained', checkpoint=FILE)",),
    )


def _of_detectron2(model: Any, about: About, vit: PlainViT, pickled: bool) -> Product:
    """ViTDet's backbone, which begins with it; patches of 14 pixels become such of 16."""
    remarks, side = [], pyramid_side(vit.patch)
    if side != vit.patch:
        resample_filters(model.patch_embed, side, "pseudo_inverse")
        remarks.append(f"its patch filters are resampled, from {vit.patch} to {side} pixels (pseudo-inverse)")
    outside = ("cls_token", "norm.", "fc_norm.")
    tensors = {f"backbone.net.{name}": each for name, each in _own(model).items() if not name.startswith(outside)}
    rows, columns = (pixels // vit.patch for pixels in vit.image_size)
    if rows != columns:
        raise no_home("this ViT", "detectron2", "its grid of patches is not square", _TIMM_TAKES_ALL)
    remarks.append(f"ViTDet's backbone takes it with patch_size={side} and pretrain_img_size={rows * side}")
    return Product(
        files={"": detectron2_file(tensors, about, pickled)},
        tensors=tensors,
        kind="the backbone of detectron2's ViTDet",
        remarks=tuple(remarks),
    )


def detectron2_file(tensors: dict[str, Any], about: About, pickled: bool) -> Any:
    """A model of detectron2's: a `.pkl` of arrays, as its model zoo has them, or `torch.save`'s."""
    if not pickled:
        return as_torch({"model": tensors, **said_beside(about)})
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return as_pickle({"model": arrays, "__author__": "backbench", **said_beside(about)})
