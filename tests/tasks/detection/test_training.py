"""Training and evaluating a detector: the moments of hooks, exact resume, precision, and what is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.training.settings import validate
from tasks.detection import task
from tasks.detection.recipe import DetectionRecipe
from tasks.outcome import TaskOutcome
from tests.support.commands import (
    backbench,
    checkpoint_tensors,
    last_checkpoint,
    read_record,
    run_directory,
    tensors,
    torchrun,
)

BACKBONE = "random_vit_mini"
ITERATIONS = 6
EVALUATION_IMAGES = 12


def recipe(**sections: dict[str, Any] | str) -> DetectionRecipe:
    """Six updates of four images on the smallest ViT; a section's settings are laid over the usual ones."""
    usual: dict[str, dict[str, Any]] = {
        "model": {
            "arch": "vit_mini_patch8_48",
            "adapter": "fpn",
            "image_size": 64,
            "window": 4,
            "drop_path": 0.2,
            "channels": 16,
            "anchor_sizes": [8, 16, 24, 32, 48],
            "box_features": 32,
            "regions": 16,
            "proposals": 30,
        },
        "optimizer": {"lr": 2e-3, "batch_size": 4, "layer_decay": 0.75},
        "schedule": {"iterations": ITERATIONS, "warmup_iterations": 2},
        "augment": {"scale": [0.5, 1.5]},
        "evaluation": {},
        "runtime": {"workers": 0, "log_every": 2, "checkpoint_every": 2, "keep_checkpoints": 10},
    }
    fields: dict[str, Any] = {"task": "detection", "dataset": "mini-coco", "source": "none", "precision": "fp32"}
    for name, section in usual.items():
        given = sections.pop(name, {})
        assert isinstance(given, dict)
        fields[name] = {**section, **given}
    return validate(DetectionRecipe, {**fields, **sections}, "test")


def train(mini: Path, directory: Path, settings: DetectionRecipe) -> TaskOutcome:
    """Run a recipe as the command does, results included."""
    directory.mkdir(exist_ok=True)
    outcome = task.fine_tune(settings, mini / "coco", BACKBONE, None, directory, seed=0, normalisation=IMAGENET)
    outcome.write(directory)
    return outcome


def checkpoints(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").glob("*.pth"))


def last(directory: Path, number: int = ITERATIONS) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: weights, statistics, optimizer."""
    return tensors(torch.load(directory / f"checkpoints/iteration_{number}.pth", weights_only=True))


def differing(directory: Path, other: Path, number: int = ITERATIONS) -> list[str]:
    found, expected = last(directory, number), last(other, number)
    assert found.keys() == expected.keys() and len(found) > 300
    return [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])]


def detections(directory: Path) -> str:
    return (directory / task.DETECTIONS).read_text()


@pytest.fixture(scope="module")
def plain(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TaskOutcome]:
    """A run without anything special, and its outcome."""
    directory = tmp_path_factory.mktemp("plain")
    return directory, train(mini, directory, recipe())


class Witness(Hook):
    """Writes down what it is called for; stops the run at one of these moments if asked to."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.calls: list[str] = []
        self.stop_at = stop_at

    def note(self, moment: str) -> None:
        self.calls.append(moment)
        if moment == self.stop_at:
            raise KeyboardInterrupt

    def before_train(self, runner: Any) -> None:
        self.note(f"train from {runner.iter} of {runner.max_iters}")

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: object = None) -> None:
        assert runner.model.training
        self.note(f"step {batch_idx}")

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, torch.Tensor] | None = None
    ) -> None:
        assert outputs is not None
        parts = [value for name, value in outputs.items() if name != "loss"]
        torch.testing.assert_close(outputs["loss"], torch.stack(parts).sum())
        self.note(f"after {batch_idx}, {len(data_batch['inputs'])} images, {len(parts)} losses")

    def before_val_epoch(self, runner: Any) -> None:
        self.note(f"evaluation at {runner.iter}")

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        assert not runner.model.training
        self.note(f"evaluated {batch_idx}")

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        assert metrics
        self.note("scored")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Witness], None]:
    """Let a witness take the place of the hook that draws pictures."""

    def watch(witness: Witness) -> None:
        monkeypatch.setattr(task, "PictureHook", lambda *arguments: witness)

    return watch


def evaluation(at: int) -> list[str]:
    return [f"evaluation at {at}", *(f"evaluated {index}" for index in range(EVALUATION_IMAGES)), "scored"]


def steps(first: int, end: int, images: int = 4) -> list[str]:
    return [text for step in range(first, end) for text in (f"step {step}", f"after {step}, {images} images, 5 losses")]


