"""`pretrain --from FILE`: what is taken of a file, that it decides the numbers, and that a run goes on as before."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.mae.model import create_mae
from backbones.pretraining import job
from backbones.pretraining.beginning import begin_with, data_with_beginning
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.directories import file_sha256
from backbones.weights.loading import LoadReport
from benchmarks.planning.cells import plan_pretraining
from tests.support.checkpoint_examples import images, randomised, vit_mini
from tests.support.commands import Moment, pretrain_arguments, read_record, run_directory
from tests.support.in_process import QUICK, refusal, success
from tests.support.resuming import LOG, assert_same_result, finish, finish_killed

NAME = "mae_vit_mini_patch8"
SETTINGS = QUICK | {"optimizer__batch_size": 32, "runtime__checkpoint_every": 4, "runtime__log_every": 1}


def autoencoder(seed: int = 5, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return create_mae(NAME, **options).state_dict()


def save(path: Path, weights: dict[str, Tensor], **about: object) -> Path:
    torch.save({"model": weights, **about}, path)
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A file as MAE's mae_visualize_vit_*.pth and as backbench's autoencoder.pth are."""
    return save(tmp_path / "whole.pth", autoencoder())


def test_a_whole_autoencoder_is_taken_as_it_is(whole: Path) -> None:
    model = create_mae(NAME)
    report = begin_with(model, read_checkpoint(whole))
    found, expected = model.state_dict(), autoencoder()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert report.used.keys() == expected.keys() and not (report.dropped or report.initialised or report.converted)


@pytest.mark.parametrize(
    ("about", "data", "remark"),
    [
        ({"method": "MAE", "pretrain_data": "IN1K"}, "IN1K", ""),
        ({"method": "MAE", "pretrain_data": "photos"}, "photos, then IN1K", ""),
        ({"method": "supervised", "pretrain_data": "IN21K w/ labels"}, "IN21K w/ labels, then IN1K", "by supervised"),
        ({}, "unstated, then IN1K", ""),
    ],
)
def test_what_it_began_with_is_told(tmp_path: Path, about: dict[str, str], data: str, remark: str) -> None:
    """An encoder that had seen labels of ImageNet-21K stood as pre-trained on ImageNet-1K alone."""
    found, told = data_with_beginning(read_checkpoint(save(tmp_path / "file.pth", autoencoder(), **about)), "IN1K")
    assert found == data and (remark in told[0] if remark else not told)


def test_learned_positions_that_stay_as_they_are_are_told(tmp_path: Path) -> None:
    """An autoencoder trains none: a DeiT's were frozen without a word."""
    encoder = vit_mini().state_dict()
    torch.nn.init.normal_(encoder["pos_embed"])
    _, (_, told) = data_with_beginning(
        read_checkpoint(save(tmp_path / "file.pth", encoder, method="supervised")), "IN1K"
    )
    assert told == "the learned position embeddings that it began with stay as they are: autoencoders train none"


def test_of_an_encoder_alone_the_decoder_is_new(tmp_path: Path) -> None:
    torch.manual_seed(5)
    encoder = save(tmp_path / "encoder.pth", create_mae(NAME).encoder_state_dict())
    torch.manual_seed(6)
    model = create_mae(NAME)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = begin_with(model, read_checkpoint(encoder))
    expected, found = autoencoder(), model.state_dict()
    fresh = {name for name in expected if name.startswith("decoder_") or name == "mask_token"}
    assert report.initialised == dict.fromkeys(fresh, "the file has an encoder only; the decoder begins anew")
    assert all(torch.equal(found[name], (before if name in fresh else expected)[name]) for name in expected)


