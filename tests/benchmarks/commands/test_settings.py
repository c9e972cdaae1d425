"""Settings that do not fit, and those that are made to fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.commands import read_record
from tests.support.in_process import pretrain, refusal, refusal_before_training, run, success


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
        (
            {"schedule__warmup_epochs": 1},
            "the warm-up (1) must be shorter than the training (1), both in epochs. Shorten",
        ),
        ({"optimizer__base_lr": 1e38}, "training has diverged. Lower the learning rate"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    small: Path, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    if torch.cuda.is_available() and "precision" in changes:
        pytest.skip("a GPU has fp16")
    assert expected in refusal(*run(small, tmp_path / "out", **changes), status=4 if "diverged" in expected else 2)


@pytest.mark.parametrize("changes", [{"model__image_size": 50}, {"augment__rand_augment": "strong"}])
def test_a_run_that_never_began_leaves_no_directory(small: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    (tmp_path / "out").mkdir()
    refusal(*run(small, tmp_path / "out", **changes))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mask_that_hides_everything_is_refused_before_training(small: Path, tmp_path: Path) -> None:
    message = refusal(*pretrain(small / "unlabelled", tmp_path, model__mask_ratio=0.999))
    assert message.startswith("mask_ratio 0.999 keeps 0 of 36 patches. Expected a ratio")
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked_before_a_million_images_are(copied: Path, tmp_path: Path) -> None:
    next((copied / "val/arrow").iterdir()).write_bytes(b"")
    assert "patch size" in refusal(*run(copied, tmp_path / "out", model__image_size=50))


@pytest.mark.parametrize("command", [run, pretrain])
def test_compiling_without_a_compiler_is_refused_before_the_data_is_read(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended in a traceback at the first step."""
    monkeypatch.setattr("backbones.training.compiling.shutil.which", lambda name: None)
    message = refusal(*command(tmp_path / "nothing", tmp_path / "out", runtime__compile="true"))
    assert message.startswith('key "runtime.compile": torch.compile needs a C')


def test_another_image_size_than_the_checkpoints_is_interpolated(small: Path, encoder: Path, tmp_path: Path) -> None:
    success(*run(small, tmp_path, f"mae_vit_mini={encoder}", model__image_size=64))
    report = read_record(tmp_path)["load_report"]
    assert "pos_embed" in report["converted"]


def test_a_batch_larger_than_the_training_set_is_refused_before_training(small: Path, tmp_path: Path) -> None:
    """It was filled up with the same images again."""
    images = len([*(small / "train").glob("*/*")])
    too_many = {"optimizer__batch_size": images + 2, "runtime__batch_per_device": 1}
    message = refusal_before_training(*run(small, tmp_path / "out", **too_many))
    assert f"an update takes {images + 2} images, and the training set has {images}" in message
    assert f"Set optimizer.batch_size to {images} or less" in message
    message = refusal_before_training(*pretrain(small / "unlabelled", tmp_path / "out", optimizer__batch_size=40))
    assert "an update takes 40 images, and the training set has 32" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_running_out_of_memory_says_what_to_lower(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def step(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("backbones.pretraining.steps.PretrainingStep.forward", step)
    message = refusal(*pretrain(small / "unlabelled", tmp_path), status=75)
    assert message.startswith("out of memory. Set runtime.activation_checkpointing=true, which keeps the numbers; or")
    assert "gradients accumulate, but batch norm and mixup then see fewer images" in message