def test_hooks_are_called_in_their_order(mini: Path, tmp_path: Path, watched: Callable[[Witness], None]) -> None:
    """Also after a stop: the finished evaluation of the checkpoint that it goes on from is told, not made again."""
    settings = recipe(evaluation={"every_iterations": 4})
    watched(stopped := Witness(stop_at="step 5"))
    with pytest.raises(KeyboardInterrupt):
        train(mini, tmp_path, settings)
    assert stopped.calls == ["train from 0 of 6", *steps(0, 4), *evaluation(4), *steps(4, 5), "step 5"]
    watched(resumed := Witness())
    train(mini, tmp_path, settings)
    assert resumed.calls == ["train from 4 of 6", "evaluation at 4", "scored", *steps(4, 6), *evaluation(6)]
    watched(finished := Witness())
    train(mini, tmp_path, settings)
    assert finished.calls == ["train from 6 of 6", "evaluation at 6", "scored"]


@pytest.mark.slow
def test_an_evaluation_on_the_way_changes_nothing(mini: Path, plain: tuple[Path, TaskOutcome], tmp_path: Path) -> None:
    """Neither the weights nor what is reported in the end, which is of the last weights."""
    directory, outcome = plain
    found = train(mini, tmp_path, recipe(evaluation={"every_iterations": 2}))
    assert differing(tmp_path, directory) == []
    assert detections(tmp_path) == detections(directory)
    assert found.metrics == outcome.metrics
    assert found.training.train_loss == outcome.training.train_loss
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["detections_2.png", "detections_4.png", "detections_6.png"]


@pytest.mark.slow
def test_a_loader_process_changes_nothing(mini: Path, plain: tuple[Path, TaskOutcome], tmp_path: Path) -> None:
    train(mini, tmp_path, recipe(runtime={"workers": 1}))
    assert differing(tmp_path, plain[0]) == []
    assert detections(tmp_path) == detections(plain[0])


def test_results_are_whole(plain: tuple[Path, TaskOutcome]) -> None:
    directory, outcome = plain
    assert checkpoints(directory) == ["iteration_2.pth", "iteration_4.pth", "iteration_6.pth"]
    assert len(outcome.image_names) == EVALUATION_IMAGES
    found = json.loads(detections(directory))
    assert found and {type(each["segmentation"]["counts"]) for each in found} == {str}
    assert {path.name for path in directory.glob("*.npz")} == {"matches_AP_box.npz", "matches_AP_mask.npz"}
    log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    assert [entry["iteration"] for entry in log] == [2, 4, 5, 6]  # five are an epoch: an image has no object


@pytest.mark.parametrize("moment", ["after 2, 4 images, 5 losses", "evaluated 3"])
def test_a_resumed_run_ends_the_same(
    mini: Path, plain: tuple[Path, TaskOutcome], tmp_path: Path, watched: Callable[[Witness], None], moment: str
) -> None:
    """Stopped in the middle of training, after a step whose checkpoint is not due, and in the last evaluation."""
    directory, expected = plain
    watched(Witness(stop_at=moment))
    with pytest.raises(KeyboardInterrupt):
        train(mini, tmp_path, recipe())
    assert not (tmp_path / task.DETECTIONS).exists()
    assert checkpoints(tmp_path)[-1] == ("iteration_2.pth" if moment.startswith("after") else "iteration_6.pth")
    watched(Witness())
    outcome = train(mini, tmp_path, recipe())
    assert differing(tmp_path, directory) == []
    assert detections(tmp_path) == detections(directory)
    assert outcome.metrics == expected.metrics
    assert outcome.training.train_loss == expected.training.train_loss


