"""Objectives of pre-training as others would write them: one in the manner of SimMIM, and ones that cannot train."""

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backbones.vit_sizes  # noqa: F401  (registers the mini encoder in timm)

WIDTH, PATCH = 128, 8


class Denoising(nn.Module):
    """Pixels under noise and hidden patches are to be told by one linear layer on a small ViT's tokens."""

    def __init__(self, image_size: int, hidden: float, noise: float) -> None:
        super().__init__()
        self.encoder: Any = timm.create_model("vit_mini_patch8_48", num_classes=0, img_size=image_size)
        self.predict = nn.Linear(WIDTH, PATCH * PATCH * 3)
        self.register_buffer("seen", torch.zeros(()))
        self.hidden, self.noise = hidden, noise

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.encoder.set_grad_checkpointing(enable)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        grid = images.shape[-1] // PATCH
        mask = torch.rand(len(images), 1, grid, grid, device=images.device) < self.hidden
        mask = mask.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        given = torch.where(mask, 0.0, images + self.noise * torch.randn_like(images))
        self.seen += len(images)
        tokens = self.predict(self.encoder.forward_features(given)[:, 1:])
        told = F.pixel_shuffle(tokens.mT.unflatten(2, (grid, grid)), PATCH)
        return {"loss": F.l1_loss(told, images), "hidden": mask.float().mean()}


def denoising(image_size: int, hidden: float = 0.5, *, noise: float = 0.1) -> nn.Module:
    """Registered by the tests, and importable as it stands."""
    return Denoising(image_size, hidden, noise)


SPARED: dict[str, object] = {"a word spared": "layer.weight", "others spared": ["weight"], "spares nothing": None}
"""What a module's `no_weight_decay` gives, by what is wrong with it."""


class Bad(nn.Module):
    """What is wrong with it is said by its name."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.layer, self.unused = nn.Linear(3, 4), nn.Linear(3, 4) if what == "unused" else nn.Identity()
        if what != "no encoder":
            self.encoder: object = {"not": "a module"} if what == "encoder of another kind" else self.layer
        if what == "own weights":
            nn.init.constant_(self.layer.weight, float(torch.Generator().seed() % 1000))
        if what == "nan buffer":
            self.register_buffer("lowest", torch.tensor(torch.nan))
        if what == "frozen":
            self.requires_grad_(False)
        if what == "half precision":
            self.half()
        if what == "lazy":
            self.unused = nn.LazyLinear(3)
        if what == "compiled":
            self._orig_mod = self.unused  # as torch.compile's have it
        if what == "state fails":
            self.encoder_state_dict = self.fail
        if what in SPARED:
            self.no_weight_decay = lambda: SPARED[what]
        self.steps = 0

    def fail(self) -> None:
        raise ValueError("no state")

    def get_extra_state(self) -> str:
        return self.what

    def set_extra_state(self, state: object) -> None:
        pass

    def forward(self, images: Tensor) -> Any:
        losses = self.layer(images.mean((2, 3))).square().mean(1)
        if self.what == "gradient penalty":
            (gradient,) = torch.autograd.grad(losses.sum(), self.layer.weight, create_graph=True)
            return losses.mean() + gradient.square().mean()
        if self.what == "half precision alone" and not torch.is_autocast_enabled(images.device.type):
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        if self.what == "fails":
            raise RuntimeError("the matrix is not to its liking")
        self.steps += 1
        if self.what == "counts":
            return losses.mean() * self.steps
        if self.what == "grows":
            self.register_buffer("seen", torch.zeros(()))
        if self.what == "complex":
            return losses.mean() * 1j
        if self.what == "own backward":
            losses.mean().backward()
            return losses.mean() + losses.sum()
        if self.what == "own noise":
            generator = torch.Generator()
            generator.seed()
            return losses.mean() * torch.rand((), generator=generator)
        if self.what == "nan gradient":
            return (losses.mean() * 0).sqrt()
        answers = {"vector": losses, "tuple": (losses.mean(),), "no loss": {"total": losses.mean()}}
        return answers.get(self.what, losses.mean() / 0 if self.what == "infinite" else losses.mean())


def bad(image_size: int, what: str = "nothing") -> Any:
    if what == "no module":
        return "a string"
    if what == "cannot be built":
        raise ValueError("no such thing")
    return Bad(what)
