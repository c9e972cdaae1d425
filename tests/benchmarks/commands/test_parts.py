"""--backbone NAME=FILE::PART and NAME=FOLDER, from the command to the tables."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from backbones.weights import directories
from tests.support.commands import read_record, run_directory
from tests.support.in_process import call, refusal, refusal_before_training, run, success


@pytest.fixture(scope="module")
def twins(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder beside its averaged twin, which differs a little."""
    content = torch.load(encoder, weights_only=True)
    twin = {name: 1.01 * tensor if name.startswith("blocks") else tensor for name, tensor in content["model"].items()}
    path = tmp_path_factory.mktemp("twins") / "twins.pth"
    torch.save(content | {"model_ema": {f"module.{name}": tensor for name, tensor in twin.items()}}, path)
    return path


def test_one_of_two_has_to_be_chosen(small: Path, twins: Path, tmp_path: Path) -> None:
    message = refusal_before_training(*run(small, tmp_path / "out", f"mae_vit_mini={twins}"))
    assert message.startswith(f"{twins}: 2 of its parts fit the model, with different numbers; nothing was loaded.\n")
    assert f"Say which is meant: {twins}::model" in message
    assert refusal("inspect", twins, "--backbone", "mae_vit_mini") == message
    absent = refusal_before_training(*run(small, tmp_path / "out", f"mae_vit_mini={twins}::ema"))
    assert absent.startswith(f"{twins}: has no part 'ema'. ")
    assert absent == refusal("inspect", f"{twins}::ema")
    assert not list(tmp_path.rglob("record.json"))


def test_a_part_from_the_command_to_the_table(small: Path, twins: Path, encoder: Path, tmp_path: Path) -> None:
    outs = {part: tmp_path / part for part in ("model", "model_ema")}
    for part, out in outs.items():
        success(*run(small, out, f"mae_vit_mini={twins}::{part}"))
        record = read_record(out)
        assert (record["checkpoint"], record["checkpoint_part"]) == ("twins.pth", part)
        assert record["pretrain_data"] == "unlabelled"
        assert part in success(*run(small, out, f"mae_vit_mini={twins}::{part}"), "--dry-run").output
    ema, model = (read_record(outs[part]) for part in ("model_ema", "model"))
    assert ema["load_report"]["used"]["cls_token"] == ["module.cls_token"]
    assert ema["checkpoint_sha256"] == model["checkpoint_sha256"] and ema["key"] != model["key"]
    assert "finished on" in success(*run(small, outs["model"], f"mae_vit_mini={twins}::model"), "--dry-run").output
    longer = run(small, outs["model_ema"], f"mae_vit_mini={twins}::model_ema.module")
    for arguments in ([*longer, "--dry-run"], longer):
        told = success(*arguments)
        assert "twins.pth::model_ema.module loads what ::model_ema does, and stands as that" in told.output
        assert read_record(outs["model_ema"]) == ema  # the only one: it made a run and a row of its own
    table = success("table", *outs.values(), "--layout", "transfer").output
    digits = ema["checkpoint_sha256"][:8]
    assert f"checkpoint twins.pth::model ({digits})" in table
    assert f"checkpoint twins.pth::model_ema ({digits})" in table
    assert "model_ema" in (outs["model_ema"] / "results.csv").read_text()


def test_a_run_that_has_begun_goes_on_by_its_own_name(small: Path, twins: Path, tmp_path: Path) -> None:
    """It was left lying, and one by the other name began."""
    out = tmp_path / "out"
    arguments = [*run(small, out, f"mae_vit_mini={twins}::model_ema.module"), "--seed", "1"]
    success(*arguments)
    directory = run_directory(out)
    (directory / "record.json").unlink()
    success(*run(small, out, f"mae_vit_mini={twins}::model_ema"), "--seed", "0")
    assert "stands as that" not in success(*arguments, "--dry-run").output
    told = success(*arguments).output
    assert "stands as that" not in told and "goes on: " in told and str(directory) in told
    assert json.loads((directory / "record.json").read_text())["checkpoint_part"] == "model_ema.module"


def test_a_dry_run_takes_a_files_digest_once(
    small: Path, twins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every dry run read gigabytes for it."""
    file = tmp_path / "twins.pth"
    shutil.copy(twins, file)
    os.utime(file, (0, 0))
    digested = []

    def file_sha256(path: Path) -> str:
        digested.append(path)
        return "0" * 64

    monkeypatch.setattr(directories, "file_sha256", file_sha256)
    for _ in range(3):
        success(*run(small, tmp_path / "out", f"mae_vit_mini={file}::model"), "--dry-run")
    assert digested == [file]


def test_inspect_lists_the_parts_and_what_they_fit(twins: Path, encoder: Path) -> None:
    document = json.loads(success("inspect", twins, "--json").stdout)
    assert [(part["name"], part["fits"]) for part in document["parts"]] == [
        ("model", ["mae_vit_mini", "vit_mini_patch8_48"]),
        ("model_ema.module", ["mae_vit_mini", "vit_mini_patch8_48"]),
    ]
    assert document["fits"] == [] and document["part"] == ""
    output = success("inspect", twins).output
    assert f"--backbone NAME={twins}::PART" in output and "part model_ema.module" in output
    chosen = success("inspect", f"{twins}::model_ema", "--backbone", "mae_vit_mini").output
    assert "found under" in chosen and "; of model_ema" in chosen and "part model" not in chosen
    assert json.loads(success("inspect", encoder, "--json").stdout)["parts"] == []


def test_a_folder_runs_as_the_file_in_it(small: Path, encoder: Path, pretrained: Path, tmp_path: Path) -> None:
    success(*run(small, tmp_path / "file", f"mae_vit_mini={encoder}"))
    success(*run(small, tmp_path / "folder", f"mae_vit_mini={run_directory(pretrained)}"))
    file, folder = (read_record(tmp_path / name) for name in ("file", "folder"))
    assert file["key"] == folder["key"] and file["metrics"] == folder["metrics"]
    assert (file["checkpoint"], folder["checkpoint"]) == ("encoder.pth", run_directory(pretrained).name)
    assert call("inspect", run_directory(pretrained)).exit_code == 0
