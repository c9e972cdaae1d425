"""When a training is evaluated, what becomes of the metrics, and whose statistics count where processes differ."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from backbones.errors import DivergedError
from backbones.training.job import Evaluation, Job, run_job
from tests.support.points_runs import POINTS, KilledAt, KilledError, Points, recipe


class Normalised(BaseModel):
    """Predict the sum of a point's coordinates, with a batch norm that knows of no other process."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 1))

    def forward(self, points: Tensor, mode: str, **about: object) -> Any:
        assert self.training == (mode == "loss")
        errors = (self.network(points)[:, 0] - points.sum(1)).square()
        return {"loss": errors.mean()} if mode == "loss" else [{"errors": errors}]


class Errors(BaseMetric):
    """The mean over all points, and all that it has been; `fail_at` is the evaluation that is stopped."""

    default_prefix = ""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.fail_at, self.found = fail_at, list[float]()

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results.extend(data_samples[0]["errors"].tolist())

    def evaluate(self, size: int) -> dict[str, float]:
        if len(self.found) + 1 == self.fail_at:
            raise KeyboardInterrupt
        errors = [error for part in all_gather_object(self.results) for error in part]
        assert len(errors) == size == POINTS
        self.results.clear()
        self.found.append(sum(errors) / size)
        return self.compute_metrics(self.found)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"error": results[-1]}


def train(
    directory: Path,
    metric: Errors,
    every_epochs: int | None = None,
    kept: tuple[str, ...] = (),
    hooks: Sequence[Hook] = (),
    model: Normalised | None = None,
    **runtime: object,
) -> dict[str, float]:
    model = model or Normalised()
    evaluation = Evaluation(Points(), metric, batch_size=5, every_epochs=every_epochs, kept=kept)
    groups = [{"params": list(model.network.parameters())}]
    job = Job(model, Points(), groups, recipe(runtime=runtime), directory, 0, "test", evaluation, hooks)
    return run_job(job).metrics


def points_on_the_board(directory: Path, name: str = "val/error") -> dict[int, float]:
    """A figure by step, as TensorBoard shows it, once each."""
    board = EventAccumulator(str(directory / "tensorboard"))
    board.Reload()
    events = board.Scalars(name)
    points = {event.step: event.value for event in events}
    assert len(points) == len(events)
    return points


def test_the_outcome_is_what_the_evaluation_at_the_end_gave(tmp_path: Path) -> None:
    metric = Errors()
    assert train(tmp_path, metric, every_epochs=1) == {"error": metric.found[1]}
    assert len(set(metric.found)) == 2
    assert points_on_the_board(tmp_path) == pytest.approx({4: metric.found[0], 8: metric.found[1]}, rel=1e-6)
    again = Errors()
    assert train(tmp_path, again, every_epochs=1) == {"error": metric.found[1]}
    assert again.found == metric.found[1:]  # once, of a training that was complete


def test_an_evaluation_at_the_end_alone(tmp_path: Path) -> None:
    whole, last = Errors(), Errors()
    train(tmp_path / "whole", whole, every_epochs=1)
    assert train(tmp_path / "last", last) == {"error": whole.found[1]}
    assert last.found == whole.found[1:]