def transformers_autoencoder(folder: Path, **changes: Any) -> nn.Module:
    """transformers' of the sizes of NAME, saved as it publishes them."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    decoder = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 256} | changes
    theirs = {f"decoder_{key}": value for key, value in decoder.items()}
    config = ViTMAEConfig(**sizes, **theirs, image_size=48, patch_size=8, layer_norm_eps=1e-6, norm_pix_loss=True)
    model: nn.Module = randomised(ViTMAEForPreTraining(config))
    model.save_pretrained(folder)  # type: ignore[operator]
    return model


def test_an_autoencoder_of_transformers_gives_its_loss_and_its_picture(tmp_path: Path) -> None:
    """Its decoder had no place in the model, whether as published or as in memory."""
    theirs = transformers_autoencoder(tmp_path)
    noise = torch.rand(2, 36, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(images(), noise=noise)
    for file in (tmp_path, save(tmp_path / "in_memory.pth", theirs.state_dict())):
        model = create_mae(NAME).eval()
        report = begin_with(model, read_checkpoint(file))
        assert not report.dropped and not report.initialised
        with torch.no_grad():
            loss, prediction, mask = model(images(), noise=noise)
        assert torch.equal(mask, expected.mask)
        assert (loss - expected.loss).abs() <= 1e-5 and (prediction - expected.logits).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"num_hidden_layers": 2}, "Set model.decoder_depth=2 as the file has it"),
        ({"num_attention_heads": 8}, "its number of the decoder's attention heads is 8.* Set model.decoder_heads=8"),
    ],
)
def test_another_decoder_of_transformers_is_refused(tmp_path: Path, changes: dict[str, int], advice: str) -> None:
    transformers_autoencoder(tmp_path, **changes)
    with pytest.raises(InputError, match=advice):
        begin_with(create_mae(NAME), read_checkpoint(tmp_path))


def test_another_size_of_images_keeps_its_own_positions(whole: Path) -> None:
    model = create_mae(NAME, image_size=64)
    own = model.decoder_pos_embed.clone()
    report = begin_with(model, read_checkpoint(whole))
    assert torch.equal(model.decoder_pos_embed, own)
    assert report.initialised == {"decoder_pos_embed": "fixed positions of this model's grid"}
    assert report.converted == {"pos_embed": "6×6 → 8×8"}


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"decoder_depth": 2}, "Set model.decoder_depth=1 as the file has it"),
        ({"decoder_width": 32}, "Set model.decoder_width=64 as"),
        ({"mask_tokens_in_encoder": True}, "Set model.mask_tokens_in_encoder=false as"),
    ],
)
def test_another_decoder_is_refused(whole: Path, options: dict[str, Any], advice: str) -> None:
    """A shallower one too, which the file's could be cut to."""
    with pytest.raises(InputError, match=f"--from .*whole.pth: its decoder is not this model's. {advice}"):
        begin_with(create_mae(NAME, **options), read_checkpoint(whole))
    other = save(whole.with_name("other.pth"), autoencoder(**options))
    with pytest.raises(InputError, match=r"its decoder is not this model's\. Set model\..*, or begin with an encoder"):
        begin_with(create_mae(NAME), read_checkpoint(other))


def test_another_encoder_is_told_of_as_that(tmp_path: Path) -> None:
    weights = autoencoder() | {"patch_embed.proj.bias": torch.zeros(5)}
    with pytest.raises(InputError, match=r"does not fit .*[\s\S]*patch_embed.proj.bias \(5,\) instead of \(128,\)"):
        begin_with(create_mae(NAME), read_checkpoint(save(tmp_path / "file.pth", weights)))


def test_only_autoencoders_begin_so(whole: Path) -> None:
    """It was said once the run's directory stood there."""
    overrides = ["model.arch=tests.support.objectives:denoising"]
    with pytest.raises(InputError, match=r"--from .*whole\.pth: only masked autoencoders begin with a file, and tests"):
        plan_pretraining("mae_vit_mini", Path("photos"), seed=0, overrides=overrides, begin=whole)


def test_what_does_not_fit_is_refused_before_anything_is_made(mini: Path, whole: Path, tmp_path: Path) -> None:
    """A dry run took a ResNet's file, and a run made its directory first."""
    other = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet18").state_dict(), other)
    arguments = pretrain_arguments(mini / "unlabelled", tmp_path / "out", **SETTINGS)
    for _ in range(2):
        assert "other.pth: does not fit" in refusal(*arguments, "--from", other, "--dry-run")
    assert "other.pth: does not fit" in refusal(*arguments, "--from", other)
    assert not [*tmp_path.glob("out/**/seed0-*")]
    settings = [*arguments, "--set", "model.decoder_depth=2"]
    assert "Set model.decoder_depth=1 as the file has it" in refusal(*settings, "--from", whole, "--dry-run")
    assert success(*arguments, "--from", whole, "--dry-run")


