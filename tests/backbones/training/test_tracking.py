"""What trackers are shown of a run, over kills and resumes, and that they neither stop nor change it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backbones.errors import InputError
from backbones.training.settings import validate
from backbones.training.trackers import tracking
from backbones.training.trackers.tracking import LOGGED, Tracking, conclude, require_trackers, tracked
from tests.backbones.training.test_evaluation import Errors, KilledAt, KilledError, points_on_the_board, train
from tests.support.points_runs import PointsRecipe, recipe
from tests.support.trackers import Recorder, record, run_in


def logged(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody tracks."""
    directory = tmp_path_factory.mktemp("alone")
    train(directory, Errors())
    return directory


def test_they_are_shown_what_tensorboard_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an update is one step or two."""
    for part, per_device in (("whole", 6), ("shared", 3)):
        directory, shown = tmp_path / part, record(monkeypatch, Recorder())
        train(directory, Errors(), every_epochs=1, trackers=["wandb"], log_every=2, batch_per_device=per_device)
        names = {name for _, figures in shown.shown for name in figures}
        assert names == {"train/loss", "train/lr", "train/images_per_second", "val/error"}
        for name in names:
            points = {update: figures[name] for update, figures in shown.shown if name in figures}
            assert points == pytest.approx(points_on_the_board(directory, name), rel=1e-6)
        assert shown.updates("val/error") == [4, 8]
        assert shown.finished == [("finished", {})]


def test_of_a_recipe_that_names_none_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = record(monkeypatch, Recorder())
    train(tmp_path, Errors())
    assert not shown.begun and not (tmp_path / LOGGED).exists()


@pytest.mark.parametrize("killed_at", [3, 7])
def test_a_killed_run_shows_no_update_twice_and_none_before_the_last(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from its checkpoint after the fourth update, or from the beginning."""
    shown, options = record(monkeypatch, Recorder()), {"trackers": ["wandb"], "log_every": 1, "every_epochs": 1}
    with pytest.raises(KilledError):
        train(tmp_path, Errors(), hooks=[KilledAt(killed_at)], kept=("found",), **options)
    before = shown.updates("train/loss")
    assert before == [*range(1, killed_at)]
    train(tmp_path, Errors(), kept=("found",), **options)
    assert shown.updates("train/loss") == [*range(1, 9)]
    assert shown.updates("val/error") == [4, 8]
    updates = [update for update, _ in shown.shown]
    assert updates == sorted(updates)
    assert [known for _, known in shown.begun] == ["", "one"]
    assert [status for status, _ in shown.finished] == ["failed", "finished"]
    train(tmp_path, Errors(), kept=("found",), **options)  # once more, of a training that is complete
    assert [update for update, _ in shown.shown] == updates


def test_the_note_of_what_was_shown_comes_before_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the process is killed, no figure is shown again."""
    recorder = record(monkeypatch, Recorder())
    monkeypatch.setattr(recorder, "log", lambda update, figures: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Errors(), trackers=["wandb"])
    assert json.loads((tmp_path / LOGGED).read_text()) == {"wandb": {"id": "one", "logged": {"train": 3}}}
    assert recorder.finished == [("interrupted", {})]


def test_a_tracker_that_has_the_run_under_another_id_is_shown_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(monkeypatch, Recorder())
    train(tmp_path, Errors(), trackers=["wandb"])
    other = record(monkeypatch, Recorder(id="two"))
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    train(tmp_path, Errors(), trackers=["wandb"])
    assert other.updates("train/loss") == [3, 4, 6, 8]


@pytest.mark.parametrize("content", ["", "[]", '{"wandb": 1}', '{"wandb": {"id": "x"}}', '{"wandb": {"id": 3, "log'])
def test_a_broken_note_is_begun_anew(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = record(monkeypatch, Recorder())
    (tmp_path / LOGGED).write_text(content)
    tracking_ = Tracking(run_in(tmp_path, "wandb"))
    tracking_.begin()
    tracking_.log("train", 1, {"loss": 0.5})
    assert shown.begun == [(tracking_.run, "")] and shown.updates("train/loss") == [1]


@pytest.mark.parametrize("call", ["begin", "log", "finish"])
def test_one_that_fails_is_told_of_once_and_changes_nothing(
    call: str, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(monkeypatch, Recorder(fail_in=call))
    other = record(monkeypatch, Recorder(), "mlflow")
    train(tmp_path, Errors(), trackers=["wandb", "mlflow"])
    assert [line["loss"] for line in logged(tmp_path)] == [line["loss"] for line in logged(alone)]
    complaint = f"backbench: {tmp_path}: wandb failed (no route in {call} and more); the run goes on without it\n"
    assert capsys.readouterr().err.count(complaint) == 1
    assert other.updates("train/loss") == [3, 4, 6, 8] and other.finished == [("finished", {})]


def test_where_nothing_can_be_noted_they_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = record(monkeypatch, Recorder())
    (tmp_path / LOGGED / "folder").mkdir(parents=True)
    train(tmp_path, Errors(), trackers=["wandb"])
    assert not shown.shown
    assert f"{tmp_path}: wandb failed (" in capsys.readouterr().err


def test_of_several_processes_the_first_alone_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = record(monkeypatch, Recorder())
    for rank in ("1", "0"):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        all_of_it = Tracking(run_in(tmp_path, "wandb"))
        all_of_it.begin()
        all_of_it.log("train", 1, {"loss": 0.5})
        all_of_it.finish("finished")
        assert len(shown.begun) == len(shown.shown) == len(shown.finished) == (rank == "0")


def test_what_came_of_the_run_is_told_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the training is one part of it, and another failure than an interruption is one."""
    shown = record(monkeypatch, Recorder())
    with tracked(run_in(tmp_path, "wandb")):
        train(tmp_path, Errors(), trackers=["wandb"])
        assert not shown.finished
        conclude({"top1": 83.6})
    conclude({"top1": 0.0})  # of a run that is not tracked
    assert [run.name for run, _ in shown.begun] == ["run"]
    assert shown.finished == [("finished", {"final/top1": 83.6})]
    for error, status in ((KeyboardInterrupt, "interrupted"), (InputError, "failed")):
        with pytest.raises(error), tracked(run_in(tmp_path, "wandb")) as tracking_:
            tracking_.begin()
            raise error
        assert shown.finished[-1] == (status, {})


def test_a_package_that_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"wandb": SimpleNamespace(origin="here")}
    monkeypatch.setattr(tracking, "find_spec", there.get)
    require_trackers(["wandb"])
    with pytest.raises(InputError, match=r"the package mlflow is not installed.*pip install 'backbench\[trackers\]'"):
        require_trackers(["mlflow"])
    require_trackers([])


def test_wandbs_folder_of_runs_is_not_taken_for_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb/offline-run").mkdir(parents=True)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(InputError, match="the package wandb is not installed"):
        require_trackers(["wandb"])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            "wandb",
            r"expected names in brackets, for example 'runtime.trackers=\[wandb,mlflow\]'; found 'wandb' \(str\)",
        ),
        (["comet"], r"\"runtime.trackers.0\": Input should be 'wandb' or 'mlflow'; found 'comet'"),
    ],
)
def test_what_is_no_list_of_trackers_is_told(given: object, complaint: str) -> None:
    settings = recipe().model_dump(mode="json")
    with pytest.raises(InputError, match=complaint):
        validate(PointsRecipe, settings | {"runtime": {"trackers": given}}, "recipe")
