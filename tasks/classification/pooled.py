"""A classifier on whatever a module of another author gives.   B images, T + N tokens, C channels, K classes"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from backbones.depth import layers_below, require_layers, undecayed
from backbones.errors import InputError
from backbones.features import STRIDES, ChangedImagesError, Form, examine, pick, try_features, undisturbed
from backbones.images.sizes import in_words


class PooledClassifier(nn.Module):
    """Features, pooled, and a linear layer on them.

    With `pool="avg"` the mean is taken over patches or cells. Where `norm` of the backbone is a LayerNorm and the last
    that happens to tokens, it goes, and `fc_norm` normalises the mean, as in MAE's fine-tuning. With "token" the first
    token is taken. Of four maps the last is pooled, and what only the others use, such as a norm of each, is frozen.

    backbone:   a module as `backbones.contract` has it, taken over: do not use it afterwards
    image_size: side of the images in pixels

    Raises InputError for features that cannot be pooled so, and for a module that does not take such images.
    """

    def __init__(self, backbone: Any, classes: int, pool: Literal["avg", "token"], image_size: int | None) -> None:
        super().__init__()
        name = type(backbone).__name__
        self.form: Form = _form(backbone, name, image_size)
        self.pool = pool
        side = self.form.fixed_size
        if image_size and side and side != image_size:
            raise InputError(
                f"{name}: forward_features takes only images of {in_words(side, side)} pixels, and this recipe's have "
                f"{image_size}. Build it for the image_size that its function is called with, or use "
                f"--set model.image_size={side}"
            )
        if pool == "token" and not self.form.prefix:
            raise InputError(
                f'key "model.pool": "token" needs a token before those of the patches, and {name} gives {self.form}. '
                "Use --set model.pool=avg"
            )
        width = self.form.channels[-1]
        self.fc_norm: nn.Module = nn.Identity()
        if pool == "avg" and (norm := _last_norm(backbone, self.form, side or image_size)) is not None:
            backbone.norm, self.fc_norm = nn.Identity(), nn.LayerNorm(width, eps=norm.eps)
        self.aside = _freeze_what_other_maps_use(backbone, self.form, side or image_size)
        self.backbone: Any = backbone
        self.head = nn.Linear(width, classes)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Logits (B, K)."""
        output = self.backbone.forward_features(images_B3HW)
        if self.form.layout == "tokens":
            (tokens,) = pick(output, type(self.backbone).__name__)
            pooled = tokens[:, 0] if self.pool == "token" else tokens[:, self.form.prefix :].mean(1)
        else:
            last = pick(output, type(self.backbone).__name__)[-1]
            pooled = last.mean((2, 3) if self.form.layout == "channels first" else (1, 2))
        logits: Tensor = self.head(self.fc_norm(pooled))
        return logits

    @property
    def note(self) -> str:
        """What a reader of the numbers has to know."""
        how = "the first token" if self.pool == "token" else "the mean of its features"
        fresh = not isinstance(self.fc_norm, nn.Identity)
        norm = "with fc_norm in place of its norm" if fresh else "without another norm"
        aside = "; what only the other maps use is frozen" if self.aside else ""
        return f"the classifier sees {how}, {norm} ({type(self.backbone).__name__}: {self.form}{aside})"

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        return self.head

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that have no weight decay, whatever their shape."""
        return {f"backbone.{name}" for name in undecayed(self.backbone)}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], tuple[float, ...]]:
        """The place in depth of a parameter by its name, for timm's `param_groups_layer_decay`; the head is behind all.

        Raises InputError if the backbone's layers cannot be told.
        """
        require_layers(self.backbone)
        return layers_below("backbone.", self.backbone)


def _form(backbone: Any, name: str, image_size: int | None) -> Form:
    """As `examine` finds it, of whole cells where the images are none: a ResNet gives 6 × 6 of 176 × 176 pixels."""
    cells_are_whole = not image_size or image_size % STRIDES[-1] == 0
    try:
        found = examine(backbone, name, image_size)
    except ChangedImagesError:
        raise
    except InputError:
        if cells_are_whole or not (whole := _form_of_whole_cells(backbone, name, image_size)):
            raise
        return whole
    if cells_are_whole or _are_powers_of_two(found.strides):
        return found
    return _form_of_whole_cells(backbone, name, image_size) or found


def _form_of_whole_cells(backbone: Any, name: str, image_size: int | None) -> Form | None:
    """Of a map, or of four, of the next larger images of whole cells, if those of `image_size` pixels are taken too."""
    assert image_size
    images = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    try:
        form = examine(backbone, name, -(-image_size // STRIDES[-1]) * STRIDES[-1])
        count = len(pick(try_features(backbone, images, form.needs_gpu), name))
    except (Exception, SystemExit):  # another author's module may do anything at another's size
        return None
    serves = count == len(form.strides) and form.layout != "tokens" and _are_powers_of_two(form.strides)
    return replace(form, fixed_size=None) if serves else None


def _are_powers_of_two(strides: Sequence[int]) -> bool:
    return not any(stride & (stride - 1) for stride in strides)


def _freeze_what_other_maps_use(backbone: Any, form: Form, side: int | None) -> list[str]:
    """Freeze parameters on which all maps but the last of four depend; their names."""
    if len(form.strides) == 1:
        return []
    before = next(backbone.parameters()).device
    trained = {key: each for key, each in backbone.named_parameters() if each.requires_grad}
    images = torch.rand(1, 3, *2 * [side or 4 * form.strides[-1]], generator=torch.Generator().manual_seed(0))
    try:
        device = backbone.to("cuda" if form.needs_gpu else before).parameters()
        with undisturbed(backbone, form.needs_gpu):
            *others, last = pick(backbone.forward_features(images.to(next(device).device)), type(backbone).__name__)
        used, elsewhere = (_reaches(maps, trained) for maps in ([last], others))
    finally:
        backbone.to(before)
    aside = [key for key in trained if key in elsewhere - used]
    for key in aside:
        trained[key].requires_grad_(False)
    return aside


def _reaches(maps: Sequence[Tensor], parameters: Mapping[str, nn.Parameter]) -> set[str]:
    """The names of the parameters that get a gradient from some maps."""
    total = sum(each.sum() for each in maps)
    if not isinstance(total, Tensor) or not total.requires_grad:
        return set()
    gradients = torch.autograd.grad(total, [*parameters.values()], retain_graph=True, allow_unused=True)
    return {key for key, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def _last_norm(backbone: Any, form: Form, side: int | None) -> nn.LayerNorm | None:
    """The module's `norm`, if it is a LayerNorm over channels whose output is what `forward_features` gives.

    None where hooks are on it: the module may take its features from them.
    """
    norm = getattr(backbone, "norm", None)
    if form.layout != "tokens" or not isinstance(norm, nn.LayerNorm) or norm.normalized_shape != form.channels:
        return None
    if norm._forward_hooks or norm._forward_pre_hooks:
        return None
    outputs: list[Tensor] = []
    handle = norm.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        side = side or 4 * form.strides[0]
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        features = try_features(backbone, images, form.needs_gpu)
    finally:
        handle.remove()
    (tokens,) = pick(features, type(backbone).__name__)
    return norm if len(outputs) == 1 and tokens is outputs[0] else None