def test_of_a_run_the_whole_autoencoder_is_meant(whole: Path, tmp_path: Path) -> None:
    """Its encoder was taken, and the decoder began anew."""
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    save(folder / "encoder.pth", create_mae(NAME).encoder_state_dict())
    plan = plan_pretraining("mae_vit_mini", Path("photos"), seed=0, overrides=[], begin=tmp_path / "run")
    assert plan.checkpoint == tmp_path / "run"
    save(folder / "autoencoder.pth", autoencoder())
    plan = plan_pretraining("mae_vit_mini", Path("photos"), seed=0, overrides=[], begin=tmp_path / "run")
    assert plan.checkpoint == folder / "autoencoder.pth" and "from=run (reference new weights)" in plan.deviations


def test_it_decides_the_key_and_stands_in_the_record(mini: Path, whole: Path, tmp_path: Path) -> None:
    arguments = pretrain_arguments(mini / "unlabelled", tmp_path / "out", **SETTINGS)
    told = success(*arguments, "--from", whole).output
    (directory,) = (tmp_path / "out").glob("**/seed0-*")
    record = read_record(tmp_path / "out")
    assert record["deviations"][-1] == "from=whole.pth (reference new weights)"
    note = f"began with whole.pth ({file_sha256(whole)[:8]}): "
    assert record["notes"][0].startswith(note) and note in told
    assert record["load_report"]["sha256"] == file_sha256(whole)

    assert "finished before; nothing to do" in success(*arguments, "--from", whole).output
    other = save(tmp_path / "other.pth", autoencoder(6))
    assert "finished before" not in success(*arguments, "--from", other).output
    assert "finished before" not in success(*arguments).output
    keys = {path.name for path in (tmp_path / "out").glob("**/seed0-*")}
    assert len(keys) == 3 and directory.name in keys
    plan = success(*arguments, "--from", whole, "--dry-run").output
    assert f"weights {whole}" in plan and "deviates: from=whole.pth" in plan


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint(mini: Path, whole: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "left alone", tmp_path / "killed" / "runs"]
    calls = [[*pretrain_arguments(mini / "unlabelled", out, **SETTINGS), "--from", str(whole)] for out in outs]
    finish(calls[0], outs[0])
    finish_killed(calls[1], outs[1], [Moment(LOG, 6)])
    assert_same_result(outs[1], outs[0])
    (folder,) = run_directory(outs[0]).glob("checkpoints")
    assert (folder / "autoencoder.pth").is_file()


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_goes_on_tells_what_it_began_with(
    kept: bool, mini: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told of what today's version would take of the file."""
    out = tmp_path / "out"
    arguments = [*pretrain_arguments(mini / "unlabelled", out, **SETTINGS), "--from", whole]
    success(*arguments)
    directory, before = run_directory(out), read_record(out)
    (directory / "record.json").unlink()
    if not kept:
        (directory / "beginning.json").unlink()

    def begin_otherwise(network: nn.Module, checkpoint: Checkpoint) -> LoadReport:
        return replace(begin_with(network, checkpoint), used={})

    monkeypatch.setattr(job, "begin_with", begin_otherwise)
    success(*arguments)
    after = read_record(out)
    assert after["load_report"] == (before["load_report"] if kept else None)
    unknown = f"began with whole.pth ({file_sha256(whole)[:8]}): what was taken of it is not known"
    assert after["notes"][0] == (before["notes"][0] if kept else unknown)


def test_a_file_that_is_not_there_is_named(mini: Path, tmp_path: Path) -> None:
    arguments = pretrain_arguments(mini / "unlabelled", tmp_path / "out", **SETTINGS)
    assert "nowhere.pth" in refusal(*arguments, "--from", tmp_path / "nowhere.pth")
    assert not (tmp_path / "out").exists()
