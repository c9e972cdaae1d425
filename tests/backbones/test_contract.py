"""What a module must have to be a backbone, and what is found out of one."""

import contextlib
import dataclasses
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from backbones.adapters import build_pyramid, parameter_groups
from backbones.contract import Backbone, changed_by_others, has_timms_head, has_timms_interface, require_backbone
from backbones.depth import places_of, require_layers, undecayed
from backbones.errors import InputError
from backbones.features import Form, examine
from backbones.registry import create_backbone
from tests.support import strangers
from tests.support.strangers import SIDE, WIDTH


class Gives(nn.Module):
    """Returns what a function makes of a map (B, C, rows, columns) of stride 16, with 24 channels."""

    def __init__(self, make: Callable[[Tensor], Any], **attributes: object) -> None:
        super().__init__()
        self.patches, self.make = nn.Conv2d(3, 24, 16, 16), make
        vars(self).update(attributes)

    def forward_features(self, images: Tensor) -> Any:
        return self.make(self.patches(images))


def tokens(x: Tensor, before: int = 0) -> Tensor:
    flat = x.flatten(2).transpose(1, 2)
    return torch.cat([flat[:, :1].expand(-1, before, -1), flat], 1)


def three(x: Tensor) -> list[Tensor]:
    return [x, x, x]


def four(x: Tensor) -> list[Tensor]:
    up = nn.functional.interpolate
    return [up(x, scale_factor=4), up(x, scale_factor=2), x, nn.functional.max_pool2d(x, 2)]


MAP = Form("channels first", (24,), (16,), 0, None)
TOKENS = Form("tokens", (24,), (16,), 0, None)


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (lambda x: x, MAP),
        (lambda x: x.permute(0, 2, 3, 1), dataclasses.replace(MAP, layout="channels last")),
        (tokens, TOKENS),
        (lambda x: tokens(x, 1), dataclasses.replace(TOKENS, prefix=1)),
        (lambda x: tokens(x, 5), dataclasses.replace(TOKENS, prefix=5)),
        (lambda x: types.SimpleNamespace(last_hidden_state=tokens(x, 1)), dataclasses.replace(TOKENS, prefix=1)),
        (
            lambda x: types.SimpleNamespace(feature_maps=tuple(four(x))),
            Form("channels first", (24,) * 4, (4, 8, 16, 32), 0, None),
        ),
        (lambda x: {"x_norm_clstoken": x.mean((2, 3)), "x_norm_patchtokens": tokens(x)}, TOKENS),
        (lambda x: (tokens(x), x.mean((2, 3))), TOKENS),
        (lambda x: {"mask": None, "features": x}, MAP),
        (four, Form("channels first", (24,) * 4, (4, 8, 16, 32), 0, None)),
    ],
)
def test_what_features_are_is_found_out(make: Callable[[Tensor], Any], form: Form) -> None:
    module = Gives(make)
    assert examine(module, "mine") == form
    images = torch.randn(2, 3, 64, 96)
    maps = form.maps(module.forward_features(images), 64, 96)
    expected = four(module.patches(images)) if len(form.strides) == 4 else [module.patches(images)]
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("make", "attributes", "message"),
    [
        (
            lambda x: x.mean((2, 3)),
            {},
            r"mine: .* a tensor of shape \(1, 24\), which looks like pooled .*logits. Return",
        ),
        (three, {}, r"returned a list of 3: a tensor of shape \(1, 24, 14, 14\), a tensor"),
        (lambda x: {"a": x, "b": tokens(x)}, {}, r"returned a dictionary of a: a tensor .*, b: a tensor"),
        (lambda x: None, {}, "returned a NoneType"),
        (lambda x: [x, x, x, x], {}, "four maps of strides 4, 8, 16 and 32"),
        (lambda x: x, {"embed_dim": 32}, "attribute embed_dim is 32, and forward_features gave 24 channels"),
        (
            tokens,
            {"num_prefix_tokens": 1},
            r"196 tokens .* after num_prefix_tokens = 1 others. Set the attribute num_pr",
        ),
        (
            lambda x: tokens(x)[:, :-1],
            {},
            "195 tokens .* no square grid of whole patches. Set the",
        ),
        (
            lambda x: tokens(x).mean(1, keepdim=True),
            {},
            r"1 token\(s\) for an image of 224 pixels a side, and 1 for one",
        ),
        (lambda x: x[..., :2], {}, r"shape \(1, 24, 14, 2\) for a square image. Return"),
        (lambda x: x[:, :14], {}, r'the first or the last may be the channels. Set the attribute output_fmt to "NCHW"'),
        (lambda x: 1 / 0, {}, "no square images of 224, .* With each of them: ZeroDivisionError: division by zero$"),
    ],
)
def test_what_is_wrong_with_features_is_said(make: Callable[[Tensor], Any], attributes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        examine(Gives(make, **attributes), "mine")


def test_a_pyramid_of_timms_gives_its_last_map() -> None:
    """Its attribute embed_dim is the width of the first stage."""
    form = examine(create_backbone("swin_tiny_patch4_window7_224"), "swin")
    assert form == Form("channels last", (768,), (32,), 0, 224)


def test_channels_that_cannot_be_told_are_where_the_module_says() -> None:
    form = examine(Gives(lambda x: x[:, :14], output_fmt="NHWC"), "mine")
    assert (form.layout, form.channels) == ("channels last", (14,))


def test_prefix_tokens_of_a_model_of_one_size_may_have_to_be_said() -> None:
    def of_64(x: Tensor) -> Tensor:
        assert x.shape[2:] == (4, 4)
        return tokens(x, 1)

    with pytest.raises(
        InputError, match=r"17 tokens .* may be 1 × 1 patches after 16 .* or 4 × 4 patches after 1 other"
    ):
        examine(Gives(of_64, img_size=64), "mine")
    form = examine(Gives(of_64, img_size=(64, 64), num_prefix_tokens=1), "mine")
    assert form == Form("tokens", (24,), (16,), 1, 64)


def test_trying_a_module_leaves_it_and_the_random_numbers_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.Dropout(0.5)).train()
    module[1].eval()
    module.forward_features = module.forward
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in module.state_dict().items()}
    examine(module, "mine")
    assert torch.equal(torch.get_rng_state(), before)
    assert [each.training for each in module] == [True, False, True]
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_a_module_for_a_gpu_alone_is_tried_there_and_brought_back(monkeypatch: pytest.MonkeyPatch) -> None:
    module = strangers.on_gpu_alone(None, 0.0)
    with pytest.raises(InputError, match="With each of them: RuntimeError: no kernel for the CPU"):
        examine(module, "mine")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.random.fork_rng", lambda devices: contextlib.nullcontext())
    assert examine(module, "mine") == Form("tokens", (WIDTH,), (8,), 1, None, needs_gpu=True)
    assert not module.on_gpu
    assert not examine(strangers.plain_vit(None, 0.0), "mine").needs_gpu


