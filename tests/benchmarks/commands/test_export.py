"""`backbench export`: of runs and of files, what it says, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from backbones import create_backbone
from backbones.trained import WEIGHTS
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.statements import read_statement
from tests.support.commands import run_directory
from tests.support.in_process import call, refusal, success, usage_refusal


def same_tensors(one: Path, other: Path, backbone: str = "mae_vit_mini") -> None:
    """Two files are the same backbone's, to the last digit."""
    ours, theirs = (create_backbone(backbone, path).state_dict() for path in (one, other))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize("target", ["timm", "transformers", "mae", "mmseg"])
def test_a_pretrained_encoder_comes_back_as_it_went(
    pretrained: Path, encoder: Path, tmp_path: Path, target: str
) -> None:
    """With the names that it has here: method and data stand in the file, or beside it."""
    out = tmp_path / "exported"
    result = success("export", run_directory(pretrained), "--to", target, "--out", out)
    assert str(out) in result.output and "tensors" in result.output and "pixels: mean 0.485" in result.output
    same_tensors(encoder, out)
    assert read_checkpoint(out).extras["method"] == "MAE"
    inspected = success("inspect", out, "--backbone", "mae_vit_mini")
    assert "0 initialised" in inspected.output


@pytest.mark.parametrize("target", ["timm", "transformers", "mae", "mmseg", "detectron2"])
def test_what_was_pretrained_otherwise_is_told_wherever_it_goes(
    pretrained: Path, encoder: Path, tmp_path: Path, target: str
) -> None:
    """The literature's numbers are of the whole pre-training, in whatever names the encoder comes back."""
    told = "optimizer.batch_size=16 (reference 128) and 2 more"
    run, ours, again = run_directory(pretrained), tmp_path / "ours", tmp_path / "again"
    success("export", run, "--to", target, "--out", ours)
    success("export", encoder, "--backbone", "mae_vit_mini", "--to", target, "--out", again)
    for file in (encoder, run / WEIGHTS, ours, again):
        assert read_statement(read_checkpoint(file)).deviations == told, file


def test_an_encoder_of_ours_is_an_automodel(pretrained: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    success("export", run_directory(pretrained), "--to", "transformers", "--out", tmp_path / "vit")
    _, report = AutoModel.from_pretrained(tmp_path / "vit", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    success("export", run_directory(pretrained), "--to", "transformers", "--decoder", "--out", tmp_path / "vit_mae")
    assert '"ViTMAEForPreTraining"' in (tmp_path / "vit_mae/config.json").read_text()


def test_a_fine_tuned_classifier_goes_out_with_its_classes(finished: Path, tmp_path: Path) -> None:
    run = run_directory(finished)
    for target in ("timm", "transformers", "mae"):
        success("export", run, "--to", target, "--out", tmp_path / target)
        same_tensors(run / "weights.safetensors", tmp_path / target) if target != "transformers" else None
    assert "square" in (tmp_path / "timm/config.json").read_text()
    assert "BeitForImageClassification" in (tmp_path / "transformers/config.json").read_text()


def test_a_file_of_others_goes_out_under_the_backbone_that_it_is(encoder: Path, tmp_path: Path) -> None:
    message = refusal("export", encoder, "--to", "timm", "--out", tmp_path / "timm")
    assert f"{encoder}: no weights.safetensors of a finished run" in message and "--backbone" in message
    success("export", encoder, "--backbone", "mae_vit_mini", "--to", "timm", "--out", tmp_path / "timm")
    same_tensors(encoder, tmp_path / "timm")


def test_what_is_there_is_not_overwritten_by_chance(pretrained: Path, tmp_path: Path) -> None:
    arguments = ["export", run_directory(pretrained), "--to", "mae", "--out", tmp_path / "mae.pth"]
    (tmp_path / "mae.pth").write_text("precious")
    assert "is there already" in refusal(*arguments)
    assert (tmp_path / "mae.pth").read_text() == "precious"
    success(*arguments, "--overwrite")
    assert len(read_checkpoint(tmp_path / "mae.pth").state_dict) > 10


def test_a_run_is_taken_by_its_record(pretrained: Path, finished: Path, tmp_path: Path) -> None:
    """Unfinished, another's, an evaluation alone, a folder of runs, nothing: each is told as what it is."""

    def message(source: Path, status: int = 2) -> str:
        return refusal("export", source, "--to", "mae", "--out", tmp_path / "mae.pth", status=status)

    run = Path(shutil.copytree(run_directory(finished), tmp_path / "run"))
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(record | {"key": "0123456789ab"}))
    assert "of the run with the key" in message(run, 3) and "of the run with the key" in message(run / WEIGHTS, 3)
    (run / "record.json").write_text(json.dumps(record | {"trained": "0123456789ab"}))
    assert "holds an evaluation alone, no weights" in message(run)
    (run / "record.json").unlink()
    assert message(run) == f"{run}: this run has not finished. Repeat its command, to its end"
    assert f"a folder of runs. Name one of them: {run_directory(finished)}" in message(finished)
    assert "no such file or folder" in message(tmp_path / "nowhere")
    assert not (tmp_path / "mae.pth").exists()


def test_a_run_that_an_earlier_version_finished(pretrained: Path, finished: Path, tmp_path: Path) -> None:
    """A pre-training's last checkpoint has all; of a classifier's classes it does not tell."""
    before, photo = run_directory(pretrained) / WEIGHTS, tmp_path / "photo.png"
    run = Path(shutil.copytree(run_directory(pretrained), tmp_path / "run"))
    (run / WEIGHTS).unlink()
    success("export", run, "--to", "mae", "--out", tmp_path / "mae.pth")
    success("export", before, "--to", "mae", "--out", tmp_path / "expected.pth")
    one, other = (torch.load(tmp_path / name, weights_only=True)["model"] for name in ("mae.pth", "expected.pth"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    Image.new("RGB", (50, 50), "green").save(photo)
    seen, expected = (success("predict", each, photo, "--out", tmp_path / "out").stdout for each in (run, before))
    assert seen == expected and "loss" in seen
    classifier = Path(shutil.copytree(run_directory(finished), tmp_path / "classifier"))
    (classifier / WEIGHTS).unlink()
    message = refusal("export", classifier, "--to", "mae", "--out", tmp_path / "x.pth")
    assert "checkpoints lack the classes' names. Run it anew" in message


def test_a_run_has_its_size(finished: Path, tmp_path: Path) -> None:
    message = refusal("export", run_directory(finished), "--to", "timm", "--image-size", 96, "--out", tmp_path / "x")
    assert message.startswith("--image-size 96: ") and "Leave --image-size out" in message


def test_a_target_that_there_is_not_and_one_that_has_no_place(finished: Path, tmp_path: Path) -> None:
    run = run_directory(finished)
    assert "'timm', 'transformers'" in usage_refusal("export", run, "--to", "keras", "--out", tmp_path / "x")
    assert "Use --to timm, transformers or mae" in refusal("export", run, "--to", "mmseg", "--out", tmp_path / "x")
    assert "--decoder" in refusal("export", run, "--to", "mae", "--decoder", "--out", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_help_says_in_a_line_what_each_target_is() -> None:
    output = " ".join(call("export", "--help").output.split())
    for words in (
        'timm.create_model("local-dir:DIR"',
        "from_pretrained(DIR)",
        "facebookresearch/mae",
        "UPerNet",
        "ViTDet",
    ):
        assert words in output
