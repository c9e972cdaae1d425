"""Counted forward passes beside published numbers, the formula, fvcore, and modules that cannot be counted."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, Swin_T_Weights, ViT_B_16_Weights, ViT_H_14_Weights, ViT_L_16_Weights

from backbones.activations import recompute_activations
from backbones.adapters import build_pyramid
from backbones.architectures import count_parameters
from backbones.forward_cost import forward_cost
from backbones.registry import create_backbone

PUBLISHED: list[tuple[str, Any]] = [
    (
        "vit_base_patch16_224",
        ViT_B_16_Weights.IMAGENET1K_V1,
    ),  # 17.564, in papers 17.6
    ("vit_large_patch16_224", ViT_L_16_Weights.IMAGENET1K_V1),  # 61.555
    ("vit_huge_patch14_224", ViT_H_14_Weights.IMAGENET1K_SWAG_LINEAR_V1),  # 167.295
    ("swin_tiny_patch4_window7_224", Swin_T_Weights.IMAGENET1K_V1),
    ("resnet50", ResNet50_Weights.IMAGENET1K_V1),
]


def outline(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, num_classes=1000, **options)
    return model


def multiplications(depth: int, width: int, patch: int, size: int, classes: int = 1000) -> int:
    """Of a ViT with a class token and an MLP four times as wide: projections 12 width², attention 2 tokens · width."""
    patches = (size // patch) ** 2
    tokens = patches + 1
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    return patches * 3 * patch**2 * width + depth * block + width * classes


@pytest.mark.parametrize(("name", "weights"), PUBLISHED)
def test_passes_cost_what_torchvision_publishes(name: str, weights: Any) -> None:
    found = forward_cost(outline(name), 224)
    assert found.gflops == pytest.approx(weights.meta["_ops"], abs=0.0016)
    assert (found.image_size, found.notes) == (224, [])


def test_a_huge_vit_at_448_pixels_has_632_million_parameters_and_732_gflops() -> None:
    model = outline("vit_huge_patch14_224", img_size=448)
    assert count_parameters(model) == 631_747_840 + 1000 * 1281  # the encoder with 1025 positions, and the head
    assert forward_cost(model, 448).gflops == pytest.approx(multiplications(32, 1280, 14, 448) / 1e9, rel=1e-9)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_counts_whatever_computes_it(fused: bool) -> None:
    set_fused_attn(fused)
    try:
        model = timm.create_model("vit_tiny_patch16_224", depth=2)
    finally:
        set_fused_attn(True)
    assert forward_cost(model, 224).gflops == pytest.approx(multiplications(2, 192, 16, 224) / 1e9, rel=1e-9)


def test_fvcore_counts_the_same_and_its_norms() -> None:
    set_fused_attn(False)
    try:
        model = timm.create_model("vit_tiny_patch16_224", depth=2).eval()
    finally:
        set_fused_attn(True)
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    by_operator = analysis.by_operator()
    assert by_operator["layer_norm"] == 5 * 5 * 197 * 192
    expected = (analysis.total() - by_operator["layer_norm"]) / 1e9
    assert forward_cost(model, 224).gflops == pytest.approx(expected, rel=1e-9)


def test_less_memory_in_training_costs_the_same() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=2)
    expected = forward_cost(model, 224)
    recompute_activations(model)
    assert forward_cost(model, 224) == expected


@pytest.mark.parametrize("adapter", ["simple", "fpn"])
def test_a_pyramid_costs_more_than_its_encoder(adapter: str) -> None:
    encoder = create_backbone("random_vit_mini", for_pyramid=True)
    alone = forward_cost(create_backbone("random_vit_mini", image_size=64), 64).gflops
    found = forward_cost(build_pyramid(encoder, adapter, image_size=64, window=2), 64)
    assert found.notes == [] and found.gflops is not None and alone is not None
    assert found.gflops > alone > 0


def test_the_model_is_left_as_it_was() -> None:
    model = timm.create_model("resnet18")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    state = torch.get_rng_state()
    forward_cost(model.train(), 64)
    assert model.training
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == tensors
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


class Odd(nn.Module):
    """A model of another author, who thought of no meta device."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.compute = nn.Conv2d(3, 4, 1), compute

    def forward(self, images: Tensor) -> Tensor:
        return self.compute(self.layer(images))


def _asks_for_numbers(x: Tensor) -> Tensor:
    return x if x.sum().item() > 0 else -x


def _exits(x: Tensor) -> Tensor:
    raise SystemExit(3)


@pytest.mark.parametrize("compute", [_asks_for_numbers, _exits])
def test_what_cannot_be_counted_has_a_note_and_no_number(compute: Callable[[Tensor], Tensor]) -> None:
    found = forward_cost(Odd(compute), 8)
    assert (found.gflops, found.image_size) == (None, 8)
    assert found.note.startswith("a forward pass could not be counted, without numbers it failed: ")


def test_an_operation_of_another_library_is_named() -> None:
    @torch.library.custom_op("backbench_test::scan", mutates_args=())
    def scan(x: Tensor) -> Tensor:
        return x.clone()

    scan.register_fake(torch.empty_like)
    found = forward_cost(Odd(lambda x: scan(x)), 8)
    assert found.gflops == pytest.approx(8 * 8 * 12 / 1e9)
    assert found.notes == ["not counted in the forward pass: backbench_test::scan"]


def test_a_fourier_transform_is_named_as_not_counted() -> None:
    found = forward_cost(Odd(lambda x: torch.fft.fft2(x.to(torch.complex64)).real), 8)
    assert found.gflops == pytest.approx(8 * 8 * 12 / 1e9)
    assert found.notes == ["not counted in the forward pass: aten::_fft_c2c"]


def test_a_model_of_which_nothing_is_counted_has_no_number() -> None:
    found = forward_cost(nn.Flatten(), 8)
    assert found.gflops is None
    assert found.notes == ["a forward pass could not be counted, it has no convolution, matrix product or attention"]
