"""The masked autoencoder against its plain formulation, Hugging Face's ViTMAE, timm, and the published checkpoints."""

import re
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEForPreTraining

import backbones.linear
from backbones.errors import InputError
from backbones.mae.masking import MaskSampling, random_masking, rank_patches
from backbones.mae.model import MaskedAutoencoder, create_mae

SMALL = {"width": 32, "depth": 2, "heads": 4, "decoder_width": 24, "decoder_depth": 2, "decoder_heads": 2}


def small_mae(image_size: int | tuple[int, int] = 32, norm_pix_loss: bool = True, **options: Any) -> MaskedAutoencoder:
    """A small model in which every parameter matters: biases, norms and tokens are not left at their start values."""
    torch.manual_seed(0)
    model = create_mae("mae_vit_mini_patch8", image_size=image_size, norm_pix_loss=norm_pix_loss, **SMALL, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def images_and_noise(model: MaskedAutoencoder, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, *model.patch_embed.img_size, generator=generator)
    return images, torch.rand(batch, model.patch_embed.num_patches, generator=generator)


def plain_forward(
    model: MaskedAutoencoder, images: Tensor, noise: Tensor, mask_ratio: float = 0.75
) -> tuple[Tensor, Tensor, Tensor]:
    """MAE as the paper tells it: embed all, shuffle, encode the first, unshuffle, decode all, loss where masked."""
    patches = model.patch_embed(images) + model.pos_embed[:, 1:]
    batch, length, width = patches.shape
    kept = int(length * (1 - mask_ratio))
    shuffle = noise.argsort(dim=1)
    unshuffle = shuffle.argsort(dim=1)
    visible = patches.gather(1, shuffle[:, :kept, None].expand(-1, -1, width))
    class_token = (model.cls_token + model.pos_embed[:, :1]).expand(batch, -1, -1)
    latent = model.decoder_embed(model.norm(model.blocks(torch.cat([class_token, visible], dim=1))))

    shuffled = torch.cat([latent[:, 1:], model.mask_token.expand(batch, length - kept, -1)], dim=1)
    ordered = shuffled.gather(1, unshuffle[..., None].expand(-1, -1, shuffled.shape[-1]))
    tokens = torch.cat([latent[:, :1], ordered], dim=1) + model.decoder_pos_embed
    for block in model.decoder_blocks:
        tokens = block(tokens)
    prediction = model.decoder_pred(model.decoder_norm(tokens))[:, 1:]

    size = model.patch_embed.patch_size[0]
    target = F.unfold(images, size, stride=size).unflatten(1, (3, size * size)).permute(0, 3, 2, 1).flatten(2)
    if model.norm_pix_loss:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    mask = (unshuffle >= kept).float()
    loss = ((prediction - target).square().mean(-1) * mask).sum() / mask.sum()
    return loss, prediction, mask


def huggingface_twin(model: MaskedAutoencoder, image_size: int) -> ViTMAEForPreTraining:
    """Hugging Face's model with the same weights."""
    config = ViTMAEConfig(
        image_size=image_size,
        patch_size=8,
        hidden_size=SMALL["width"],
        num_hidden_layers=SMALL["depth"],
        num_attention_heads=SMALL["heads"],
        intermediate_size=4 * SMALL["width"],
        decoder_hidden_size=SMALL["decoder_width"],
        decoder_num_hidden_layers=SMALL["decoder_depth"],
        decoder_num_attention_heads=SMALL["decoder_heads"],
        decoder_intermediate_size=4 * SMALL["decoder_width"],
        layer_norm_eps=1e-6,
        norm_pix_loss=model.norm_pix_loss,
    )
    twin = ViTMAEForPreTraining(config)
    twin.load_state_dict(
        {new: part for name, tensor in model.state_dict().items() for new, part in _as_huggingface(name, tensor)}
    )
    return twin.eval()


def _as_huggingface(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    exact = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "decoder_pos_embed": "decoder.decoder_pos_embed",
        "mask_token": "decoder.mask_token",
    }
    if name in exact:
        return [(exact[name], tensor)]
    for pattern, replacement in [
        (r"^patch_embed\.proj", "vit.embeddings.patch_embeddings.projection"),
        (r"^norm\.", "vit.layernorm."),
        (r"^blocks", "vit.layers"),
        (r"^decoder_blocks", "decoder.decoder_layers"),
        (r"^decoder_(embed|norm|pred)", r"decoder.decoder_\1"),
        (r"norm1", "layernorm_before"),
        (r"norm2", "layernorm_after"),
        (r"attn\.proj", "attention.o_proj"),
    ]:
        name = re.sub(pattern, replacement, name)
    if ".attn.qkv." not in name:
        return [(name, tensor)]
    return [
        (name.replace("attn.qkv", f"attention.{letter}_proj"), part)
        for letter, part in zip("qkv", tensor.chunk(3), strict=True)
    ]


@pytest.mark.parametrize("image_size", [32, (16, 40)])
@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("mask_ratio", [0.75, 0.5])
def test_evaluation_equals_the_plain_formulation(
    image_size: int | tuple[int, int], norm_pix_loss: bool, mask_ratio: float
) -> None:
    model = small_mae(image_size, norm_pix_loss).eval()
    images, noise = images_and_noise(model)
    for ours, plain in zip(
        model(images, mask_ratio, noise), plain_forward(model, images, noise, mask_ratio), strict=True
    ):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("return_prediction", [None, True])
@pytest.mark.parametrize("onednn_from_width", [8, 512])
def test_training_step_has_the_loss_and_gradients_of_the_plain_formulation(
    return_prediction: bool | None, onednn_from_width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_mae().train()
    images, noise = images_and_noise(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    plain_loss, plain_prediction, plain_mask = plain_forward(model, images, noise)
    expected = torch.autograd.grad(plain_loss, list(trained.values()))

    monkeypatch.setattr(backbones.linear, "_LEAST_WIDTH", onednn_from_width)
    loss, prediction, mask = model(images, noise=noise, return_prediction=return_prediction)
    loss.backward()

    torch.testing.assert_close(loss, plain_loss, rtol=0, atol=1e-6)
    assert torch.equal(mask, plain_mask)
    if return_prediction:
        torch.testing.assert_close(prediction, plain_prediction, rtol=0, atol=1e-5)
    else:
        assert prediction is None
    for (name, parameter), gradient in zip(trained.items(), expected, strict=True):
        assert parameter.grad is not None and gradient.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("image_size", [32, 48])
@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_loss_and_prediction_equal_huggingface(image_size: int, norm_pix_loss: bool) -> None:
    model = small_mae(image_size, norm_pix_loss).eval()
    images, noise = images_and_noise(model)
    with torch.no_grad():
        twin = huggingface_twin(model, image_size)(images, noise=noise)
        loss, prediction, mask = model(images, noise=noise)
        training_loss, _, _ = model.train()(images, noise=noise)
    torch.testing.assert_close(loss, twin.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(training_loss, twin.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(prediction, twin.logits, rtol=0, atol=1e-5)
    assert torch.equal(mask, twin.mask)


def with_mask_tokens(model: MaskedAutoencoder, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The same with mask tokens in the encoder (table 1c): all tokens, in their order, through both stacks."""
    tokens = model.patch_embed(images)
    order = noise.argsort(dim=1).argsort(dim=1)
    masked = order >= int(tokens.shape[1] * 0.25)
    tokens = torch.where(masked[..., None], model.mask_token, tokens) + model.pos_embed[:, 1:]
    class_token = (model.cls_token + model.pos_embed[:, :1]).expand(len(images), -1, -1)
    encoded = model.norm(model.blocks(torch.cat([class_token, tokens], dim=1)))
    tokens = model.decoder_embed(encoded) + model.decoder_pos_embed
    for block in model.decoder_blocks:
        tokens = block(tokens)
    prediction = model.decoder_pred(model.decoder_norm(tokens))[:, 1:]
    target = model.patchify(images)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    return (prediction - target)[masked].square().mean(), prediction


@pytest.mark.parametrize("mask_sampling", ["random", "grid"])
def test_mask_tokens_in_the_encoder_equal_the_plain_formulation(mask_sampling: MaskSampling) -> None:
    model = small_mae(32, mask_tokens_in_encoder=True, mask_sampling=mask_sampling)
    images, noise = images_and_noise(model)
    ranks = rank_patches(noise, mask_sampling, (4, 4), 0.75)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    plain_loss, plain_prediction = with_mask_tokens(model, images, ranks)
    expected = torch.autograd.grad(plain_loss, list(trained.values()))
    loss, prediction, _ = model.train()(images, noise=noise, return_prediction=True)
    loss.backward()
    torch.testing.assert_close(loss, plain_loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(prediction, plain_prediction, rtol=0, atol=1e-5)
    for (name, parameter), gradient in zip(trained.items(), expected, strict=True):
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert model.mask_token.shape == (1, 1, SMALL["width"])
    encoder = timm.create_model("vit_mini_patch8_48", num_classes=0, img_size=32, embed_dim=32, depth=2, num_heads=4)
    encoder.load_state_dict(model.encoder_state_dict(), strict=True)


def test_block_sampling_masks_in_the_model_as_it_does_alone() -> None:
    model = create_mae("mae_vit_mini_patch8", mask_sampling="block", **SMALL).eval()
    noise = model.draw_noise(5, generator=torch.Generator().manual_seed(0))
    _, masked = random_masking(rank_patches(noise, "block", (6, 6), 0.5), 0.5)
    _, _, mask = model(torch.zeros(5, 3, 48, 48), 0.5, noise)
    assert torch.equal(mask.nonzero()[:, 1].view(5, -1), masked.sort(dim=1).values)
    with pytest.raises(InputError, match=r"noise of shape \(5, 36\)"):
        model(torch.zeros(5, 3, 48, 48), 0.5, noise[:, :36])


@pytest.mark.parametrize("image_size", [48, (32, 64)])
def test_exported_encoder_gives_timm_the_same_features(image_size: int | tuple[int, int]) -> None:
    model = create_mae("mae_vit_mini_patch8", image_size=image_size).eval()
    encoder = timm.create_model(model.encoder_name, num_classes=0, img_size=image_size).eval()
    encoder.load_state_dict(model.encoder_state_dict(), strict=True)
    images, noise = images_and_noise(model)
    with torch.no_grad():
        features = encoder.forward_features(images)
        assert torch.equal(model.forward_features(images), features)
        # What pre-training encodes, with nearly everything visible, is what the exported encoder makes of it.
        everything = torch.arange(noise.shape[1]).expand_as(noise)
        encoded = model._encode(model.patchify(images), everything, everything[:, :0])
    torch.testing.assert_close(encoded, features, rtol=0, atol=1e-5)


def test_fixed_position_embeddings_and_start_values() -> None:
    torch.manual_seed(0)
    model = create_mae("mae_vit_tiny_patch16")
    fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert fixed == {"pos_embed", "decoder_pos_embed"}
    for weight in (
        model.patch_embed.proj.weight.flatten(1),
        model.blocks[3].attn.qkv.weight,
        model.decoder_pred.weight,
    ):
        limit = (6 / sum(weight.shape)) ** 0.5  # Xavier uniform
        assert 0.999 * limit < weight.abs().max().item() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
    for token in (model.cls_token, model.mask_token):
        assert token.std().item() == pytest.approx(0.02, rel=0.25)
    assert not any(b.any() for name, b in model.named_parameters() if name.endswith("fc1.bias"))


def test_patches_hold_rows_then_columns_then_channels() -> None:
    model = small_mae((16, 40))
    images = torch.arange(2 * 3 * 16 * 40, dtype=torch.float32).reshape(2, 3, 16, 40)
    patches = model.patchify(images)
    assert patches.shape == (2, 10, 192)
    row, column, y, x, channel = 1, 3, 5, 2, 1
    assert patches[1, row * 5 + column, (y * 8 + x) * 3 + channel] == images[1, channel, row * 8 + y, column * 8 + x]
    assert torch.equal(model.unpatchify(patches), images)


def test_masking_without_given_noise_is_uniform() -> None:
    model = create_mae("mae_vit_mini_patch8", **SMALL).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        _, _, mask = model(torch.zeros(1000, 3, 48, 48))
    assert torch.equal(mask.sum(dim=1), torch.full((1000,), 27.0))
    assert len(mask.unique(dim=0)) > 990  # images are masked independently
    # Each patch is masked 750 times, give or take sqrt(1000 × 0.75 × 0.25) = 14.
    assert (mask.sum(dim=0) - 750).abs().max() < 4.5 * 13.7
    # Two patches are masked together as often as drawing without replacement says: 27/36 × 26/35.
    together = (mask.T @ mask / 1000)[~torch.eye(36, dtype=torch.bool)]
    assert (together - 27 / 36 * 26 / 35).abs().max() < 0.08


def test_autocast_to_bfloat16_stays_close_and_returns_a_single_precision_loss() -> None:
    model = small_mae().train()
    images, noise = images_and_noise(model)
    exact, _, _ = model(images, noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, _ = model(images, noise=noise)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_activations_computed_again_change_no_loss_and_no_gradient() -> None:
    model = small_mae()
    images, noise = images_and_noise(model)
    found = []
    for checkpointing in (False, True):
        model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, to=sizes: to.append(x.numel()) or x, lambda x: x):
            loss, _, _ = model.train()(images, noise=noise)
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
        found.append((sum(sizes), [loss, *gradients]))
    (kept, expected), (fewer, again) = found
    assert fewer < kept / 2
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))


def test_graph_is_captured_whole_for_compilation() -> None:
    model = small_mae().train()
    images, noise = images_and_noise(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images, noise=noise)[0], model(images, noise=noise)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mae_vit_base_patch61", {}, "mae_vit_base_patch16"),
        ("mae_vit_mini_patch8", {"image_size": 50}, "image_size 50 with patch_size 8"),
        ("mae_vit_mini_patch8", {"image_size": (48, 4)}, "image_size (48, 4)"),
        ("mae_vit_mini_patch8", {"image_size": 0}, "image_size"),
        ("mae_vit_mini_patch8", {"image_size": (48, 48, 3)}, "image_size=(48, 48, 3)"),
        ("mae_vit_mini_patch8", {"image_size": 48.0}, "image_size=48.0"),
        ("mae_vit_mini_patch8", {"patch_size": 0}, "patch_size=0"),
        ("mae_vit_mini_patch8", {"heads": 3}, "width=128 with heads=3"),
        ("mae_vit_mini_patch8", {"decoder_width": 66, "decoder_heads": 3}, "decoder_width=66"),
        ("mae_vit_mini_patch8", {"decoder_dept": 1}, "decoder_depth"),
    ],
)
def test_wrong_choices_are_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        create_mae(name, **arguments)


def test_wrong_images_and_noise_are_named() -> None:
    model = small_mae(32)
    with pytest.raises(InputError, match=r"\(2, 3, 32, 40\): this model expects \(batch, 3, 32, 32\)"):
        model(torch.zeros(2, 3, 32, 40))
    with pytest.raises(InputError, match=r"\(2, 3\): expected \(batch, patches\) = \(2, 16\)"):
        model(torch.zeros(2, 3, 32, 32), noise=torch.zeros(2, 3))
