"""Weights of other image sizes and precisions than the model's."""

from pathlib import Path

import torch
import torch.nn.functional as F

from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import METHODS
from tests.support.checkpoint_examples import beit_mini, images, load, randomised, save, vit_mini


def test_position_embeddings_are_interpolated_as_in_maes_fine_tuning(tmp_path: Path) -> None:
    source = vit_mini()
    model, report = load(save(source.state_dict(), tmp_path), image_size=96)
    grid = source.pos_embed[:, 1:].reshape(1, 6, 6, 128).permute(0, 3, 1, 2)
    larger = F.interpolate(grid, size=(12, 12), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.pos_embed[:, 1:], larger)
    assert torch.equal(model.pos_embed[:, 0], source.pos_embed[:, 0])
    assert report.converted == {"pos_embed": "6×6 → 12×12"}
    assert model(images(size=96)).shape == (2, 128)


def test_position_biases_are_interpolated(tmp_path: Path) -> None:
    source = randomised(beit_mini())
    model = beit_mini(img_size=80).eval()
    report = load_weights(model, read_checkpoint(save(source.state_dict(), tmp_path)), METHODS["BEiT"])
    table = "blocks.0.attn.relative_position_bias_table"
    assert report.converted == {table: "6×6 → 10×10", table.replace("0", "1"): "6×6 → 10×10"}
    old, new = source.state_dict()[table], model.state_dict()[table]
    assert torch.equal(new[-3:], old[-3:])  # the class token's
    assert torch.equal(new[:-3].reshape(19, 19, 2)[9, 9], old[:-3].reshape(11, 11, 2)[5, 5])  # distance zero
    torch.testing.assert_close(new[:-3].reshape(19, 19, 2)[0, 0], old[:-3].reshape(11, 11, 2)[0, 0])  # the farthest


def test_half_precision_is_widened_and_said_so(tmp_path: Path) -> None:
    source = vit_mini().half()
    model, report = load(save(source.state_dict(), tmp_path))
    assert model.norm.weight.dtype == torch.float32
    assert set(report.converted.values()) == {"float16 → float32"}