@pytest.mark.parametrize(("stopped", "missed"), [(1, [0, 1]), (2, [1])])
def test_a_stopped_evaluation_is_made_again(tmp_path: Path, stopped: int, missed: list[int]) -> None:
    """The first after the fourth step, of eight, whose checkpoint the run goes on from; or the one at the end."""
    whole, resumed = Errors(), Errors()
    expected = train(tmp_path / "whole", whole, every_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", Errors(fail_at=stopped), every_epochs=1)
    assert train(tmp_path / "run", resumed, every_epochs=1) == expected
    assert resumed.found == [whole.found[number] for number in missed]
    for name in ("val/error", "train/loss"):
        assert points_on_the_board(tmp_path / "run", name) == points_on_the_board(tmp_path / "whole", name)


class Shown(Hook):
    """What is told of each evaluation, made or kept."""

    def __init__(self) -> None:
        self.found: list[tuple[int, dict[str, float] | None]] = []

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.found.append((runner.iter, metrics))


@pytest.mark.parametrize(("checkpoint_every", "made_again"), [(4, [1]), (3, [0, 1])])
def test_a_finished_evaluation_on_the_way_is_not_made_again(
    tmp_path: Path, checkpoint_every: int, made_again: list[int]
) -> None:
    """Killed after the fifth update; without a checkpoint of the fourth its evaluation is of weights that are gone."""
    whole, resumed = Errors(), Errors()
    settings: dict[str, Any] = {"every_epochs": 1, "kept": ("found",), "checkpoint_every": checkpoint_every}
    expected = train(tmp_path / "whole", whole, **settings)
    with pytest.raises(KilledError):
        train(tmp_path / "run", Errors(), hooks=[KilledAt(5)], **settings)
    assert (tmp_path / "run/checkpoints/evaluation.pt").is_file()
    evaluated, shown = count_evaluations(resumed), Shown()
    assert train(tmp_path / "run", resumed, hooks=[shown], **settings) == expected
    assert len(evaluated) == len(made_again)
    assert resumed.found == whole.found
    assert shown.found == [(4, {"error": whole.found[0]}), (8, expected)]


class Looks(Hook):
    """What TensorBoard shows once an evaluation is told of; a process that is killed adds nothing to it."""

    priority = "LOWEST"

    def __init__(self, directory: Path) -> None:
        self.directory, self.seen = directory, list[dict[int, float]]()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.seen.append(points_on_the_board(self.directory))


@pytest.mark.parametrize("per_device", [6, 2])
def test_an_evaluation_is_on_the_board_at_once_and_stays(tmp_path: Path, per_device: int) -> None:
    """Also where it was the last: what repeats the command shows it again."""
    settings: dict[str, Any] = {"every_epochs": 1, "kept": ("found",), "batch_per_device": per_device}
    metric, looks = Errors(), Looks(tmp_path)
    train(tmp_path, metric, hooks=[looks], **settings)
    first, last = (pytest.approx(error, rel=1e-6) for error in metric.found)
    assert looks.seen == [{4: first}, {4: first, 8: last}]
    losses = points_on_the_board(tmp_path, "train/loss")
    train(tmp_path, Errors(), **settings)
    assert points_on_the_board(tmp_path) == {4: first, 8: last}
    assert points_on_the_board(tmp_path, "train/loss") == losses


def test_a_finished_evaluation_at_the_end_is_not_made_again(tmp_path: Path) -> None:
    first, again = Errors(), Errors()
    expected = train(tmp_path, first, kept=("found",))
    evaluated = count_evaluations(again)
    assert train(tmp_path, again, kept=("found",)) == expected
    assert (evaluated, again.found) == ([], first.found)


def test_an_unreadable_evaluation_is_made_again(tmp_path: Path) -> None:
    expected = train(tmp_path, Errors(), kept=("found",))
    kept = tmp_path / "checkpoints/evaluation.pt"
    kept.write_bytes(kept.read_bytes()[:-200])
    evaluated = count_evaluations(again := Errors())
    with pytest.warns(UserWarning, match=r"evaluation\.pt: unreadable"):
        assert train(tmp_path, again, kept=("found",)) == expected
    assert len(evaluated) == 1


def test_an_evaluation_that_left_images_out_is_made_again(tmp_path: Path) -> None:
    first, again = Errors(), Errors()
    first.unreadable = {"3.jpg": "truncated"}  # type: ignore[attr-defined]
    train(tmp_path, first, kept=("found",))
    evaluated = count_evaluations(again)
    train(tmp_path, again, kept=("found",))
    assert len(evaluated) == 1


def count_evaluations(metric: Errors) -> list[int]:
    """A list that grows with each evaluation of this metric."""
    evaluated: list[int] = []
    evaluate = metric.evaluate

    def counted(size: int) -> dict[str, float]:
        evaluated.append(size)
        return evaluate(size)

    metric.evaluate = counted  # type: ignore[method-assign]
    return evaluated


class LosesItsWeights(Normalised):
    """In step `lost_at` the loss is a number and the gradient of one weight is none."""

    lost_at, steps = 8, 0

    def forward(self, points: Tensor, mode: str, **about: object) -> Any:
        output = super().forward(points, mode, **about)
        if mode == "loss":
            self.steps += 1
            if self.steps == self.lost_at:
                output["loss"] = output["loss"] + (0 * self.network[3].bias).abs().sqrt().sum()
        return output


@pytest.mark.parametrize(("lost_at", "evaluations"), [(8, 1), (4, 0)])
def test_weights_that_the_last_update_spoils_are_not_scored(tmp_path: Path, lost_at: int, evaluations: int) -> None:
    """Nothing told: the loss of that update was sound, and the evaluation counted answers that are no numbers as 0."""
    model, metric = LosesItsWeights(), Errors()
    model.lost_at = lost_at
    with pytest.raises(DivergedError, match=rf"1 of 6 weights .* iteration {lost_at}, network\.3\.bias among them"):
        train(tmp_path, metric, every_epochs=1, model=model)
    assert len(metric.found) == evaluations
    if lost_at == 8:
        with pytest.raises(DivergedError, match="training has diverged"):
            train(tmp_path, Errors(), every_epochs=1)


class Exchanged(Hook):
    """Whether processes take over the first one's buffers in each step."""

    found: bool | None = None

    def before_train(self, runner: Any) -> None:
        self.found = runner.model.will_sync_module_buffers()


def train_in_one_of_two(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)  # the parent's threads are not in a fork
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    store = torch.distributed.FileStore(str(directory / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    metric, exchanged = Errors(), Exchanged()
    metrics = train(directory / "run", metric, every_epochs=1, hooks=[exchanged])
    found = {"found": metric.found, "metrics": metrics, "buffers exchanged": exchanged.found}
    torch.save(found, directory / f"{rank}.pth")
    torch.distributed.destroy_process_group()


def test_processes_evaluate_with_the_statistics_of_the_first(tmp_path: Path) -> None:
    """Each trains on other points; the checkpoint, which is the first one's, has to tell all of the metrics."""
    torch.multiprocessing.start_processes(train_in_one_of_two, (tmp_path,), nprocs=2, start_method="fork")
    parts = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    assert parts[0] == parts[1]
    assert parts[0]["buffers exchanged"] is False
    metric = Errors()
    train(tmp_path / "run", metric)
    assert [parts[0]["metrics"]["error"]] == pytest.approx(metric.found, rel=1e-5)
    (tmp_path / "run/checkpoints/iteration_8.pth").unlink()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", metric := Errors(fail_at=2), every_epochs=1, allow_changed_steps=True)
    assert parts[0]["found"][:1] == pytest.approx(metric.found, rel=1e-5)


def test_a_finished_training_holds_no_file_open(tmp_path: Path) -> None:
    train(tmp_path / "run", Errors())
    held = (os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())  # noqa: PTH115
    assert [path for path in held if path.startswith(str(tmp_path))] == []