def test_accumulated_steps_make_the_checkpoints_of_whole_updates(
    mini: Path, tmp_path: Path, watched: Callable[[Witness], None]
) -> None:
    watched(witness := Witness())
    settings = recipe(
        schedule={"iterations": 2, "warmup_iterations": 0},
        runtime={"batch_per_device": 2, "checkpoint_every": 1},
        evaluation={"every_iterations": 1},
    )
    train(mini, tmp_path, settings)
    assert checkpoints(tmp_path) == ["iteration_1.pth", "iteration_2.pth"]
    assert witness.calls[0] == "train from 0 of 4"
    assert witness.calls[1:] == [*steps(0, 2, 2), *evaluation(2), *steps(2, 4, 2), *evaluation(4)]
    states = torch.load(tmp_path / "checkpoints/iteration_2.pth", weights_only=True)["optimizer"]["state"]
    assert {float(state["step"]) for state in states.values()} == {2.0}


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_activation_checkpointing_gives_the_same_weights(mini: Path, tmp_path: Path, adapter: str) -> None:
    for name, switch in (("kept", False), ("recomputed", True)):
        settings = recipe(
            model={"adapter": adapter},
            schedule={"iterations": 2, "warmup_iterations": 0},
            runtime={"activation_checkpointing": switch},
        )
        train(mini, tmp_path / name, settings)
    assert differing(tmp_path / "recomputed", tmp_path / "kept", 2) == []


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_bf16_trains_and_evaluates_in_single_precision(
    mini: Path, tmp_path: Path, adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """detectron2 samples masks on a grid of their own precision, and evaluates in single precision."""
    kinds: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    build = task.build_detector

    def watched_build(*arguments: Any) -> Any:
        detector = build(*arguments)
        mask_head = detector.roi_heads.mask_head
        mask_head.predictor.register_forward_hook(lambda _, inputs, output: kinds[detector.training].add(output.dtype))
        return detector

    monkeypatch.setattr(task, "build_detector", watched_build)
    short = {"iterations": 2, "warmup_iterations": 0}
    outcome = train(mini, tmp_path, recipe(model={"adapter": adapter}, schedule=short, precision="bf16"))
    assert outcome.training.precision == "bf16"
    assert kinds == {True: {torch.bfloat16}, False: {torch.float32}}
    assert all(torch.isfinite(tensor).all() for tensor in last(tmp_path, 2).values())
    assert {tensor.dtype for tensor in last(tmp_path, 2).values()} <= {torch.float32, torch.int64}


def test_divergence_is_one_message(mini: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whether detectron2 notices it, whose proposals are no numbers, or the loss does; the checkpoints stay sound."""
    settings = recipe(optimizer={"lr": 1e9}, schedule={"warmup_iterations": 0}, runtime={"checkpoint_every": 1})
    with pytest.raises(InputError, match=r"training has diverged.* Lower optimizer\.lr") as raised:
        train(mini, tmp_path, settings)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in "".join(capfd.readouterr())
    assert not (tmp_path / task.DETECTIONS).exists()
    for path in (tmp_path / "checkpoints").iterdir():
        assert torch.load(path, weights_only=True)["updates"] >= 1


def test_nothing_but_progress_is_said(mini: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By detectron2, and by mmengine, whose log is in a file."""
    train(mini, tmp_path, recipe(evaluation={"every_iterations": 4}))
    said = capfd.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines and all(line.endswith(" s left") for line in lines), said.err
    assert (tmp_path / "engine/engine.log").is_file()
    shutil.rmtree(tmp_path / "engine")
    print_log("what comes later is not of this run", "current")


def command(mini: Path, out: Path, **settings: Any) -> list[str]:
    """`backbench run` of the recipe above, one step long: two processes draw regions other than one process would."""
    backbone = settings.pop("backbone", BACKBONE)
    short = {"iterations": 1, "warmup_iterations": 0}
    content = recipe(model={"drop_path": 0.0, **settings}, schedule=short).model_dump(mode="json")
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(content))  # which is YAML too
    return ["run", "--recipe", str(path), "--data", str(mini / "coco"), "--backbone", backbone, "--out", str(out)]


def evaluate_again(arguments: list[str], out: Path) -> str:
    """The detections of the last checkpoint below `out`, found by one process."""
    for name in ("record.json", task.DETECTIONS):
        (run_directory(out) / name).unlink()
    assert backbench(arguments, out.with_suffix(".log")) == 0
    return detections(run_directory(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"adapter": "fpn"}, id="fpn"),
        pytest.param({"adapter": "simple"}, id="simple"),
        pytest.param({"adapter": "fpn", "backbone": "resnet18"}, id="a trunk with statistics of its own"),
    ],
)
def test_two_processes(mini: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Each evaluation image counts once, and the one checkpoint tells all that the detections came from."""
    out = tmp_path / "together"
    arguments = command(mini, out, **settings)
    assert "Warning" not in torchrun(arguments)
    record, directory = read_record(out), run_directory(out)
    assert record["world_size"] == 2
    assert {metric["n_eval"] for metric in record["metrics"]} == {EVALUATION_IMAGES}
    assert last_checkpoint(out).name == "iteration_1.pth"
    found = detections(directory)
    assert json.loads(found)
    assert evaluate_again(arguments, out) == found


@pytest.mark.slow
def test_statistics_are_those_of_all_processes_images(mini: Path, tmp_path: Path) -> None:
    """The FPN's, after one step, are those of one process with all images; PyTorch divides variances by one less."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert backbench(command(mini, alone), tmp_path / "log") == 0
    torchrun(command(mini, together))
    expected, found = checkpoint_tensors(alone), checkpoint_tensors(together)
    for level in (2, 3, 4, 5):
        count = 4 * (64 // 2**level) ** 2
        for layer in ("lateral", "output"):
            name = f".model.detector.backbone.fpn_{layer}{level}.norm.running"
            torch.testing.assert_close(found[f"{name}_mean"], expected[f"{name}_mean"], rtol=1e-4, atol=1e-6)
            new, other = (values[f"{name}_var"] - 0.9 for values in (found, expected))
            torch.testing.assert_close(new, other * (count - 1) / count, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_processes_in_bf16_stay_sound(mini: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    torchrun([*command(mini, out, adapter="fpn"), "--set", "precision=bf16", "--set", "schedule.iterations=3"])
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint_tensors(out).values())
    assert read_record(out)["precision"] == "bf16"
