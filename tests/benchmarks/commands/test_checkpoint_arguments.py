"""What is wrong with the file in --backbone NAME=FILE."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support.commands import read_record, run_directory
from tests.support.in_process import call, refusal, run, success


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)

    def __init__(self, target: Path) -> None:
        self.target = target


@pytest.mark.parametrize("writer", [pickle.dump, torch.save])
def test_a_pickle_that_would_run_code_does_not(small: Path, tmp_path: Path, writer: Callable[..., None]) -> None:
    target, file = tmp_path / "ran", tmp_path / "evil.pth"
    with file.open("wb") as stream:
        writer({"model": Malicious(target)}, stream)
    message = refusal(*run(small, tmp_path / "out", f"mae_vit_mini={file}"))
    assert message.startswith(str(file)) and "nothing of it was run" in message
    assert message == refusal("inspect", file)
    assert not target.exists()


def test_files_that_are_no_checkpoint(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("404")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    (tmp_path / "empty.pth").touch()
    torch.save({"epoch": 3}, tmp_path / "weightless.pth")
    for name, expected in (
        ("gone.pth", "no such checkpoint file"),
        (
            "",
            "a folder with 4 files of weights, and which is meant cannot be told: empty.pth, page.pth",
        ),
        ("text.pth", "a text file. A checkpoint is a file written by torch.save or safetensors"),
        ("page.pth", "a web page, not the file of weights"),
        ("empty.pth", "the file is empty"),
        ("weightless.pth", "no weights found in it"),
    ):
        message = refusal(*run(small, tmp_path / "out", f"mae_vit_mini={tmp_path / name}"))
        assert message.startswith(str(tmp_path / name)) and expected in message


def test_another_architecture(small: Path, encoder: Path, tmp_path: Path) -> None:
    message = refusal(*run(small, tmp_path / "out", f"mae_vit_tiny={encoder}", model__image_size=48))
    assert str(encoder) in message and "vit_tiny" in message
    message = refusal(*run(small, tmp_path / "out", f"resnet18={encoder}"))
    assert str(encoder) in message
    assert list((tmp_path / "out").iterdir()) == []


def test_random_weights_take_no_file(small: Path, encoder: Path, tmp_path: Path) -> None:
    message = refusal(*run(small, tmp_path / "out", f"random_vit_mini={encoder}"))
    assert "random_vit_mini takes no checkpoint" in message


def test_a_file_does_not_run_under_another_methods_name(small: Path, encoder: Path, tmp_path: Path) -> None:
    """Our own encoder of MAE as supervised, by its word; and without a word, by its position embeddings."""
    content = torch.load(encoder, weights_only=True)
    bare = tmp_path / "bare.pth"
    torch.save(content["model"], bare)
    for file, why in (
        (encoder, "the file says of itself: MAE on unlabelled"),
        (bare, "its position embeddings are fixed sin-cos ones, the column first as in MAE's"),
    ):
        message = refusal(*run(small, tmp_path / "out", f"supervised_vit_mini={file}"))
        assert f"{file}: {why}; --backbone supervised_vit_mini says supervised." in message
        assert "insist on this one: --method supervised" in message
        assert f"{file}: {why}; " in refusal("inspect", file, "--backbone", "supervised_vit_mini")  # and nothing else
        assert call("inspect", file).exit_code == 0
    assert not list(tmp_path.rglob("record.json"))
    success(*run(small, tmp_path / "out", f"supervised_vit_mini={encoder}"), "--method", "supervised")
    record = read_record(tmp_path / "out")
    assert record["method"] == "supervised"
    assert "the file says of itself: MAE on unlabelled; supervised as declared" in record["notes"]


def test_nor_is_a_run_done_that_an_earlier_version_finished_so(small: Path, encoder: Path, tmp_path: Path) -> None:
    arguments = run(small, tmp_path, f"supervised_vit_mini={encoder}")
    success(*arguments, "--method", "supervised")
    path = run_directory(tmp_path) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"declared": {}, "notes": []}))
    assert "insist on this one: --method supervised" in refusal(*arguments)
    assert "supervised as declared" in success(*arguments, "--method", "supervised").output
    assert read_record(tmp_path)["declared"] == {"method": "supervised"}


def test_the_record_says_what_the_file_says(small: Path, encoder: Path, tmp_path: Path) -> None:
    success(*run(small, tmp_path, f"vit_mini_patch8_48={encoder}"))
    record = read_record(tmp_path)
    assert (record["method"], record["pretrain_data"], record["model"]) == ("MAE", "unlabelled", "ViT-mini")
    output = call("inspect", encoder, "--backbone", "mae_vit_mini").output
    assert "the file says of itself: MAE on unlabelled" in output and "MAE, unlabelled, ViT-mini" in output
    assert "6×6" in output and "column first" in output


def test_inspect_says_what_a_file_is(pretrained: Path, encoder: Path, tmp_path: Path) -> None:
    import timm

    weights = {"encoder.pth": encoder, "autoencoder.pth": encoder.with_name("autoencoder.pth")}
    for name, file in weights.items():
        result = call("inspect", file, "--backbone", "mae_vit_mini")
        assert result.exit_code == 0 and name in result.output.replace("\n", "")
        assert "mae_vit_mini" in result.output and "blocks.0" in result.output
    state = torch.load(encoder, weights_only=True)["model"]
    save_file(state, tmp_path / "encoder.safetensors")
    assert "safetensors" in call("inspect", tmp_path / "encoder.safetensors").output
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet.pth")
    success("inspect", tmp_path / "resnet.pth")
    message = refusal("inspect", tmp_path / "resnet.pth", "--backbone", "mae_vit_mini")
    assert "does not fit vit_mini_patch8_48" in message and "nothing was loaded" in message


def test_what_has_to_be_done_first_is_told(tmp_path: Path) -> None:
    """Loading said what to do with a LoRA, `inspect` that it fits none."""
    state = {
        "blocks.0.attn.qkv.base_layer.weight": torch.zeros(8, 8),
        "blocks.0.attn.qkv.lora_A.weight": torch.zeros(2, 8),
    }
    torch.save(state, tmp_path / "lora.pth")
    advice = "It has adapters beside its weights (LoRA): save what PEFT's merge_and_unload() gives."
    assert f"to be done first\t{advice}\n" in success("inspect", tmp_path / "lora.pth").output
    assert json.loads(success("inspect", tmp_path / "lora.pth", "--json").output)["to_be_done_first"] == advice


def test_undefined_numbers_are_told_and_fit_no_backbone_that_uses_them(encoder: Path, tmp_path: Path) -> None:
    state = torch.load(encoder, weights_only=True)["model"]
    for spoilt, fits in (("blocks.0.attn.qkv.weight", False), ("mask_token", True)):
        broken = {name: tensor.clone() for name, tensor in state.items()} | {"mask_token": torch.zeros(1, 1, 128)}
        broken[spoilt].view(-1)[0] = float("nan")
        torch.save(broken, tmp_path / "broken.pth")
        lines = success("inspect", tmp_path / "broken.pth").output.splitlines()
        (told,) = [line for line in lines if line.startswith("undefined numbers")]
        (fitting,) = [line for line in lines if line.startswith("fits")]
        assert told.split(maxsplit=2)[2].strip() == f"in {spoilt}"
        assert ("mae_vit_mini" in fitting) == fits
