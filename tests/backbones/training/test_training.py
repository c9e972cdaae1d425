"""The Runner set-up on a model of two layers: checkpoints, accumulation, clipping, precision, log, divergence."""

import errno
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.training import checkpointing, precision
from backbones.training.checkpointing import CheckpointHook, Tally, save_atomically
from backbones.training.job import Job, Outcome, accumulation_steps, run_job
from backbones.training.precision import resolve_precision
from backbones.training.settings import TrainingRecipe
from tests.backbones.training.test_evaluation import KilledAt, KilledError
from tests.support.points_runs import Points, recipe


class Regression(BaseModel):
    """Predict the sum of a point's coordinates; from call `explode_at` on, the loss is not a number."""

    def __init__(self, explode_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1))
        self.explode_at, self.calls = explode_at, 0
        self.gradients: list[float] = []

    def forward(self, points: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        self.calls += 1
        loss = (self.network(points)[:, 0] - points.sum(1)).square().mean()
        return {"loss": loss * torch.nan if self.calls == self.explode_at else loss}


def train(
    directory: Path, model: BaseModel, settings: TrainingRecipe, data: Points | None = None, hooks: Sequence[Hook] = ()
) -> Outcome:
    groups = [{"params": list(model.network.parameters())}]
    return run_job(Job(model, data or Points(), groups, settings, directory, seed=0, title="test", hooks=hooks))


def weights(model: BaseModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.network.parameters()])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def log(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def test_trains_logs_and_keeps_the_last_checkpoints(tmp_path: Path) -> None:
    outcome = train(tmp_path, Regression(), recipe(runtime={"checkpoint_every": 2, "keep_checkpoints": 3}))
    assert names(tmp_path) == ["iteration_4.pth", "iteration_6.pth", "iteration_8.pth"]
    assert [entry["iteration"] for entry in log(tmp_path)] == [3, 4, 6, 8]
    assert [entry["epoch"] for entry in log(tmp_path)] == [0.75, 1.0, 1.5, 2.0]
    assert (outcome.precision, outcome.processes, outcome.corrupt) == ("fp32", 1, {})
    second_epoch = [entry["loss"] for entry in log(tmp_path)][2:]
    assert outcome.train_loss == pytest.approx(sum(second_epoch) / 2)
    content = torch.load(tmp_path / "checkpoints/iteration_8.pth", weights_only=True)
    assert content["updates"] == 8
    assert content["tally"]["loss_count"] == 4


@pytest.mark.parametrize("per_device", [1, 2, 3])
def test_accumulation_equals_the_whole_batch(tmp_path: Path, per_device: int) -> None:
    whole, shared = Regression(), Regression()
    train(tmp_path / "whole", whole, recipe())
    train(tmp_path / "shared", shared, recipe(runtime={"batch_per_device": per_device}))
    assert shared.calls == whole.calls * 6 // per_device
    torch.testing.assert_close(weights(shared), weights(whole), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(weights(whole), weights(Regression()), atol=1e-2)
    assert names(tmp_path / "shared") == names(tmp_path / "whole") == ["iteration_4.pth", "iteration_8.pth"]


def test_a_run_goes_on_with_another_share_of_the_batch(tmp_path: Path) -> None:
    """What a step holds is no part of a run's key: a resumed run may have other devices."""
    whole, resumed = Regression(), Regression()
    expected = train(tmp_path / "whole", whole, recipe()).train_loss
    train(tmp_path / "run", Regression(), recipe())
    (tmp_path / "run/checkpoints/iteration_8.pth").unlink()
    outcome = train(tmp_path / "run", resumed, recipe(runtime={"batch_per_device": 2}))
    assert resumed.calls == 4 * 3
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-4, atol=1e-5)
    assert outcome.train_loss == pytest.approx(expected, rel=1e-4)
    assert [entry["epoch"] for entry in log(tmp_path / "run")][:2] == [0.75, 1.0]
    assert [entry["epoch"] for entry in log(tmp_path / "run")][2:] == [1.25, 1.5, 1.75, 2.0]


class Told(BaseModel):
    """A model with a loss that is given."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.network, self.given = nn.Linear(6, 1), loss

    def forward(self, points: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        loss = 0 * self.network(points).sum() + self.given
        return {"loss": loss, "part": 2 * loss.detach()}


@pytest.mark.parametrize("shares", [(6, 6), (2, 2), (6, 2), (2, 6), (3, 2)])
def test_updates_of_few_and_of_many_steps_weigh_the_same_in_what_is_told(
    tmp_path: Path, shares: tuple[int, int]
) -> None:
    """Two updates of loss 1 and two of loss 0, in a run that goes on with other steps."""
    once, often = {"epochs": 1, "warmup_epochs": 0}, {"checkpoint_every": 1, "log_every": 99}
    first, then = (recipe(schedule=once, runtime={"batch_per_device": share, **often}) for share in shares)
    with pytest.raises(KilledError):
        train(tmp_path, Told(1), first, hooks=[KilledAt(2 * 6 // shares[0] + 1)])
    assert train(tmp_path, Told(0), then).train_loss == pytest.approx(0.5)
    (line,) = log(tmp_path)
    assert (line["loss"], line["part"]) == pytest.approx((0.5, 1.0))


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    """The first update's gradient, as the optimizer's first moment remembers it: (1 - beta1) times the gradient."""
    norms = {}
    for name, clip in (("free", None), ("clipped", 1e-3)):
        settings = recipe(
            optimizer={"batch_size": 24, "clip_grad_norm": clip}, schedule={"epochs": 1, "warmup_epochs": 0}
        )
        train(tmp_path / name, Regression(), settings)
        content = torch.load(tmp_path / name / "checkpoints/iteration_1.pth", weights_only=True)
        moments = [state["exp_avg"].flatten() for state in content["optimizer"]["state"].values()]
        norms[name] = torch.cat(moments).norm().item() / 0.1
    assert norms["clipped"] == pytest.approx(1e-3, rel=1e-3)
    assert norms["free"] > 0.1


def test_the_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    settings = recipe(runtime={"log_every": 1, "checkpoint_every": 3})
    train(tmp_path, Regression(), settings)
    before = log(tmp_path)
    (tmp_path / "checkpoints/iteration_8.pth").unlink()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"iteration": 9, "lo')
    train(tmp_path, Regression(), settings)
    after = log(tmp_path)
    same = ("iteration", "epoch", "loss", "lr")
    assert [[entry[key] for key in same] for entry in after] == [[entry[key] for key in same] for entry in before]


@pytest.mark.parametrize(
    "torn", [b"", b'{"iteration": 9, "lo', b"\0" * 40, b"\xff\xfe\n", b"7\n", b'{"epoch": "x"}\n', b"[" * 9999]
)
def test_a_log_is_replaced_whole_and_only_to_be_cut(
    tmp_path: Path, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed, or finds the disk full, while it cuts the log leaves the log as it was."""
    settings = recipe(runtime={"log_every": 1, "checkpoint_every": 3})
    train(tmp_path, Regression(), settings)
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)

    def fail(*paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "checkpoints/iteration_8.pth").unlink()
    with monkeypatch.context() as full:
        full.setattr("pathlib.Path.replace", fail)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path, Regression(), settings)
    assert path.read_bytes() == whole + torn
    (tmp_path / "checkpoints/iteration_6.pth").rename(tmp_path / "checkpoints/iteration_8.pth")
    set_updates(tmp_path / "checkpoints/iteration_8.pth", 7)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:7]) + torn)
    file = path.stat().st_ino
    train(tmp_path, Regression(), settings)
    assert [entry["iteration"] for entry in log(tmp_path)] == [*range(1, 9)]
    assert (path.stat().st_ino == file) == (not torn)


