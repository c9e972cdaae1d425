"""What a module's `forward_features` gives, found out by trying.   B images, T + N tokens, C channels, H × W cells"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from backbones.contract import has_timms_interface
from backbones.errors import InputError
from backbones.images.sizes import in_words

STRIDES = (4, 8, 16, 32)
"""Of the four maps of a module that gives as many."""

_Given = TypeVar("_Given")

Layout = Literal["tokens", "channels first", "channels last"]

_KNOWN_NAMES = ("last_hidden_state", "feature_maps", "x_norm_patchtokens")  # of transformers' outputs, of DINOv2's
_SMALL = 256
_SIDES = (224, 256, 192, 96, 64, 48, 32)
_MOST_PREFIX = 16  # tokens before the patches that are believed without being told
_WANTED = (
    "Return tokens (B, N, C), a map (B, C, H, W), or four maps of strides 4, 8, 16 and 32, of images "
    "(B, 3, height, width)"
)


@dataclass(frozen=True)
class Form:
    """What `forward_features` gives.

    layout:     of each tensor
    channels:   of the map, or of each of four
    strides:    in pixels, of the map or of each of four
    prefix:     T, 0 for maps
    fixed_size: the side in pixels of the square images that the module is confined to; None for any whose sides are
                multiples of the stride
    needs_gpu:  whether it was found out on a GPU, for on the CPU the module takes no images
    """

    layout: Layout
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    prefix: int
    fixed_size: int | None
    needs_gpu: bool = False

    def __str__(self) -> str:
        what = "tokens" if self.layout == "tokens" else "a map" if len(self.strides) == 1 else "maps"
        before = f" after {self.prefix} other(s)" if self.prefix else ""
        return (
            f"{what} of stride {', '.join(map(str, self.strides))} with {', '.join(map(str, self.channels))} channels"
            f"{before}"
        )

    def tokens(self, output: Any) -> Tensor:
        """Everything as tokens (B, T + N, C), where there is one map."""
        (tensor,) = pick(output, "")
        if self.layout == "tokens":
            return tensor
        return tensor.flatten(1, 2) if self.layout == "channels last" else tensor.flatten(2).transpose(1, 2)

    def maps(self, output: Any, height: int, width: int) -> list[Tensor]:
        """Maps (B, C, H, W) of images with so many pixels. Raises InputError if they are not of these strides."""
        found = pick(output, "")
        maps = []
        for tensor, stride in zip(found, self.strides, strict=True):
            rows, columns = height // stride, width // stride
            if self.layout == "tokens" and tensor.shape[1] == self.prefix + rows * columns:
                tensor = tensor[:, self.prefix :].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
            elif self.layout == "channels last":
                tensor = tensor.permute(0, 3, 1, 2)
            if tuple(tensor.shape[2:]) != (rows, columns):
                raise InputError(
                    f"forward_features gave {describe(tensor)} for images of {in_words(height, width)}, which is no "
                    f"map of stride {stride}, as it gave for others."
                )
            maps.append(tensor)
        return maps


def pick(output: Any, name: str) -> list[Tensor]:
    """The tensors of features in what `forward_features` returned: one, or four maps. `name` is the backbone's.

    Raises InputError that says what was returned and what to return, where that is not clear.
    """
    if isinstance(output, Tensor):
        found = [output]
    else:
        inner = _known(output)
        values = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else ()
        known = [*inner] if isinstance(inner, list | tuple) else [inner]
        found = known if inner is not None else [each for each in values if _may_be_features(each)]
        if len(found) == len(STRIDES) and not all(each.ndim == 4 for each in found):
            found = []
    if len(found) not in (1, len(STRIDES)) or not all(_may_be_features(each) for each in found):
        flat = isinstance(output, Tensor) and output.ndim == 2
        about = f"{describe(output)}{', which looks like pooled features or logits' if flat else ''}"
        raise InputError(f"{name}: forward_features returned {about}. {_WANTED}.")
    return found


def _known(output: Any) -> Any:
    """What stands in an output under a name that libraries give to tokens or a map."""
    for name in _KNOWN_NAMES:
        inner = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if inner is not None:
            return inner
    return None


def _may_be_features(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (3, 4) and value.is_floating_point()


def describe(value: Any) -> str:
    """Put what was returned into words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dictionary of {_listed(f'{key}: {describe(inner)}' for key, inner in value.items())}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}: {_listed(map(describe, value))}"
    return f"a {type(value).__name__}"


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return ", ".join(found[:5]) + (", …" if len(found) > 5 else "")


def examine(module: nn.Module, name: str, image_size: int | None = None) -> Form:
    """Find out what a backbone's `forward_features` gives, by a few random images of some sizes.

    image_size is tried first; after it the sizes that the module speaks of, and common ones. A module that takes none
    on the CPU is tried on a GPU, if there is one, and brought back.

    Raises InputError that says what to mend: where no size serves, where features are of a kind that no task takes,
    where the number of prefix tokens or the place of the channels cannot be told, and where images are changed.
    """
    trial = _Trial(module, name)
    side, first = trial.first(sides_to_try(module, image_size))
    if len({each.ndim for each in first}) > 1:
        raise InputError(f"{name}: forward_features returned {describe(first)}. {_WANTED}.")
    form = _form_of_tokens(trial, side, first[0]) if first[0].ndim == 3 else _form_of_maps(trial, side, first)
    return replace(form, needs_gpu=trial.on_gpu)