def test_only_forward_features_is_demanded() -> None:
    module = strangers.plain_vit(None, 0.0)
    assert isinstance(module, Backbone) and not has_timms_interface(module)
    assert require_backbone(module, "mine") is module
    assert not isinstance(nn.Linear(2, 2), Backbone)


def test_a_forward_pass_of_ones_own_in_timms_class_is_noticed() -> None:
    own, timms = strangers.timm_subclass(None, 0.0), create_backbone("vit_mini_patch8_48")
    assert changed_by_others(own) == "ScaledViT.forward_features" and changed_by_others(timms) is None
    assert has_timms_head(timms) and has_timms_interface(own) and not has_timms_head(own)


@pytest.mark.parametrize("name", ["vit_mini_patch8_48", "convnext_atto", "resnet18", "swin_tiny_patch4_window7_224"])
def test_layers_by_names_are_those_of_timm(name: str) -> None:
    """But for the last norm, which learns at the rate of what follows it, as in MAE's code."""
    model = create_backbone(name)
    names, places = [name for name, _ in model.named_parameters()], places_of(model)
    ours, theirs = (
        group_with_matcher(((name, None) for name in [*names, "head"]), matcher, reverse=True)
        for matcher in (lambda name: places.get(name, (torch.inf,)), model.group_matcher())
    )
    norm = {"norm.weight", "norm.bias"}
    assert {name: ours[name] for name in ours if name not in norm} == {
        name: theirs[name] for name in theirs if name not in norm
    }


@pytest.mark.parametrize("name", strangers.STRANGERS)
def test_strangers_have_layers_and_undecayed_parameters(name: str) -> None:
    model = getattr(strangers, name)(None, 0.0)
    require_layers(model)
    of_transformers = {"cls_token", "mask_token", "position_embeddings", "register_tokens"}
    expected = {"one_map": set(), "hugging_face": of_transformers}
    found = {each.rpartition(".")[2] for each in undecayed(model)} - {"dist_token", "reg_token"}  # timm's, not there
    assert found == expected.get(name, {"cls_token", "pos_embed"})


