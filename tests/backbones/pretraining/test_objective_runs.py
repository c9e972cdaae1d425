"""A method from code is pre-trained as autoencoders are: resumed bit for bit, recorded, left behind for the tasks."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import backbones.vit_sizes  # noqa: F401  (registers the mini encoder in timm)
from backbones.weights.directories import file_sha256
from tests.support.commands import (
    Moment,
    checkpoint_tensors,
    pretrain_arguments,
    read_record,
    run_arguments,
    run_directory,
)
from tests.support.in_process import QUICK, refusal, success
from tests.support.resuming import LOG, assert_same_result, finish, finish_killed

ARCH = "tests.support.objectives:denoising"
SETTINGS: dict[str, Any] = {
    "model__arch": ARCH,
    "model__hidden": 0.4,
    "optimizer__batch_size": 32,
    "schedule__epochs": 1,
    "schedule__warmup_epochs": 0,
    "runtime__checkpoint_every": 4,
    "runtime__log_every": 1,
    "runtime__workers": 0,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def trained(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never killed."""
    out = tmp_path_factory.mktemp("objective") / "runs"
    return finish(pretrain_arguments(mini / "unlabelled", out, **SETTINGS), out)


def test_a_killed_run_ends_the_same(mini: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    moments = [Moment(LOG, 6), Moment("backbones.pretraining.job.save_atomically")]
    finish_killed(pretrain_arguments(mini / "unlabelled", out, **SETTINGS), out, moments)
    assert_same_result(out, trained)
    (encoder,), (expected,) = out.glob("**/encoder.pth"), trained.glob("**/encoder.pth")
    assert file_sha256(encoder) == file_sha256(expected) == read_record(out)["checkpoint_sha256"]


def test_record_and_encoder_say_whose_they_are(trained: Path) -> None:
    record, folder = read_record(trained), run_directory(trained) / "checkpoints"
    (metric,) = record["metrics"]
    assert (metric["name"], metric["value"]) == ("loss", record["train_loss"])
    assert (record["method"], record["pretrain_data"], record["backbone"]) == ("denoising", "mini", ARCH)
    assert record["protocol"]["model.hidden"] == "0.4"
    assert "model.mask_ratio" not in record["protocol"]
    assert len(record["model_code"]) == 12
    assert "model.hidden=0.4 (reference None)" in record["deviations"]
    assert not [line for line in record["deviations"] if "decoder" in line or "mask_sampling" in line]
    assert not (run_directory(trained) / "pictures").exists()
    assert not (folder / "autoencoder.pth").exists()

    content = torch.load(folder / "encoder.pth", weights_only=True)
    about = {name: value for name, value in content.items() if name != "model"}
    assert about == {
        "method": "denoising",
        "pretrain_data": "mini",
        "pretraining_deviations": f"{len(record['deviations'])} settings",
        "image_size": 48,
        "objective": ARCH,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    assert record["parameters"] == sum(tensor.numel() for tensor in content["model"].values())
    encoder: Any = timm.create_model("vit_mini_patch8_48", num_classes=0)
    encoder.load_state_dict(content["model"])


def test_a_buffer_that_counts_goes_on(trained: Path) -> None:
    counted = [tensor for name, tensor in checkpoint_tensors(trained).items() if name.endswith("network.seen")]
    assert {tensor.item() for tensor in counted} <= {32.0 * update for update in range(1, 11)}
    assert max(tensor.item() for tensor in counted) == 10 * 32


def test_its_encoder_stands_in_its_row(mini: Path, trained: Path, tmp_path: Path) -> None:
    encoder = run_directory(trained) / "checkpoints/encoder.pth"
    arguments = run_arguments(mini, tmp_path, backbone=f"vit_mini_patch8_48={encoder}", **QUICK)
    success(*arguments)
    record = read_record(tmp_path)
    assert (record["method"], record["pretrain_data"], record["model"]) == ("denoising", "mini", "ViT-mini")


def test_it_is_refused_before_anything_is_written(mini: Path, tmp_path: Path) -> None:
    bad = {"model__arch": "tests.support.objectives:bad", "model__what": "vector"}
    message = refusal(*pretrain_arguments(mini / "unlabelled", tmp_path / "out", **QUICK, **bad))
    assert message.startswith("pre-training tests.support.objectives:bad: its loss has the shape (2,)")
    assert not list(tmp_path.glob("out/**/iteration_*"))


def test_a_plan_tells_of_it(mini: Path, trained: Path) -> None:
    arguments = pretrain_arguments(mini / "unlabelled", trained, **SETTINGS)
    told = success(*arguments, "--dry-run").output
    assert f"{ARCH} on mini" in told and "finished" in told and "the model's code" not in told


def test_a_plan_of_what_is_nothing_is_refused(tmp_path: Path) -> None:
    """It was said that it would be run."""
    arguments = pretrain_arguments(tmp_path / "images", tmp_path / "out", model__arch="random_vit_mini")
    assert refusal(*arguments, "--dry-run").startswith('key "model.arch": nothing to pre-train is called \'random_vit')