def sides_to_try(module: Any, image_size: int | None) -> list[int]:
    """The sides in pixels to try: the one that is asked for, those that the module speaks of, common ones.

    Large ones come last, for they take long.
    """
    places = [module, getattr(module, "config", None), getattr(module, "patch_embed", None)]
    said = [getattr(place, name, None) for place in places for name in ("img_size", "image_size", "fixed_size")]
    firsts = [value[0] if isinstance(value, list | tuple) and value else value for value in said]
    spoken = [side for side in firsts if isinstance(side, int) and side > 0]
    small = [side for side in spoken if side <= _SMALL]
    return list(dict.fromkeys([*([image_size] if image_size else []), *small, *_SIDES, *spoken]))


class _Trial:
    """Runs of a module on images of some sizes, for the shapes alone."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name, self.on_gpu = module, name, False

    def first(self, sides: list[int]) -> tuple[int, list[Tensor]]:
        """The first side that serves, with what comes out. Raises InputError if none does."""
        found: list[dict[str, BaseException]] = []
        for self.on_gpu in (False, True) if torch.cuda.is_available() else (False,):
            reasons: dict[str, BaseException] = {}
            found.append(reasons)
            for side in sides:
                try:
                    output = self._try(side, side)
                except ChangedImagesError:
                    raise
                except (Exception, SystemExit) as error:  # another author's module may do anything at another's size
                    reasons.setdefault(f"{type(error).__name__}: {error}", error)
                else:
                    return side, pick(output, self.name)
        reasons, why = found[0], next(iter(found[0]))
        others = [f". On the GPU: {each}" for each in list(found[-1])[:1] if each != why]
        of_sizes = f"With {sides[0]}: {why}. A module for another size says so in its attribute img_size"
        raise InputError(
            f"{self.name}: forward_features takes no square images of {', '.join(map(str, sides))} pixels. "
            f"{of_sizes if len(reasons) > 1 else f'With each of them: {why}'}{''.join(others)}"
        ) from reasons[why]

    def tensors(self, height: int, width: int) -> list[Tensor] | None:
        """What comes out of images of that size; None if it does not take them."""
        try:
            return pick(self._try(height, width), self.name)
        except ChangedImagesError:
            raise
        except (Exception, SystemExit):  # as above
            return None

    def _try(self, height: int, width: int) -> Any:
        images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))  # some refuse black ones
        return try_features(self.module, images, self.on_gpu)


class ChangedImagesError(InputError):
    """A module has changed the images that it was given."""


def require_unchanged(images: Tensor, version: int, name: str) -> None:
    """Raise ChangedImagesError if a backbone has changed images, whose `_version` was that before."""
    if images._version != version:
        raise ChangedImagesError(
            f"{name}: forward_features changes the images that it is given, by an operation in place "
            "such as images.sub_(mean), and others use them too. Compute new ones: images = images - mean"
        )


def try_features(module: Any, images_B3HW: Tensor, on_gpu: bool = False) -> Any:
    """What `forward_features` gives in evaluation, leaving module and random numbers as they were.

    on_gpu: bring the module to a GPU for it, and back

    Raises ChangedImagesError if it changes the images.
    """
    first = next(module.parameters(), None)
    place = None if first is None else first.device
    with undisturbed(module, on_gpu), torch.no_grad():
        try:
            parameter = next((module.cuda() if on_gpu else module).parameters(), None)
            images = images_B3HW if parameter is None else images_B3HW.to(parameter.device)
            version = images._version
            output = in_half_if_need_be(lambda: module.forward_features(images), images.device.type)
        finally:
            if on_gpu and place is not None:
                module.to(place)
    require_unchanged(images, version, type(module).__name__)
    return output


def is_of_inference_mode(error: BaseException) -> bool:
    """Whether PyTorch says that features were made under `torch.inference_mode`."""
    return isinstance(error, RuntimeError) and "Inference tensors cannot be saved for backward" in str(error)


def in_half_if_need_be(call: Callable[[], _Given], device: str) -> _Given:
    """What a pass gives in single precision or, where that fails, in bfloat16: some kernels take half precision alone.

    Raises what it raised in single precision, if both fail.
    """
    try:
        return call()
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        if not is_of_inference_mode(error):  # whose copy in another precision would pass, without gradients
            with suppress(Exception, SystemExit), torch.autocast(device, torch.bfloat16):
                return call()
        raise


@contextmanager
def undisturbed(module: nn.Module, on_gpu: bool = False) -> Iterator[None]:
    """Within the block a module evaluates; after it modes and random numbers are as they were."""
    training = {each: each.training for each in module.modules()}
    module.eval()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
            yield
    finally:
        module.train()  # which drops what timm's LeViT and others have cached in evaluation
        for each, was in training.items():
            each.training = was


def _form_of_tokens(trial: _Trial, side: int, tokens: Tensor) -> Form:
    count, channels = tokens.shape[1:]
    _require_width(trial, channels)
    said = getattr(trial.module, "num_prefix_tokens", None)
    if isinstance(said, int):
        found = _root(count - said, side)
        grids = [found] if found else []
    else:
        grids = [rows for rows in range(1, side + 1) if side % rows == 0 and 0 <= count - rows * rows <= _MOST_PREFIX]
    if not grids:
        told = f", after num_prefix_tokens = {said} others" if isinstance(said, int) else ""
        raise InputError(
            f"{trial.name}: forward_features gave {count} tokens for an image of {side} × {side} pixels, which are no "
            f"square grid of whole patches{told}. Set the attribute num_prefix_tokens to how many tokens precede the "
            "patches, and leave out what stands behind them."
        )
    forms = [Form("tokens", (channels,), (side // rows,), count - rows * rows, None) for rows in grids]
    fitting = [form for form in forms if _takes_several(trial, side, form)]
    if len(fitting) == 1:
        return fitting[0]
    if len(forms) > 1:
        raise InputError(
            f"{trial.name}: {count} tokens of an image of {side} × {side} pixels may be "
            f"{' or '.join(f'{rows} × {rows} patches after {count - rows * rows} other token(s)' for rows in grids)}. "
            "Set the attribute num_prefix_tokens to the number of tokens before the patches."
        )
    _require_patches(trial, side, count)
    return replace(forms[0], fixed_size=side)


def _require_patches(trial: _Trial, side: int, count: int) -> None:
    """Raise InputError if a larger image has no more tokens."""
    larger = trial.tensors(2 * side, 2 * side)
    if larger and larger[0].ndim == 3 and larger[0].shape[1] <= count:
        raise InputError(
            f"{trial.name}: forward_features gave {count} token(s) for an image of {side} pixels a side, and "
            f"{larger[0].shape[1]} for one of {2 * side}: they do not stand for patches. {_WANTED}."
        )


def _root(number: float, side: int) -> int | None:
    """The whole square root, if it divides the side."""
    root = round(max(number, 0) ** 0.5)
    return root if root > 0 and root * root == number and side % root == 0 else None


def _form_of_maps(trial: _Trial, side: int, maps: list[Tensor]) -> Form:
    said = getattr(trial.module, "output_fmt", None)
    clear = {"NCHW" if each.shape[2] == each.shape[3] else "NHWC" for each in maps if len({*each.shape[1:]}) > 1}
    said = said if said in ("NCHW", "NHWC") else clear.pop() if len(clear) == 1 else None
    layouts = {_layout_of_map(trial.name, each, said) for each in maps}
    if len(layouts) > 1:
        raise InputError(f"{trial.name}: forward_features gave maps with channels first and last: {describe(maps)}.")
    (layout,) = layouts
    first = layout == "channels first"
    channels = tuple(each.shape[1 if first else 3] for each in maps)
    rows = [each.shape[2 if first else 1] for each in maps]
    strides = tuple(side // count if side % count == 0 else 0 for count in rows)
    if not all(strides) or (len(maps) > 1 and strides != STRIDES):
        raise InputError(
            f"{trial.name}: forward_features gave {describe(maps)} for images of {side} × {side} pixels. {_WANTED}."
        )
    if len(maps) == 1:
        _require_width(trial, channels[0])
    form = Form(layout, channels, strides, 0, None)
    return form if _takes_several(trial, side, form) else replace(form, fixed_size=side)


def _layout_of_map(name: str, tensor: Tensor, said: str | None) -> Layout:
    """Where the channels are, in a map of a square image."""
    _, one, two, three = tensor.shape
    first, last = two == three and said != "NHWC", one == two and said != "NCHW"
    if first and last:
        raise InputError(
            f"{name}: forward_features gave {describe(tensor)} for a square image, of which the first or the last may "
            'be the channels. Set the attribute output_fmt to "NCHW" or "NHWC".'
        )
    if not (first or last):
        raise InputError(f"{name}: forward_features gave {describe(tensor)} for a square image. {_WANTED}.")
    return "channels first" if first else "channels last"


def _require_width(trial: _Trial, channels: int) -> None:
    said = getattr(trial.module, "embed_dim", None)
    if (
        isinstance(said, int) and said != channels and not has_timms_interface(trial.module)
    ):  # timm's Swin means its stem
        raise InputError(
            f"{trial.name}: its attribute embed_dim is {said}, and forward_features gave {channels} channels. "
            "Correct one of them, or leave embed_dim out."
        )


def _takes_several(trial: _Trial, side: int, form: Form) -> bool:
    """Whether other sizes than the first are taken, and give what they should."""
    step = max(form.strides)
    for height, width in ((side, side + step), (side + step, side + 2 * step)):
        found = trial.tensors(height, width)
        try:
            if found is None or not form.maps(found if len(found) > 1 else found[0], height, width):
                return False
        except InputError:
            return False
    return True
