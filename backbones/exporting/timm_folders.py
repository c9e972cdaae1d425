"""timm's folders, as its hub has them: `timm.create_model("local-dir:DIR", pretrained=True)`."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from timm.models._hub import save_config_for_hf
from timm.models._input import get_model_args
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.exporting.plain_vit import plain_vit
from backbones.exporting.products import About, Product, as_safetensors, no_home, plain
from backbones.images.views import View
from backbones.mae.model import MaskedAutoencoder

FILES = ("config.json", "model.safetensors")
_OF_TIMMS_FILE = (
    *("custom_load", "url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "tag"),
    *("license", "description", "origin_url", "paper_name", "paper_ids", "notes", "label_names", "label_descriptions"),
)
"""What timm's `pretrained_cfg` says of a file, and not of the architecture."""
_ANY_VIT = "vit_base_patch16_224"
_CLOSE = 1e-4


def timm_folder(model: nn.Module, about: About) -> Product:
    """Weights and description of a model of timm's, encoder or classifier.

    timm's own model is built as the description has it, takes the weights and has to give the same output. Raises
    InputError for a model that timm does not have.
    """
    tensors = _own_tensors(model)
    target = _timms_own(model, tensors)
    _require_same_output(model, target, about)
    names = {"label_names": list(about.classes)} if about.classes else {}
    pixels = _pixels(_seen(model, about), about)
    _say_nothing_of_origin(target)

    def describe(path: Path) -> None:
        save_config_for_hf(target, str(path), model_config=dict(names), data_config=pixels)

    config, weights = FILES
    return Product(
        files={config: describe, weights: as_safetensors(tensors, about)},
        tensors=tensors,
        kind=f"timm's {_architecture(target)}" + (" with its head" if about.classes else ", an encoder"),
        is_folder=True,
    )


def _pixels(sides: tuple[int, int] | None, about: About) -> dict[str, Any]:
    """The evaluation's, in timm's words; `sides` are those of the images, as far as they are known."""
    view = about.view or View(min(sides or (224, 224)))
    pixels: dict[str, Any] = {
        "mean": about.normalisation.mean,
        "std": about.normalisation.std,
        "crop_pct": view.share,
        "crop_mode": "squash" if view.shape == "square" else "center",
        "interpolation": view.interpolation,
    }
    return pixels | ({"input_size": (3, *sides)} if sides else {})


def _say_nothing_of_origin(target: Any) -> None:
    """Whose weights they are, and under which licence, timm says of its own file, not of these weights."""
    said = target.pretrained_cfg.items()
    target.pretrained_cfg = {name: value for name, value in said if name not in _OF_TIMMS_FILE}


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    return plain(model.encoder_state_dict() if isinstance(model, MaskedAutoencoder) else model.state_dict())


def _architecture(model: Any) -> str:
    return str((getattr(model, "pretrained_cfg", None) or {}).get("architecture") or "")


def _timms_own(model: Any, tensors: dict[str, Tensor]) -> nn.Module:
    """The model as timm builds it, with these weights."""
    arch = model.encoder_name if isinstance(model, MaskedAutoencoder) else _architecture(model)
    options = _options(model)
    if not arch or not timm.is_model(arch) or not model_entrypoint(arch).__module__.startswith("timm."):
        arch, options = _ANY_VIT, options | _sizes(model)
    try:
        target = timm.create_model(arch, pretrained=False, num_classes=_classes(model), **options)
        target.load_state_dict(tensors, strict=True)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise _refusal(model, f"timm's {arch} does not take its weights ({str(error).splitlines()[0]})") from error
    built: nn.Module = target.eval()
    return built


def _refusal(model: nn.Module, why: str) -> Exception:
    others = "Its own package builds it: hand on that, and weights.safetensors as it is"
    return no_home(type(model).__name__, "timm", why, others)


def _classes(model: Any) -> int:
    return 0 if isinstance(model, MaskedAutoencoder) else int(getattr(model, "num_classes", 0))


def _options(model: Any) -> dict[str, Any]:
    """What of a model can be otherwise than its name says."""
    is_timms = not isinstance(model, MaskedAutoencoder) and hasattr(model, "pretrained_cfg")
    options: dict[str, Any] = get_model_args(model) if is_timms else {}
    options.pop("num_classes", None)
    if sides := _image_size(model):
        options["img_size"] = sides[0] if sides[0] == sides[1] else sides
    if isinstance(model, VisionTransformer | Beit):
        pool = "token" if isinstance(model, MaskedAutoencoder) else model.global_pool
        options |= {"global_pool": pool} if pool else {}
    if isinstance(model, VisionTransformer):
        first: Any = model.blocks[0]
        options["num_heads"] = first.attn.num_heads
    if isinstance(model, Beit):
        block: Any = model.blocks[0]
        options |= {
            "use_abs_pos_emb": model.pos_embed is not None,
            "use_rel_pos_bias": block.attn.relative_position_bias_table is not None,
            "init_values": 1e-5 if block.gamma_1 is not None else None,
        }
    return options


def _image_size(model: Any) -> tuple[int, int] | None:
    """Height and width of the images that a model is built for; None where it takes any."""
    config = getattr(model, "pretrained_cfg", None) or {}
    if not isinstance(model, MaskedAutoencoder) and not config.get("fixed_input_size"):
        return None
    height, width = model.patch_embed.img_size
    return int(height), int(width)


def _seen(model: Any, about: About) -> tuple[int, int] | None:
    """Height and width of the images that a model has seen, as far as it is known."""
    return _image_size(model) or ((about.view.size, about.view.size) if about.view else None)


def _sizes(model: Any) -> dict[str, Any]:
    """All sizes of a plain ViT whose name is not timm's."""
    try:
        vit = plain_vit(model)
    except ValueError as error:
        raise _refusal(model, str(error)) from error
    return {
        "patch_size": vit.patch,
        "embed_dim": vit.width,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "mlp_ratio": vit.mlp / vit.width,
    }


@torch.no_grad()
def _require_same_output(model: Any, target: Any, about: About) -> None:
    """Raise InputError unless both models make the same of an image of noise."""
    height, width = _seen(model, about) or (224, 224)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    ours, theirs = (
        (each(images) if _classes(model) else each.forward_features(images)).float().cpu()
        for each, images in ((model, image.to(device)), (target, image))
    )
    model.train(was_training)
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=0, atol=_CLOSE * max(ours.abs().max(), 1)):
        raise _refusal(model, f"timm's {_architecture(target)} makes something else of the same weights")
