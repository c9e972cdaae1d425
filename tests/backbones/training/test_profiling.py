"""`runtime.profile`: a trace of a few steps, whole under its name, which changes no number and ends no run."""

import gzip
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.training import profiling
from backbones.training.job import Job, run_job
from backbones.training.profiling import ProfileHook
from tests.support.points_runs import Points, recipe


class Regression(BaseModel):
    """A call may be the last that succeeds."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Linear(6, 1)
        self.stop_at, self.calls = stop_at, 0

    def forward(self, points: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return {"loss": (self.network(points)[:, 0] - points.sum(1)).square().mean()}


def train(directory: Path, epochs: int = 6, profile: bool = True, model: Regression | None = None) -> list[Tensor]:
    """Four updates an epoch; the weights at the end."""
    model = model or Regression()
    groups = [{"params": [*model.network.parameters()]}]
    settings = recipe(schedule={"epochs": epochs}, runtime={"profile": profile, "checkpoint_every": 2})
    run_job(Job(model, Points(), groups, settings, directory, seed=0, title="test"))
    return [parameter.detach() for parameter in model.parameters()]


def traces(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("profile/*"))


def steps(path: Path) -> Iterator[str]:
    """What the trace marks as steps of training."""
    events: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return (event["name"] for event in events if event.get("name", "").startswith("ProfilerStep"))


def test_a_few_steps_are_recorded_and_no_number_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = train(tmp_path / "recorded")
    assert traces(tmp_path / "recorded") == ["steps_13-16.json.gz"]
    path = tmp_path / "recorded/profile/steps_13-16.json.gz"
    assert len({*steps(path)}) == 4
    assert f"steps 13 to 16 in {path}" in capsys.readouterr().err
    free = train(tmp_path / "free", profile=False)
    assert not traces(tmp_path / "free")
    assert all(torch.equal(*pair) for pair in zip(recorded, free, strict=True))


@pytest.mark.parametrize(("epochs", "name"), [(1, "steps_1-4.json.gz"), (2, "steps_5-8.json.gz")])
def test_a_short_run_is_recorded_earlier(epochs: int, name: str, tmp_path: Path) -> None:
    train(tmp_path, epochs)
    assert traces(tmp_path) == [name]


def test_a_part_of_a_run_that_ends_meanwhile_leaves_what_there_is_and_the_next_its_own(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, model=Regression(stop_at=15))
    assert traces(tmp_path) == ["steps_13-14.json.gz"]
    train(tmp_path)  # from update 14 on, ten more
    assert traces(tmp_path) == ["steps_13-14.json.gz", "steps_21-24.json.gz"]
    train(tmp_path)
    assert len(traces(tmp_path)) == 2


def test_one_that_ends_before_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, model=Regression(stop_at=12))
    assert traces(tmp_path) == []


def test_an_evaluation_on_the_way_is_not_recorded(tmp_path: Path) -> None:
    """Of COCO's it would be a trace of gigabytes."""
    hook, runner = ProfileHook(tmp_path), SimpleNamespace(max_iters=40, iter=0)
    hook.before_train(runner)
    for step in range(14):
        torch.zeros(1).mul_(1)
        hook.after_train_iter(runner, step)
    hook.before_val_epoch(runner)
    torch.zeros(1).add_(1)
    assert traces(tmp_path) == ["steps_13-14.json.gz"]
    trace = gzip.decompress((tmp_path / "profile/steps_13-14.json.gz").read_bytes())
    assert b"aten::mul_" in trace and b"aten::add_" not in trace


def test_a_trace_for_which_there_is_no_room_on_the_way_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The profiler, which writes below /tmp, says nothing of that: an empty file was called a trace."""
    export = profiling.profile.export_chrome_trace

    def without_room(recorded: Any, path: str) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            export(recorded, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(profiling.profile, "export_chrome_trace", without_room)
    train(tmp_path)
    assert traces(tmp_path) == []
    assert "steps_13-16.json.gz could not be written: no room for it in " in capsys.readouterr().err


def test_a_trace_that_was_cut_off_behind_an_event_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Events end as the whole does: one in a hundred of those that were cut off was called a trace."""
    export = profiling.profile.export_chrome_trace

    def cut_off(recorded: Any, path: str) -> None:
        export(recorded, path)
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: whole.rindex(b"},") + 1])

    monkeypatch.setattr(profiling.profile, "export_chrome_trace", cut_off)
    train(tmp_path)
    assert traces(tmp_path) == []
    assert "steps_13-16.json.gz could not be written: no room for it in " in capsys.readouterr().err


def test_other_processes_record_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "process_rank", lambda: 1)
    train(tmp_path)
    assert traces(tmp_path) == []


def test_a_trace_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "profile").write_text("no folder")
    train(tmp_path)
    assert "steps_13-16.json.gz could not be written: " in capsys.readouterr().err
