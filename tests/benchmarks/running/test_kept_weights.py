"""What is left of a run with `runtime.keep_checkpoints=0`: its weights, and all that they need to be used again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import Moment, metric_values, read_record, run_directory, torchrun
from tests.support.evaluated_runs import evaluate
from tests.support.in_process import call, pretrain, run, success
from tests.support.resuming import LOG, WRITE_RECORD, WRITE_WEIGHTS, finish, finish_killed

NONE: dict[str, Any] = {"runtime__keep_checkpoints": 0, "runtime__checkpoint_every": 1, "runtime__log_every": 1}


@pytest.fixture(scope="module")
def data(mini: Path) -> Path:
    return mini


def assert_same_weights(out: Path, other: Path) -> None:
    one, two = (load_file(run_directory(root) / "weights.safetensors") for root in (out, other))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_leaves_its_weights_alone(data: Path, tmp_path: Path) -> None:
    success(*run(data, tmp_path / "runs", **NONE))
    directory = run_directory(tmp_path / "runs")
    assert not [path for path in directory.rglob("*") if path.suffix in (".pth", ".pt")]
    left = directory / "checkpoints/iteration_4.pth"  # by a call that was killed once its record stood
    left.parent.mkdir(exist_ok=True)
    left.touch()
    assert f"{directory}/weights.safetensors" in success(*run(data, tmp_path / "runs", **NONE)).output
    assert not left.exists()
    record = evaluate(data, directory, tmp_path / "evaluated")
    assert metric_values(record) == metric_values(read_record(tmp_path / "runs"))


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_leaves_the_same(data: Path, tmp_path: Path) -> None:
    kept = finish(run(data, tmp_path / "kept", runtime__log_every=1), tmp_path / "kept")
    assert list(run_directory(kept).glob("checkpoints/iteration_*.pth"))
    out = tmp_path / "none" / "runs"
    finish_killed(run(data, out, **NONE), out, [Moment(LOG, 3), WRITE_WEIGHTS, WRITE_RECORD])
    assert not list(run_directory(out).rglob("*.pth")) and not list(run_directory(out).rglob("*.pt"))
    assert metric_values(read_record(out)) == metric_values(read_record(kept))
    assert_same_weights(out, kept)
    assert "goes on: " in (tmp_path / "none" / "log").read_text()
    again = call(*run(data, out, **NONE))
    assert again.exit_code == 0 and "finished before; nothing to do" in again.output


def test_a_pretraining_leaves_its_weights_alone(data: Path, tmp_path: Path) -> None:
    success(*pretrain(data / "unlabelled", tmp_path, **NONE))
    left = {path.name for path in run_directory(tmp_path).rglob("*") if path.suffix in (".pth", ".safetensors")}
    assert left == {"encoder.pth", "autoencoder.pth", "weights.safetensors"}
    whole = torch.load(run_directory(tmp_path) / "checkpoints/autoencoder.pth", weights_only=True)["model"]
    found = load_file(run_directory(tmp_path) / "weights.safetensors")
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in found)


@pytest.mark.slow
def test_several_processes_and_compiled_networks_leave_the_names_of_one(data: Path, tmp_path: Path) -> None:
    success(*run(data, tmp_path / "one"))
    names = load_file(run_directory(tmp_path / "one") / "weights.safetensors").keys()
    torchrun(run(data, tmp_path / "two", **NONE))
    success(*run(data, tmp_path / "compiled", runtime__compile="true", runtime__device="cpu"))
    for other in ("two", "compiled"):
        assert load_file(run_directory(tmp_path / other) / "weights.safetensors").keys() == names
        record = evaluate(data, run_directory(tmp_path / other), tmp_path / f"{other}-evaluated")
        for name, value in metric_values(read_record(tmp_path / other)).items():
            assert metric_values(record)[name] == pytest.approx(value, abs=1e-4)
