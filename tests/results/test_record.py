import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import results.record
from results import Metric, Record, ResultsError, cell_key, environment

FIELDS: dict[str, Any] = {
    "task": "classification",
    "dataset": "mini",
    "metrics": [{"name": "top1", "value": 61.5, "split": "val", "ci_low": 60.0, "ci_high": 63.0, "n_eval": 200}],
    "method": "MAE",
    "model": "ViT-mini",
    "backbone": "mae_vit_mini",
    "seed": 3,
    "recipe": "mini",
    "key": "0123456789ab",
}


def test_a_record_survives_json_unchanged() -> None:
    record = Record(
        **FIELDS,
        checkpoint_sha256="f" * 64,
        recipe_settings={"schedule": {"epochs": 25}, "optimizer": {"betas": [0.9, 0.999]}},
        protocol={"schedule.epochs": "25", "optimizer.betas": "[0.9, 0.999]"},
        deviations=["schedule.epochs=25 (reference 100)"],
        corrupt_images=["train/ü/1.jpg"],
        load_report={"used": 10, "dropped": {"mask_token": "pre-training only"}},
        per_class={"ring": 50.0},
        train_loss=1.25,
        **environment("cpu"),
    )
    assert Record.from_json(record.to_json()) == record


def test_a_record_of_a_later_version_is_read() -> None:
    later = FIELDS | {
        "schema_version": 7,
        "energy_joules": 12.5,
        "metrics": [FIELDS["metrics"][0] | {"calibration_error": 0.1}],
    }
    record = Record.from_json(json.dumps(later))
    assert record.schema_version == 7
    assert record.metrics[0].value == 61.5


def test_a_record_of_an_earlier_version_has_no_protocol() -> None:
    assert Record.from_json(json.dumps(FIELDS)).protocol == {}


def test_an_unknown_field_is_not_written() -> None:
    with pytest.raises(ResultsError, match="energy_joules"):
        Record(**FIELDS, energy_joules=12.5)  # type: ignore[call-arg]
    with pytest.raises(ResultsError, match="calibration_error"):
        Metric(name="top1", value=1.0, split="val", calibration_error=0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused_by_name(value: float) -> None:
    with pytest.raises(ResultsError, match=rf'metric "top1".*finite.*{value}.*diverged'):
        Metric(name="top1", value=value, split="val")
    with pytest.raises(ResultsError, match=r'"ci_high".*finite'):
        Metric(name="top1", value=1.0, split="val", ci_low=0.0, ci_high=abs(value))
    with pytest.raises(ResultsError, match=r'"train_loss".*finite'):
        Record(**FIELDS, train_loss=value)


def test_an_interval_is_whole_and_in_order() -> None:
    with pytest.raises(ResultsError, match="both ci_low and ci_high"):
        Metric(name="top1", value=1.0, split="val", ci_low=0.5)
    with pytest.raises(ResultsError, match="above"):
        Metric(name="top1", value=1.0, split="val", ci_low=2.0, ci_high=0.5)


def test_a_metric_is_given_once_a_split() -> None:
    metric = FIELDS["metrics"][0]
    Record(**(FIELDS | {"metrics": [metric, metric | {"split": "test"}]}))
    with pytest.raises(ResultsError, match='"top1" on split "val" is given twice'):
        Record(**(FIELDS | {"metrics": [metric, metric]}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "found a list"),
        (json.dumps({name: value for name, value in FIELDS.items() if name != "backbone"}), "backbone"),
        (json.dumps(FIELDS | {"metrics": []}), "metrics"),
        (json.dumps(FIELDS | {"metrics": [3]}), r"metrics\.0"),
        (json.dumps(FIELDS | {"key": "xyz"}), "key"),
        (json.dumps(FIELDS | {"finished_at": "2026-01-01T00:00:00"}), "finished_at"),
    ],
)
def test_a_broken_record_is_refused_with_the_field(text: str, complaint: str) -> None:
    with pytest.raises(ResultsError, match=complaint):
        Record.from_json(text)


def test_numbers_of_numpy_are_taken() -> None:
    assert Metric(name="top1", value=np.float32(83.5), split="val", n_eval=np.int64(7)).n_eval == 7


def test_a_record_is_finished_now_in_utc() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    finished_at = Record(**FIELDS).finished_at
    assert before <= finished_at <= datetime.now(UTC)
    assert json.loads(Record(**FIELDS).to_json())["finished_at"].endswith("Z")


def test_a_key_depends_on_every_setting_and_on_no_order() -> None:
    settings = {"recipe": {"lr": 1e-3, "betas": [0.9, 0.999]}, "seed": 0, "checkpoint": None}
    key = cell_key(settings)
    assert re.fullmatch("[0-9a-f]{12}", key)
    assert key == cell_key({"checkpoint": None, "seed": 0, "recipe": {"betas": (0.9, 0.999), "lr": 0.001}})
    others = [
        settings | {"seed": 1},
        settings | {"checkpoint": ""},
        settings | {"recipe": {"lr": 1e-3, "betas": [0.999, 0.9]}},
        settings | {"more": None},
    ]
    assert len({key, *(cell_key(other) for other in others)}) == 5


def test_a_key_is_the_same_in_every_process() -> None:
    script = "from results import cell_key; print(cell_key({'b': {'y': 1, 'x': 'ü'}, 'a': [True, None, 0.1]}))"
    command = [sys.executable, "-c", script]
    printed = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert printed == {cell_key({"a": [True, None, 0.1], "b": {"x": "ü", "y": 1}}) + "\n"}


@pytest.mark.parametrize("value", [Path("a"), float("nan"), {1: "a"}, [{2: "b"}], {"a": {None: 1}}, object()])
def test_a_key_is_made_of_json_only(value: Any) -> None:
    with pytest.raises(ResultsError, match="made of"):
        cell_key({"setting": value})


def test_the_environment_names_this_checkout_and_the_libraries() -> None:
    described = environment("a device")
    assert described["device"] == "a device"
    assert described["versions"]["numpy"] == np.__version__
    assert described["versions"]["python"] == sys.version.split()[0]
    root = Path(results.record.__file__).parents[1]
    if (root / ".git").exists():
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert described["git_commit"] is not None
        assert described["git_commit"].removesuffix("-dirty") == head.stdout.strip()


def test_the_commit_is_that_of_the_checkout_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results.record._git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert results.record._git_commit(tmp_path) is None
    (tmp_path / "file").write_text("one")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=one"], check=True)
    commit = results.record._git_commit(tmp_path)
    assert commit is not None
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "file").write_text("two")
    assert results.record._git_commit(tmp_path) == f"{commit}-dirty"
    (tmp_path / "inner").mkdir()
    assert results.record._git_commit(tmp_path / "inner") is None
    monkeypatch.setenv("PATH", "")
    assert results.record._git_commit(tmp_path) is None


def test_importing_the_front_door_loads_nothing_heavy() -> None:
    script = (
        "import sys, results\n"
        "heavy = {'numpy', 'pandas', 'pydantic', 'scipy', 'tabulate', 'torch'}\n"
        "assert not heavy & set(sys.modules)\n"
        "for name in results.__all__: assert getattr(results, name) is not None, name\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = results.no_such_name


def test_its_plan_is_found_without_reading_on() -> None:
    record = Record.from_json(Record(**FIELDS, plan="0123456789ab", suite="long" * 1000).to_json())
    assert record.plan == "0123456789ab" and record.to_json().index(record.plan) < 100
