"""Images that cannot be read, in training and in evaluation."""

from pathlib import Path

import pytest
from PIL import Image

from tests.support.commands import read_record
from tests.support.in_process import call, hide_training, pretrain, refusal, refusal_before_training, run, success


def break_one(folder: Path, how: str) -> Path:
    path = next(path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".JPEG"))
    content = path.read_bytes()
    broken = {
        "truncated": content[: len(content) // 2],
        "text": b"not an image\n",
        "empty": b"",
    }
    path.write_bytes(broken[how])
    return path


@pytest.mark.parametrize("how", ["truncated", "text", "empty"])
def test_in_training_it_is_replaced_and_named(copied: Path, tmp_path: Path, how: str) -> None:
    broken = break_one(copied / "train", how)
    result = success(*run(copied, tmp_path / "out"))
    (line,) = read_record(tmp_path / "out")["corrupt_images"]
    assert line.startswith(f"{broken}: ")
    assert f"unreadable image: {broken}" in result.output.replace("\n", "")


def test_in_pretraining_too(copied: Path, tmp_path: Path) -> None:
    broken = break_one(copied / "unlabelled", "truncated")
    success(*pretrain(copied / "unlabelled", tmp_path / "out"))
    (line,) = read_record(tmp_path / "out")["corrupt_images"]
    assert line.startswith(f"{broken}: ")


def test_all_of_them(copied: Path, tmp_path: Path) -> None:
    for path in (copied / "unlabelled").iterdir():
        path.write_text("not an image")
    message = refusal(*pretrain(copied / "unlabelled", tmp_path / "out"), status=3)
    assert "of 32 training images are unreadable, the first is" in message
    assert message.endswith(": text, not an image. Is --data the right folder? Replace or remove what is broken")


@pytest.mark.parametrize("how", ["truncated", "text", "empty"])
def test_in_evaluation_it_is_an_error_before_training(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    broken = break_one(copied / "val", how)
    message = refusal_before_training(*run(copied, tmp_path / "out"), status=3)
    assert message.startswith(f"1 unreadable evaluation image(s): {broken}: ")
    assert "--set evaluation.allow_unreadable=true" in message
    success(*run(copied, tmp_path / "out", evaluation__allow_unreadable="true"))
    record = read_record(tmp_path / "out")
    assert [line.partition(": ")[0] for line in record["corrupt_images"]] == [str(broken)]
    assert {metric["n_eval"] for metric in record["metrics"]} == {15}


def test_hidden_damage_is_found_after_training_which_is_not_lost(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next((copied / "val/arrow").iterdir())
    Image.effect_noise((64, 64), 90).convert("RGB").save(path, "JPEG", quality=95)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\xff\xc4\x00\x10" + content[middle:])  # a table that makes no sense
    from backbones.images.reading import find_fault, quick_check

    assert quick_check(path) is None and find_fault(path)
    message = refusal(*run(copied, tmp_path / "out"), status=3)
    assert message.startswith(f"{path}: unreadable evaluation image") and "what is trained is kept" in message
    hide_training(monkeypatch)
    success(*run(copied, tmp_path / "out", evaluation__allow_unreadable="true"))
    assert read_record(tmp_path / "out")["metrics"][0]["n_eval"] == 15


def test_data_check_names_it(copied: Path) -> None:
    success("data", "check", "folders", "--data", copied)
    broken = break_one(copied / "train", "truncated")
    result = call("data", "check", "folders", "--data", copied)
    assert result.exit_code == 1
    assert f"unreadable: {broken}: " in result.output.replace("\n", "")


def test_images_that_change_under_a_run_are_noted(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record told of the data as they had been before, and of nothing else."""
    path = sorted((copied / "val").rglob("*.jpg"))[0]
    size = path.stat().st_size

    def change(directory: Path, outcome: object) -> None:
        path.write_bytes(path.read_bytes() + b"more")

    monkeypatch.setattr("benchmarks.running.cells.write_per_image", change)
    success(*run(copied, tmp_path / "out"))
    (note,) = [note for note in read_record(tmp_path / "out")["notes"] if "changed while" in note]
    assert note.endswith(f"{path} has {size + 4:,} bytes, and had {size:,}")
