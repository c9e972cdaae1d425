"""What the command line says and leaves behind: mistakes of every kind, full disks, interruptions, repetitions."""

import errno
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support.commands import Moment, backbench
from tests.support.in_process import (
    FullDisk,
    assert_nothing_is_half_written,
    call,
    comparable,
    directory_of,
    hide_training,
    pretrain,
    record_of,
    refusal,
    run,
    usage_refusal,
)


@pytest.fixture(scope="module")
def small(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few enough images that a run takes a second: 32 to train on, 16 to evaluate on, 32 unlabelled."""
    root = tmp_path_factory.mktemp("small") / "shapes"
    for split, each in (("train", 4), ("val", 2)):
        for folder in sorted((mini / split).iterdir()):
            (root / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:each]:
                shutil.copy(path, root / split / folder.name)
    (root / "unlabelled").mkdir()
    for path in sorted((mini / "unlabelled").iterdir())[:32]:
        shutil.copy(path, root / "unlabelled")
    return root


@pytest.fixture
def copied(small: Path, tmp_path: Path) -> Path:
    """The small data set, to be spoilt."""
    return Path(shutil.copytree(small, tmp_path / "shapes"))


@pytest.fixture(scope="module")
def pretrained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished pre-training."""
    out = tmp_path_factory.mktemp("pretrained")
    result = call(*pretrain(small / "unlabelled", out))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def encoder(pretrained: Path) -> Path:
    return directory_of(pretrained) / "checkpoints/encoder.pth"


@pytest.fixture(scope="module")
def finished(small: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished fine-tuning of that."""
    out = tmp_path_factory.mktemp("finished")
    result = call(*run(small, out, f"mae_vit_mini={encoder}"))
    assert result.exit_code == 0, result.output
    return out


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        [
            (),
            *((c,) for c in ["demo", "pretrain", "run", "table", "list", "inspect", "doctor", "data"]),
            *(("data", c) for c in ("mini", "check")),
        ],
    )
    def test_every_command_explains_itself(self, command: tuple[str, ...]) -> None:
        result = call(*command, "--help")
        assert result.exit_code == 0
        assert " ".join(("Usage: backbench", *command)) in " ".join(result.output.split())

    def test_help_imports_nothing_heavy(self) -> None:
        program = (
            "import sys; from benchmarks.commands.cli import app\n"
            "try: app(['--help'], prog_name='backbench')\n"
            "except SystemExit: pass\n"
            "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
        )
        finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert "pretrain" in finished.stdout
        imported = finished.stderr
        assert "'benchmarks'" in imported
        for library in ("torch", "pydantic", "pandas", "numpy", "timm", "mmengine", "yaml", "PIL"):
            assert f"'{library}'" not in imported

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["pretrian"], "No such command 'pretrian'. Did you mean 'pretrain'?"),
            (["data", "chekc"], "No such command 'chekc'. Did you mean 'check'?"),
            (["pretrain", "--recipes", "x"], "No such option: --recipes"),
            (["pretrain", "--recipe", "mae_vit_mini", "--data", "."], "Missing option '--out'"),
            (["run", "--recipe"], "Option '--recipe' requires an argument"),
            (
                ["pretrain", *["--recipe", "r", "--data", "d", "--out", "o", "--seed", "-1"]],
                "'--seed': expected a value greater",
            ),
            (
                ["pretrain", *["--recipe", "r", "--data", "d", "--out", "o", "--seed", "x"]],
                "'--seed': expected a value",
            ),
            (["list", "recipe"], "'what': 'recipe' is not one of 'backbones', 'methods', 'recipes', 'datasets'."),
            (["table", ".", "--layout", "imagnet"], "'--layout': 'imagnet' is not one of 'imagenet', 'coco',"),
            (["table", ".", "--layout", "coco", "--format", "xlsx"], "'xlsx' is not one of 'md', 'csv', 'latex'."),
        ],
    )
    def test_a_mistyped_call_is_explained(self, arguments: list[str], expected: str) -> None:
        assert expected in usage_refusal(*arguments)


class TestNames:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (
                {"recipe": "mini_clasification"},
                "recipe mini_clasification: no such recipe. Nearest: mini_",
            ),
            (
                {"recipe": "mae_vit_mini"},
                "expected classification, detection or segmentation: use `backbench pretrain`",
            ),
            ({"backbone": "random_vit_mni"}, "backbone random_vit_mni: no such name. Did you mean random_vit_mini"),
            ({"backbone": "resnet1"}, "Did you mean resnet"),
            ({"backbone": "mae_vit_mini"}, "mae_vit_mini needs its checkpoint: --backbone mae_vit_mini=FILE"),
            ({"backbone": "mae_vit_mini="}, "--backbone mae_vit_mini=: expected NAME or NAME=CHECKPOINT"),
            ({"backbone": "=encoder.pth"}, "--backbone =encoder.pth: expected NAME or NAME=CHECKPOINT"),
            ({"backbone": "no_such_package:build"}, "no module 'no_such_package'. Is it installed"),
            ({"backbone": "shutil:build"}, "shutil has no function 'build'. It has"),
        ],
    )
    def test_unknown_names_are_refused(
        self, small: Path, tmp_path: Path, options: dict[str, str], expected: str
    ) -> None:
        chosen = {"recipe": "mini_classification", "backbone": "random_vit_mini"} | options
        arguments = [part for name, value in chosen.items() for part in (f"--{name}", value)]
        assert expected in refusal("run", *arguments, "--data", small, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_recipe_without_a_task_says_what_to_write(self, small: Path, tmp_path: Path) -> None:
        recipe = tmp_path / "mine.yaml"
        recipe.write_text("schedule: {epochs: 3}\n")
        message = refusal("run", "--recipe", recipe, "--backbone", "resnet18", "--data", small, "--out", tmp_path)
        expected = "Expected classification, detection or segmentation, or `extends: NAME`"
        assert message == f'recipe {recipe}, key "task": missing. {expected}'

    def test_an_unknown_data_set_names_the_nearest(self, small: Path) -> None:
        assert refusal("data", "check", "imagenet", "--root", small) == (
            "data set imagenet: not known. Did you mean imagenet1k?"
        )


class TestFolders:
    """What is wrong with --data."""

    def test_missing(self, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        assert refusal(*pretrain(gone, tmp_path / "out")) == f"{gone}: no such folder."
        assert refusal(*run(gone, tmp_path / "out")).startswith(f"{gone}: no such folder. Expected train/CLASS/")

    def test_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "images.tar"
        file.touch()
        assert refusal(*pretrain(file, tmp_path / "out")) == f"{file}: a file, not a folder."
        assert refusal(*run(file, tmp_path / "out")).startswith(f"{file}: a file, not a folder. Expected")

    def test_without_images(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        assert "no images found. Expected files ending in" in refusal(*pretrain(folder, tmp_path / "out"))
        assert "found an empty folder" in refusal(*run(folder, tmp_path / "out"))
        (folder / "notes.txt").touch()
        assert "found 1 .txt file" in refusal(*pretrain(folder, tmp_path / "out"))

    def test_one_class(self, copied: Path, tmp_path: Path) -> None:
        for folder in sorted((copied / "train").iterdir())[1:]:
            shutil.rmtree(folder)
        assert "only one class, 'arrow'" in refusal(*run(copied, tmp_path / "out"))

    def test_an_empty_class(self, copied: Path, tmp_path: Path) -> None:
        (copied / "train/zebra").mkdir()
        assert refusal(*run(copied, tmp_path / "out")) == (
            f"{copied}/train: 1 class folders without images: zebra. Add images or remove them."
        )

    def test_no_validation_images(self, copied: Path, tmp_path: Path) -> None:
        shutil.rmtree(copied / "val")
        message = refusal(*run(copied, tmp_path / "out"))
        assert message.startswith(f"{copied}/val: no such folder. Expected val/CLASS/*.jpg")
        assert f"pass {copied}/train" in message

    def test_a_class_that_is_validated_but_not_trained(self, copied: Path, tmp_path: Path) -> None:
        (copied / "val/arrow").rename(copied / "val/zebra")
        assert "1 class folders that train/ doesn't have: zebra" in refusal(*run(copied, tmp_path / "out"))

    def test_images_directly_in_train(self, small: Path, tmp_path: Path) -> None:
        shutil.copytree(small / "unlabelled", tmp_path / "flat/train")
        message = refusal(*run(tmp_path / "flat", tmp_path / "out"))
        assert "train: no class folders found. Expected train/CLASS/*.jpg; found 32 " in message
        assert call(*pretrain(tmp_path / "flat", tmp_path / "out")).exit_code == 0

    def test_nothing_is_left_behind(self, copied: Path, tmp_path: Path) -> None:
        (copied / "train/zebra").mkdir()
        refusal(*run(copied, tmp_path / "out"))
        assert not (tmp_path / "out").exists()


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"runtime__batch_per_device": 3}, "16 images cannot be shared out as 1 process(es) × 3 images"),
            ({"precision": "fp16"}, 'precision "fp16" needs a GPU'),
            ({"model__image_size": 50}, "not a multiple of vit_mini_patch8_48's patch size 8. Use 48 or 56."),
            ({"runtime__workers": -1}, 'key "runtime.workers"'),
            ({"augment__mixup": 0.8, "runtime__batch_per_device": 1}, "a step needs an even number of them, not 1"),
            ({"model__drop_path": 1.0}, "drop path 1.0: expected a probability"),
            ({"augment__rand_augment": "strong"}, 'timm cannot read "strong"'),
            ({"optimizer__layer_deacy": 0.7}, 'Did you mean "layer_decay"?'),
            ({"optimizer__base_lr": 1e38}, "training has diverged. Lower the learning rate"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(
        self, small: Path, tmp_path: Path, changes: dict[str, object], expected: str
    ) -> None:
        if torch.cuda.is_available() and "precision" in changes:
            pytest.skip("a GPU has fp16")
        assert expected in refusal(*run(small, tmp_path / "out", **changes))

    @pytest.mark.parametrize("changes", [{"model__image_size": 50}, {"augment__rand_augment": "strong"}])
    def test_a_run_that_never_began_leaves_no_directory(
        self, small: Path, tmp_path: Path, changes: dict[str, object]
    ) -> None:
        (tmp_path / "out").mkdir()
        refusal(*run(small, tmp_path / "out", **changes))
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_mask_that_hides_everything_is_refused_before_training(self, small: Path, tmp_path: Path) -> None:
        message = refusal(*pretrain(small / "unlabelled", tmp_path, model__mask_ratio=0.999))
        assert message.startswith("mask_ratio 0.999 keeps 0 of 36 patches. Expected a ratio")
        assert list(tmp_path.iterdir()) == []

    def test_settings_are_checked_before_a_million_images_are(self, copied: Path, tmp_path: Path) -> None:
        next((copied / "val/arrow").iterdir()).write_bytes(b"")
        assert "patch size" in refusal(*run(copied, tmp_path / "out", model__image_size=50))

    def test_another_image_size_than_the_checkpoints_is_interpolated(
        self, small: Path, encoder: Path, tmp_path: Path
    ) -> None:
        assert call(*run(small, tmp_path, f"mae_vit_mini={encoder}", model__image_size=64)).exit_code == 0
        report = record_of(tmp_path)["load_report"]
        assert "pos_embed" in report["converted"]

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
    def test_running_out_of_memory_says_what_to_lower(
        self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def step(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr("backbones.mae.pretraining.PretrainingStep.forward", step)
        assert "out of memory. Lower runtime.batch_per_device" in refusal(*pretrain(small / "unlabelled", tmp_path))


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)

    def __init__(self, target: Path) -> None:
        self.target = target


class TestCheckpoints:
    """What is wrong with the file in --backbone NAME=FILE."""

    @pytest.mark.parametrize("writer", [pickle.dump, torch.save])
    def test_a_pickle_that_would_run_code_does_not(
        self, small: Path, tmp_path: Path, writer: Callable[..., None]
    ) -> None:
        target, file = tmp_path / "ran", tmp_path / "evil.pth"
        with file.open("wb") as stream:
            writer({"model": Malicious(target)}, stream)
        message = refusal(*run(small, tmp_path / "out", f"mae_vit_mini={file}"))
        assert message.startswith(str(file)) and "nothing of it was run" in message
        assert message == refusal("inspect", file)
        assert not target.exists()

    def test_files_that_are_no_checkpoint(self, small: Path, tmp_path: Path) -> None:
        (tmp_path / "text.pth").write_text("<html>404</html>")
        (tmp_path / "empty.pth").touch()
        torch.save({"epoch": 3}, tmp_path / "weightless.pth")
        for name, expected in (
            ("gone.pth", "no such checkpoint file"),
            ("", "is a directory, and a checkpoint is a file. Give the file inside it. It holds empty.pth, text.pth"),
            ("text.pth", "a text file. A checkpoint is a file written by torch.save or safetensors"),
            ("empty.pth", "the file is empty"),
            ("weightless.pth", "no weights found in it"),
        ):
            message = refusal(*run(small, tmp_path / "out", f"mae_vit_mini={tmp_path / name}"))
            assert message.startswith(str(tmp_path / name)) and expected in message

    def test_another_architecture(self, small: Path, encoder: Path, tmp_path: Path) -> None:
        message = refusal(*run(small, tmp_path / "out", f"mae_vit_tiny={encoder}", model__image_size=48))
        assert str(encoder) in message and "vit_tiny" in message
        message = refusal(*run(small, tmp_path / "out", f"resnet18={encoder}"))
        assert str(encoder) in message
        assert list((tmp_path / "out").iterdir()) == []

    def test_random_weights_take_no_file(self, small: Path, encoder: Path, tmp_path: Path) -> None:
        message = refusal(*run(small, tmp_path / "out", f"random_vit_mini={encoder}"))
        assert "random_vit_mini takes no checkpoint" in message

    def test_inspect_says_what_a_file_is(self, pretrained: Path, encoder: Path, tmp_path: Path) -> None:
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
        assert call("inspect", tmp_path / "resnet.pth").exit_code == 0
        message = refusal("inspect", tmp_path / "resnet.pth", "--backbone", "mae_vit_mini")
        assert "does not fit vit_mini_patch8_48" in message and "nothing was loaded" in message


class TestBrokenImages:
    def break_one(self, folder: Path, how: str) -> Path:
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
    def test_in_training_it_is_replaced_and_named(self, copied: Path, tmp_path: Path, how: str) -> None:
        broken = self.break_one(copied / "train", how)
        result = call(*run(copied, tmp_path / "out"))
        assert result.exit_code == 0, result.output
        (line,) = record_of(tmp_path / "out")["corrupt_images"]
        assert line.startswith(f"{broken}: ")
        assert f"unreadable image: {broken}" in result.output.replace("\n", "")

    def test_in_pretraining_too(self, copied: Path, tmp_path: Path) -> None:
        broken = self.break_one(copied / "unlabelled", "truncated")
        assert call(*pretrain(copied / "unlabelled", tmp_path / "out")).exit_code == 0
        (line,) = record_of(tmp_path / "out")["corrupt_images"]
        assert line.startswith(f"{broken}: ")

    def test_all_of_them(self, copied: Path, tmp_path: Path) -> None:
        for path in (copied / "unlabelled").iterdir():
            path.write_text("not an image")
        message = refusal(*pretrain(copied / "unlabelled", tmp_path / "out"))
        assert "of 32 training images are unreadable, the first is" in message
        assert message.endswith(": text, not an image. Is --data the right folder? Replace or remove what is broken")

    @pytest.mark.parametrize("how", ["truncated", "text", "empty"])
    def test_in_evaluation_it_is_an_error_before_training(
        self, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        broken = self.break_one(copied / "val", how)
        with monkeypatch.context() as patch:
            hide_training(patch)
            message = refusal(*run(copied, tmp_path / "out"))
        assert message.startswith(f"1 unreadable evaluation image(s): {broken}: ")
        assert "--set evaluation.allow_unreadable=true" in message
        result = call(*run(copied, tmp_path / "out", evaluation__allow_unreadable="true"))
        assert result.exit_code == 0, result.output
        record = record_of(tmp_path / "out")
        assert [line.partition(": ")[0] for line in record["corrupt_images"]] == [str(broken)]
        assert {metric["n_eval"] for metric in record["metrics"]} == {15}

    def test_hidden_damage_is_found_after_training_which_is_not_lost(
        self, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = next((copied / "val/arrow").iterdir())
        Image.effect_noise((64, 64), 90).convert("RGB").save(path, "JPEG", quality=95)
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + b"\xff\xc4\x00\x10" + content[middle:])  # a table that makes no sense
        from backbones.images.reading import find_fault, quick_check

        assert quick_check(path) is None and find_fault(path)
        message = refusal(*run(copied, tmp_path / "out"))
        assert message.startswith(f"{path}: unreadable evaluation image") and "what is trained is kept" in message
        hide_training(monkeypatch)
        assert call(*run(copied, tmp_path / "out", evaluation__allow_unreadable="true")).exit_code == 0
        assert record_of(tmp_path / "out")["metrics"][0]["n_eval"] == 15

    def test_data_check_names_it(self, copied: Path) -> None:
        assert call("data", "check", "folders", "--root", copied).exit_code == 0
        broken = self.break_one(copied / "train", "truncated")
        result = call("data", "check", "folders", "--root", copied)
        assert result.exit_code == 1
        assert f"unreadable: {broken}: " in result.output.replace("\n", "")


class TestWriting:
    """An --out that cannot be written to, from the beginning or suddenly."""

    @pytest.mark.parametrize("below", ["", "deeper/still"])
    def test_a_file_in_the_way(self, small: Path, tmp_path: Path, below: str) -> None:
        (tmp_path / "file").touch()
        out = tmp_path / "file" / below
        message = refusal(*pretrain(small / "unlabelled", out))
        assert message == f"--out {out}: cannot be written to (Not a directory). Choose another directory"

    def test_a_read_only_directory(self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, *arguments: object, **options: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
        message = refusal(*run(small, tmp_path / "out"))
        assert message == f"--out {tmp_path}/out: cannot be written to (Permission denied). Choose another directory"

    def test_missing_parents_are_created(self, small: Path, tmp_path: Path) -> None:
        assert call(*run(small, tmp_path / "a/b/c")).exit_code == 0
        assert (tmp_path / "a/b/c/results.csv").is_file()

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
    @pytest.mark.parametrize(
        "full",
        [
            "log.jsonl",
            "iteration_2.pth",
            "encoder.pth",
            "reconstruction_2.png",
            "events.out.tfevents",
            "recipe.yaml",
            "record.json",
            "results.csv",
        ],
    )
    def test_a_full_disk_while_pretraining(self, small: Path, pretrained: Path, tmp_path: Path, full: str) -> None:
        with FullDisk(tmp_path, full) as disk:
            message = refusal(*pretrain(small / "unlabelled", tmp_path))
        assert disk.hits, "nothing of that name was written"
        assert str(tmp_path) in message and "No space left" in message.replace("no space is left", "No space left")
        assert_nothing_is_half_written(tmp_path)
        assert call(*pretrain(small / "unlabelled", tmp_path)).exit_code == 0
        assert comparable(record_of(tmp_path)) == comparable(record_of(pretrained))
        assert len(pd.read_csv(tmp_path / "results.csv")) == 1

    def test_the_engines_own_log_is_given_up_in_silence(self, small: Path, tmp_path: Path) -> None:
        with FullDisk(tmp_path, "engine.log") as disk:
            result = call(*pretrain(small / "unlabelled", tmp_path))
        assert disk.hits and result.exit_code == 0
        assert "Traceback" not in result.output and "No space left" not in result.output

    @pytest.mark.parametrize("full", ["per_image.csv", "record.json", "results.csv"])
    def test_a_full_disk_after_fine_tuning(
        self, small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
    ) -> None:
        arguments = run(small, tmp_path, f"mae_vit_mini={encoder}")
        with FullDisk(tmp_path, full) as disk:
            message = refusal(*arguments)
        assert disk.hits and full in message and "no space is left" in message
        assert_nothing_is_half_written(tmp_path)
        hide_training(monkeypatch)
        assert call(*arguments).exit_code == 0
        assert comparable(record_of(tmp_path)) == comparable(record_of(finished))
        assert set(pd.read_csv(tmp_path / "results.csv")["metric"]) == {"top1", "top5", "loss"}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(small: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(38 << 20))
        message = refusal(*pretrain(small / "unlabelled", disk / "out"))
        assert "iteration_2.pth: cannot be written (No space left on device). Make room" in message
        assert_nothing_is_half_written(disk / "out")
        ballast.unlink()
        assert call(*pretrain(small / "unlabelled", disk / "out")).exit_code == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


class TestRepeating:
    def test_a_finished_run_is_skipped(
        self, small: Path, encoder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "tasks.classification.task.fine_tune", lambda *arguments, **options: pytest.fail("ran again")
        )
        before = record_of(finished)
        result = call(*run(small, finished, f"mae_vit_mini={encoder}"))
        assert result.exit_code == 0 and "finished before; nothing to do" in result.output
        assert f"top1 {before['metrics'][0]['value']:.2f}" in result.output
        assert record_of(finished) == before

    def test_without_its_record_only_the_evaluation_is_repeated(
        self, small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = Path(shutil.copytree(finished, tmp_path / "out"))
        before = record_of(out)
        (directory_of(out) / "record.json").unlink()
        hide_training(monkeypatch)
        assert call(*run(small, out, f"mae_vit_mini={encoder}")).exit_code == 0
        assert comparable(record_of(out)) == comparable(before)

    def test_two_processes_do_not_share_a_run(self, small: Path, finished: Path, encoder: Path, tmp_path: Path) -> None:
        out = Path(shutil.copytree(finished, tmp_path / "out"))
        (directory_of(out) / "record.json").unlink()
        with (directory_of(out) / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            message = refusal(*run(small, out, f"mae_vit_mini={encoder}"))
        assert message == f"{directory_of(out)}: another process is at work on this run. Wait for it"

    def test_a_broken_record_is_named(self, small: Path, encoder: Path, finished: Path, tmp_path: Path) -> None:
        out = Path(shutil.copytree(finished, tmp_path / "out"))
        record = directory_of(out) / "record.json"
        record.write_text('{"task": ')
        for arguments in (["table", out, "--layout", "imagenet"], run(small, out, f"mae_vit_mini={encoder}")):
            message = refusal(*arguments)
            assert message.startswith(f"{record}: not a record") and "Delete the file and repeat" in message


class TestInterruption:
    @pytest.fixture
    def started(self) -> Iterator[list[subprocess.Popen[str]]]:
        processes: list[subprocess.Popen[str]] = []
        yield processes
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def interrupt(
        self, started: list[subprocess.Popen[str]], arguments: list[object], happened: Callable[[], bool]
    ) -> str:
        """Press Ctrl-C, which reaches the whole process group, once `happened()`; what was printed after exit 130."""
        command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # a shell's background jobs ignore Ctrl-C, and so would what they start
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        deadline = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < deadline
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 130, output
        assert "Traceback" not in output
        return output

    def test_ctrl_c_while_pretraining(self, small: Path, tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
        arguments = pretrain(
            small / "unlabelled", tmp_path, schedule__epochs=10_000, runtime__workers=1, runtime__log_every=1
        )
        output = self.interrupt(started, arguments, lambda: any(tmp_path.rglob("iteration_*.pth")))
        assert "backbench: interrupted; repeat the command to go on from the last checkpoint" in output
        assert_nothing_is_half_written(tmp_path)

    def test_ctrl_c_while_the_demo_draws(self, tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
        arguments = ["demo", "--out", tmp_path / "demo"]
        output = self.interrupt(started, arguments, lambda: any(tmp_path.rglob("*.jpg")))
        assert "backbench: interrupted; repeat the command" in output

    def test_ctrl_c_while_drawing_processes_are_started(self, tmp_path: Path) -> None:
        """The signal waits until all are started; then what has not begun must not be drawn."""
        moment = Moment("concurrent.futures.process.ProcessPoolExecutor.submit")
        arguments = ["data", "mini", str(tmp_path / "mini"), "--unlabelled", "4000"]
        assert backbench(arguments, tmp_path / "log", moment, signal.SIGINT) == 130
        assert len(list((tmp_path / "mini").rglob("*.jpg"))) < 3000


class TestTables:
    @pytest.mark.parametrize(("format", "expected"), [("md", "| "), ("csv", ","), ("latex", "\\begin{tabular}")])
    def test_every_format(self, finished: Path, format: str, expected: str) -> None:
        result = call("table", finished, "--layout", "imagenet", "--format", format)
        assert result.exit_code == 0
        assert expected in result.output
        assert f"{record_of(finished)['metrics'][0]['value']:.1f}" in result.output

    def test_without_runs(self, tmp_path: Path) -> None:
        message = refusal("table", tmp_path / "gone", "--layout", "imagenet")
        assert message.startswith(f"{tmp_path}/gone: no such directory")
        assert "no finished runs found. Expected record.json" in refusal("table", tmp_path, "--layout", "imagenet")


class TestTheRest:
    @pytest.mark.parametrize(
        ("what", "expected"),
        [
            ("backbones", "random_vit_mini"),
            ("methods", "MoCo v3"),
            ("recipes", "mini_classification"),
            ("datasets", "imagenet1k"),
        ],
    )
    def test_lists(self, what: str, expected: str) -> None:
        result = call("list", what)
        assert result.exit_code == 0 and expected in result.output

    def test_data_mini_recognises_its_own(self, tmp_path: Path) -> None:
        sizes = ["--unlabelled", 8, "--train", 8, "--val", 8, "--coco-train", 8, "--coco-val", 8]
        root = tmp_path / "mini"
        assert "drawn" in call("data", "mini", root, *sizes).output
        again = call("data", "mini", root, *sizes)
        assert again.exit_code == 0 and "complete already" in again.output
        assert "with unlabelled 8, not 4" in refusal("data", "mini", root, "--unlabelled", 4, *sizes[2:])

    def test_data_mini_leaves_foreign_folders_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        message = refusal("data", "mini", tmp_path)
        assert message == f"{tmp_path}: not empty, and not written by `backbench data mini`. Choose a new folder."
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
        assert 'level "rough": no such level' in refusal("data", "mini", tmp_path / "new", "--level", "rough")

    def test_doctor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise ImportError("libGL.so.1: cannot open shared object file")

        monkeypatch.setattr("benchmarks.commands.doctor.TRIALS", {"pre-training": lambda: None})
        healthy = call("doctor")
        assert healthy.exit_code == 0 and "works  pre-training" in healthy.output
        monkeypatch.setattr("benchmarks.commands.doctor.TRIALS", {"pre-training": broken})
        ill = call("doctor")
        assert ill.exit_code == 1 and "fails  pre-training: ImportError: libGL.so.1" in ill.output
