"""Every kind of job from command to record on a GPU that is only claimed: see `tests.support.rehearsal`.

Loaders, copies to the device, steps under autocast, fused AdamW, checkpoints, evaluation, metrics, pictures.
"""

from pathlib import Path
from typing import Any

import torch

from tests.support import detection_runs, segmentation_runs
from tests.support.commands import read_record, run_directory
from tests.support.in_process import pretrain, run, success
from tests.support.rehearsal import ENLARGING, rehearsal

BF16, FP16, FP32 = {torch.bfloat16}, {torch.float16}, {torch.float32}
ONE_UPDATE = {"schedule__iterations": 1, "schedule__warmup_iterations": 0}


def test_pretraining(mini: Path, tmp_path: Path) -> None:
    """Two updates and a picture, which is drawn in single precision."""
    with rehearsal() as gpu:
        success(*pretrain(mini / "unlabelled", tmp_path, optimizer__batch_size=160))
    assert (gpu.trained, gpu.evaluated) == (BF16, FP32)
    assert [read_record(tmp_path)[key] for key in ("device", "precision")] == ["a claimed GPU", "bf16"]
    assert list(run_directory(tmp_path).glob("pictures/reconstruction_2.png"))


MIXED: dict[str, Any] = {
    "augment__mixup": 0.8,
    "augment__cutmix": 1.0,
    "augment__random_erasing": 1.0,
    "augment__rand_augment": "rand-m9-mstd0.5-inc1",
}


def test_classification_in_half_precision_goes_on_from_a_checkpoint(mini: Path, tmp_path: Path) -> None:
    """With scaled losses, clipped gradients, and two steps an update."""
    half = {"precision": "fp16", "optimizer__clip_grad_norm": 1.0, "runtime__batch_per_device": 32}
    half |= {"optimizer__batch_size": 64, "schedule__epochs": 2, "runtime__checkpoint_every": 1}
    arguments = run(mini, tmp_path, **half, **MIXED)
    for _ in range(2):
        with rehearsal() as gpu:
            success(*arguments)
        assert (gpu.trained, gpu.evaluated) == (FP16, FP16)
        assert read_record(tmp_path)["device"] == "a claimed GPU"
        (run_directory(tmp_path) / "checkpoints/iteration_2.pth").unlink()
        (run_directory(tmp_path) / "record.json").unlink()


def test_detection(mini: Path, tmp_path: Path) -> None:
    """Evaluated in single precision, as detectron2 does."""
    scenes = detection_runs.few_scenes(mini / "coco", tmp_path / "scenes", val=[1])
    settings = {"model__relative_position": True, "model__window": 4} | ONE_UPDATE
    with rehearsal() as gpu:
        success(*detection_runs.detection(scenes, tmp_path / "out", **settings))
    assert (gpu.trained, gpu.evaluated) == (BF16, FP32)
    assert read_record(tmp_path / "out")["device"] == "a claimed GPU"


def test_segmentation(mini: Path, tmp_path: Path) -> None:
    """Evaluated in single precision and in windows. Logits for the loss are enlarged in single precision too."""
    scenes = segmentation_runs.few_scenes(mini / "ade20k", tmp_path / "scenes", val=[1])
    settings = {"model__relative_position": True, "model__layer_scale": 1.0} | ONE_UPDATE
    with rehearsal() as gpu, gpu.leaving_out(ENLARGING):
        success(*segmentation_runs.segmentation(scenes, tmp_path / "out", **settings))
    assert (gpu.trained, gpu.evaluated) == (BF16, FP32)
    assert read_record(tmp_path / "out")["device"] == "a claimed GPU"