def set_updates(checkpoint: Path, updates: int) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"updates": updates}, checkpoint)


@pytest.mark.parametrize("per_device", [6, 2])
def test_every_line_of_the_log_says_how_many_updates_there_are_to_be(tmp_path: Path, per_device: int) -> None:
    train(tmp_path, Regression(), recipe(runtime={"batch_per_device": per_device, "log_every": 1}))
    assert [entry["updates"] for entry in log(tmp_path)] == [8] * (8 * 6 // per_device)
    assert (log(tmp_path)[-1]["update"], log(tmp_path)[-1]["processes"]) == (8, 1)


@pytest.mark.parametrize("explode_at", [1, 2, 5])
def test_divergence_stops_and_leaves_no_checkpoint_of_it(tmp_path: Path, explode_at: int) -> None:
    settings = recipe(runtime={"log_every": 100, "checkpoint_every": 1, "keep_checkpoints": 100})
    with pytest.raises(InputError, match=f"loss is nan before iteration {explode_at}: training has diverged"):
        train(tmp_path, Regression(explode_at), settings)
    found = (tmp_path / "checkpoints").glob("*")
    assert sorted(path.name for path in found) == [f"iteration_{i}.pth" for i in range(1, explode_at)]
    for entry in log(tmp_path):
        assert entry["loss"] == entry["loss"]


def test_unreadable_images_are_named_even_after_a_resume(tmp_path: Path) -> None:
    settings = recipe(schedule={"epochs": 1, "warmup_epochs": 0})
    data = Points({3: "truncated", 17: "empty"})
    expected = {"3.jpg": "truncated", "17.jpg": "empty"}
    assert train(tmp_path, Regression(), settings, data).corrupt == expected
    assert train(tmp_path, Regression(), settings, data).corrupt == expected


def test_too_many_unreadable_images_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1\d of 24 training images are unreadable, the first is .*jpg: broken"):
        train(tmp_path, Regression(), recipe(), Points(dict.fromkeys(range(20), "broken")))


class Failing:
    """Fails while it is being pickled."""

    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


def test_a_failing_write_leaves_nothing_and_damages_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "encoder.pth"
    save_atomically({"model": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"encoder\.pth: cannot be written \(No space left on device\)"):
        save_atomically({"model": torch.zeros(100), "bad": Failing()}, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["encoder.pth"]


def test_a_failing_write_within_a_run_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = torch.save, iter(range(10))

    def save(content: object, file: Any) -> None:
        if next(calls) == 1:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(checkpointing.torch, "save", save)
    undisturbed, repeated = Regression(), Regression()
    with pytest.raises(InputError, match=r"iteration_8\.pth: cannot be written"):
        train(tmp_path / "run", Regression(), recipe())
    assert names(tmp_path / "run") == ["iteration_4.pth"]
    train(tmp_path / "run", repeated, recipe())
    train(tmp_path / "other", undisturbed, recipe())
    assert torch.equal(weights(repeated), weights(undisturbed))


def test_an_impossible_folder_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        save_atomically({}, tmp_path / "checkpoints" / "encoder.pth")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not really"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, damage: bytes) -> None:
    undisturbed, repeated = Regression(), Regression()
    train(tmp_path, undisturbed, recipe())
    (tmp_path / "checkpoints/iteration_8.pth").write_bytes(damage)
    with pytest.warns(UserWarning, match=r"iteration_8\.pth: unreadable checkpoint passed over"):
        train(tmp_path, repeated, recipe())
    assert repeated.calls == 4
    assert torch.equal(weights(repeated), weights(undisturbed))


def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path) -> None:
    train(tmp_path, Regression(), recipe())
    path = tmp_path / "checkpoints/iteration_8.pth"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="passed over"):
        train(tmp_path, Regression(), recipe())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.load(path, weights_only=True)


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    hook = CheckpointHook(tmp_path, every=1, keep=2, tally=Tally())
    for name in ("iteration_9.pth", "iteration_10.pth", "iteration_100.pth", "iteration_x.pth", ".iteration_11.pth"):
        (tmp_path / name).touch()
    assert [path.name for path in hook.found()] == ["iteration_9.pth", "iteration_10.pth", "iteration_100.pth"]


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, second = Regression(), Regression()
    outcome = train(tmp_path, first, recipe())
    again = train(tmp_path, second, recipe())
    assert second.calls == 0
    assert torch.equal(weights(first), weights(second))
    assert again.train_loss == outcome.train_loss
    assert again.images_per_second == pytest.approx(48 / again.seconds)


def test_bf16_keeps_its_weights_in_single_precision(tmp_path: Path) -> None:
    model = Regression()
    kinds = []
    model.network[0].register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    assert train(tmp_path, model, recipe(precision="bf16")).precision == "bf16"
    assert set(kinds) == {torch.bfloat16}
    assert weights(model).dtype == torch.float32


@pytest.mark.parametrize("fast, expected", [(True, "bf16"), (False, "fp32")])
def test_auto_precision_follows_the_device(fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: fast)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"


def test_fp16_needs_a_gpu() -> None:
    assert resolve_precision("fp16", "cuda") == "fp16"
    with pytest.raises(InputError, match=r"needs a GPU.*--set precision=fp32"):
        resolve_precision("fp16", "cpu")


@pytest.mark.parametrize(
    "batch, per_device, processes, steps", [(12, None, 1, 1), (12, None, 4, 1), (12, 3, 2, 2), (12, 1, 1, 12)]
)
def test_accumulation_steps(batch: int, per_device: int | None, processes: int, steps: int) -> None:
    settings = recipe(optimizer={"batch_size": batch}, runtime={"batch_per_device": per_device})
    assert accumulation_steps(settings, processes) == steps


@pytest.mark.parametrize(
    ("batch", "per_device", "processes", "advice"),
    [
        (32, None, 3, "32 images cannot be shared out evenly among 3 processes. Start 2 or 4"),
        (32, 5, 3, "evenly among 3 processes. Start 2 or 4"),
        (32, None, 64, "evenly among 64 processes. Start 32"),
        (32, 5, 2, "2 process(es) × 5 images × whole accumulation steps. Set it to 4 or 8"),
        (32, 20, 2, "Set it to 16"),
    ],
)
def test_the_advice_for_a_batch_that_cannot_be_shared_out_is_of_use(
    batch: int, per_device: int | None, processes: int, advice: str
) -> None:
    """A divisor of 10 images each was to help three processes with 32 images."""
    settings = recipe(optimizer={"batch_size": batch}, runtime={"batch_per_device": per_device})
    with pytest.raises(InputError, match=re.escape(advice) + "$"):
        accumulation_steps(settings, processes)
