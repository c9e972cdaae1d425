"""What is judged: image encoders, how their weights are read, and the pre-training of masked autoencoders.

    from backbones import create_backbone, create_mae

    encoder = create_backbone("mae_vit_base", "mae_pretrain_vit_base.pth", image_size=224)
    model = create_mae("mae_vit_base_patch16")

The names are loaded when they are first used, so importing this room costs nothing: the command line does it on every
call.
"""

import importlib
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError

if TYPE_CHECKING:
    from backbones.images.normalisation import Normalisation
    from backbones.mae.model import MaskedAutoencoder, create_mae, list_mae_models
    from backbones.objectives import register_pretraining
    from backbones.registry import create_backbone, find_backbone, list_backbones, normalisation_of, register_backbone

__all__ = [
    "InputError",
    "MaskedAutoencoder",
    "Normalisation",
    "create_backbone",
    "create_mae",
    "find_backbone",
    "list_backbones",
    "list_mae_models",
    "normalisation_of",
    "register_backbone",
    "register_pretraining",
]

_HOME = {
    "mae.model": ("MaskedAutoencoder", "create_mae", "list_mae_models"),
    "images.normalisation": ("Normalisation",),
    "objectives": ("register_pretraining",),
    "registry": ("create_backbone", "find_backbone", "list_backbones", "normalisation_of", "register_backbone"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"backbones.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