def test_a_stride_that_no_pyramid_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"StrideOf14: .* map of stride 14, and pyramids are made from powers of two"):
        build_pyramid(strangers.stride_of_14(None, 0.0), "simple", image_size=96, window=None, relative_position=False)


def test_a_stride_that_no_pyramid_has_is_told_before_the_size_is_set() -> None:
    sizes = {"embed_dim": 48, "depth": 1, "num_heads": 2, "num_classes": 0}
    module = timm.create_model("eva02_tiny_patch14_224", img_size=56, **sizes)
    with pytest.raises(InputError, match=r"Eva: .* map of stride 14, .* Build it with patches of 8, 16 or 32 pixels"):
        build_pyramid(module, "simple", image_size=128, window=None, relative_position=False)


def test_layers_that_cannot_be_told_are_refused_only_where_they_decide() -> None:
    pyramid = build_pyramid(
        strangers.unnumbered(None, 0.0), "simple", image_size=96, window=None, relative_position=False
    )
    options: dict[str, Any] = {"weight_decay": 0.05, "no_weight_decay": "one_dimensional"}
    with pytest.raises(InputError, match=r"Unnumbered have no numbers .* --set optimizer.layer_decay=null"):
        parameter_groups(pyramid, pyramid, layer_decay=0.75, **options)
    assert {group["lr_scale"] for group in parameter_groups(pyramid, pyramid, layer_decay=None, **options)} == {1.0}


def test_four_maps_are_a_pyramid() -> None:
    module = Gives(four)
    with pytest.raises(InputError, match=r"this model is a pyramid already\. Use the adapter `fpn`"):
        build_pyramid(module, "simple", image_size=96, window=None)
    pyramid = build_pyramid(module, "fpn", image_size=96, window=16)
    assert pyramid.channels == (24,) * 4
    assert [tuple(each.shape[2:]) for each in pyramid(torch.randn(1, 3, 70, 96))] == [
        (18, 24),
        (9, 12),
        (5, 6),
        (3, 3),
    ]


def test_a_module_of_one_size_has_images_padded_to_it() -> None:
    module = strangers.fixed_size(None, 0.0)
    pyramid = build_pyramid(module, "simple", image_size=SIDE, window=None, relative_position=False).eval()
    assert pyramid.largest_image == SIDE
    image = torch.randn(1, 3, 40, 32)
    padded = nn.functional.pad(image, (0, 16, 0, 8))
    expected = module.forward_features(padded)[:, 1:].unflatten(1, (6, 6)).permute(0, 3, 1, 2)
    torch.testing.assert_close(pyramid.trunk(image)[0], expected)
    assert pyramid.trunk.width == WIDTH
    with pytest.raises(InputError, match="an image of 64 × 64: FixedSize was built for at most 48 × 48"):
        pyramid(torch.randn(1, 3, 64, 64))
    with pytest.raises(InputError, match=r"takes only images of 48 × 48 pixels, .* use --set model.image_size=48"):
        build_pyramid(module, "simple", image_size=96, window=None, relative_position=False)


def test_a_timm_model_with_attention_of_its_own_is_one_map_of_its_own_size() -> None:
    module = timm.create_model("vit_small_patch16_rope_224", num_classes=0, depth=1)
    pyramid = build_pyramid(module, "simple", image_size=96, window=None, relative_position=False)
    assert pyramid.largest_image == 96 and len(pyramid(torch.randn(1, 3, 60, 96))) == 4


def test_the_examples_of_the_documentation_are_backbones() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "backbones.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"nn": nn, "torch": torch, "timm": timm, "F": nn.functional}
    names |= {name: getattr(transformers, name) for name in ("ViTConfig", "ViTModel")}
    found = []
    for example in examples:
        exec(example, names)
        with torch.device("meta"):
            module = names[re.findall(r"^def (\w+)", example, re.MULTILINE)[-1]](None, 0.0)
        assert isinstance(module, Backbone)
        require_layers(module)
        found.append(examine(module, "mine"))
    assert [(form.strides, form.prefix, form.fixed_size) for form in found] == [
        ((16,), 1, None),
        ((8,), 0, None),
        ((16,), 1, 224),
        ((16,), 1, None),
    ]
