"""What a file of another's classifier is: its network, how it sees an image, what its outputs are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import timm
import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.architectures import build_timm_model
from backbones.errors import InputError
from backbones.images.crops import EVALUATION_SHARE, Interpolation
from backbones.images.normalisation import Normalisation
from backbones.images.views import Shape

Pool = Literal["avg", "token"]


@dataclass(frozen=True)
class Sight:
    """What of an image its own evaluation shows the network; the fields are those of `backbones.images.views.View`."""

    size: int
    ratio: float | None = None
    resized: int | None = None
    shape: Shape = "short"
    interpolation: Interpolation = "bicubic"

    def settings(self) -> dict[str, object]:
        """As settings of a recipe; a ratio that is the recipes' own rule is left to that."""
        rule = EVALUATION_SHARE if self.size <= 224 else 1.0
        return {
            "model.image_size": self.size,
            "inference.crop_ratio": None if self.ratio == rule else self.ratio,
            "inference.resized": self.resized,
            "inference.shape": self.shape,
            "inference.interpolation": self.interpolation,
        }

    def of_another_size(self) -> dict[str, object]:
        """What of the settings becomes another where the network is shown images of another size: the share of the
        resized image stays."""
        return {"inference.resized": None, "inference.crop_ratio": self.size / self.resized} if self.resized else {}


@dataclass(frozen=True)
class Classifier:
    """A classifier of another's, which is one of timm's models once its tensors are named so.

    kind:          what it is read as, in words
    backbone:      its trunk, by the registry's name
    arch:          timm's name of it
    sight:         how it was evaluated by those who published it
    normalisation: of its pixels; None where the trunk's name and the file have to tell
    pool:          of a ViT, to be built with; None where timm's model has its own way
    options:       of timm's model
    classes:       names of its outputs; empty where the file does not tell
    method:        how its trunk came about, as the tables print it; empty where others have to tell
    remark:        what its record has to note besides
    """

    kind: str
    backbone: str
    arch: str
    sight: Sight
    normalisation: Normalisation | None = None
    pool: Pool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    method: str = ""
    remark: str = ""

    def build(self, image_size: int, outputs: int) -> nn.Module:
        """The network with its head, without the weights. Raises InputError where timm cannot build it so."""
        pool = {"global_pool": self.pool} if self.pool else {}
        options = {"num_classes": outputs} | pool | dict(self.options)
        return build_timm_model(self.arch, image_size, 0.0, **options)

    def outline(self) -> nn.Module:
        """The network with its head, without numbers."""
        with torch.device("meta"):
            return self.build(self.sight.size, 1000)

    @property
    def pooling(self) -> Pool:
        """What comes before its head: the class token, or else, as in all convolutional networks, an average."""
        own = self.pool or getattr(self.outline(), "global_pool", None)
        return "token" if own == "token" else "avg"


def outputs_name(network: nn.Module) -> str:
    """What the last linear layer of one of timm's classifiers is called: "head", "fc", "head.fc".

    Raises InputError for one with several, or with another end.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    name = config.get("classifier")
    if isinstance(name, tuple | list):
        name = name[0]
    if not isinstance(name, str) or not isinstance(getattr(_module(network, name), "weight", None), nn.Parameter):
        raise InputError(f"timm does not say which layer of {config.get('architecture')} gives its classes")
    return name


def _module(network: nn.Module, name: str) -> nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None


def has_a_vits_pooling(network: nn.Module) -> bool:
    """Whether the network is a ViT or a BEiT of timm's, which pool either the class token or the mean."""
    return isinstance(network, VisionTransformer | Beit)


def require_timm(name: str) -> None:
    """Raise InputError unless timm has a model of that name."""
    if not timm.is_model(name):
        raise InputError(
            f"{name}: none of timm's models, and of files of others only those can be evaluated with their heads. "
            "Fine-tune it here, and give the run"
        )
