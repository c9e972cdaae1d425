"""`backbench runs` and `backbench clean`: what lies in a store, and what of it can go."""

import io
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import typer
import yaml

from benchmarks.commands.stores import clean, show_runs
from benchmarks.running.claim import claimed
from benchmarks.running.cleaning import find_waste
from benchmarks.running.writing import write_record
from results import read_record
from tests.support.in_process import call, refusal, success
from tests.support.stores import KEY, put_run


@pytest.fixture
def store(finished: Path, pretrained: Path, tmp_path: Path) -> Path:
    """A store with a finished fine-tuning and a finished pre-training, to be spoilt."""
    root = tmp_path / "store"
    for origin in (finished, pretrained):
        shutil.copytree(origin, root, dirs_exist_ok=True)
    return root


def fine_tuning(store: Path) -> Path:
    (record,) = store.glob("classification/*/*/*/record.json")
    return record.parent


def pretraining(store: Path) -> Path:
    (record,) = store.glob("pretraining/*/*/*/record.json")
    return record.parent


def listed(store: Path) -> dict[str, list[str]]:
    """The lines of `backbench runs`, by the run's directory."""
    heading, *rows = (line.split("\t") for line in success("runs", store).stdout.splitlines())
    assert heading[:8] == ["state", "task", "data set", "backbone", "seed", "key", "run", "size"]
    return {row[-1]: row for row in rows}


def waste(store: Path) -> dict[str, str]:
    return {str(one.path.relative_to(store)): one.why for one in find_waste(store).waste}


def test_finished_runs_with_size_age_and_loss(store: Path) -> None:
    rows = listed(store)
    assert rows.keys() == {str(fine_tuning(store)), str(pretraining(store))}
    row = rows[str(fine_tuning(store))]
    assert row[:5] == ["finished", "classification", "shapes", "mae_vit_mini", "0"]
    assert row[5] == read_record_of(fine_tuning(store))["key"]
    assert row[6] == "1" and row[7].endswith("MiB") and row[9] == f"{last_loss(fine_tuning(store)):.4f}"


def read_record_of(directory: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads((directory / "record.json").read_text())
    return record


def last_loss(directory: Path) -> float:
    return float(json.loads((directory / "log.jsonl").read_text().splitlines()[-1])["loss"])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [({"epochs": 1}, "update 2 of 2"), ({"iterations": 1000, "epochs": None}, "update 2 of 1,000")],
)
def test_an_unfinished_run_says_how_far_it_is(store: Path, schedule: dict[str, int], expected: str) -> None:
    directory = fine_tuning(store)
    (directory / "record.json").unlink()
    recipe = yaml.safe_load((directory / "recipe.yaml").read_text())
    recipe["schedule"] |= schedule
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    row = listed(store)[str(directory)]
    assert (row[0], row[10]) == ("unfinished", expected)
    (directory / "log.jsonl").unlink()
    row = listed(store)[str(directory)]
    assert row[0] == "unfinished" and row[10].split()[1] == "0" and row[9] == ""


def test_a_run_that_somebody_is_at_work_on(store: Path) -> None:
    directory = fine_tuning(store)
    (directory / "record.json").unlink()
    with claimed(directory, store, lambda: "task: classification"):
        row = listed(store)[str(directory)]
        assert row[0] == "at work" and row[10].startswith(f"process {os.getpid()} on ")
        assert all(not path.startswith("classification") for path in waste(store))
    assert listed(store)[str(directory)][0] != "at work"


def test_broken_records_and_recipes_are_told(store: Path) -> None:
    (fine_tuning(store) / "record.json").write_text("{")
    directory = pretraining(store)
    (directory / "record.json").unlink()
    (directory / "recipe.yaml").write_text("task: [")
    rows = [*listed(store).values()]
    assert [row[0] for row in rows] == ["broken", "broken"]
    assert "record.json: not a record" in rows[0][10] and "recipe.yaml: cannot be read" in rows[1][10]
    assert waste(store) == {}


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_on_a_terminal_a_run_s_path_is_whole_and_its_place_is_said_once(
    tmp_path: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_run(tmp_path / "store")
    put_run(tmp_path / "store", 2, finished=False)
    put_run(tmp_path / "store", seed=3).rename(tmp_path / "store/best")
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(tmp_path)
    show_runs(Path("store"), as_json=False)
    text, path = screen.getvalue(), f"store/classification/imagenet1k/mae_vit_base/seed0-{KEY}"
    ends = [line.split(" ")[-1] for line in text.splitlines()]
    assert [end for end in ends if end.startswith("store/")] == ["store/best", path, f"{path}.2"]
    assert text.count(f"classification, imagenet1k, mae_vit_base, seed 3, key {KEY}, run 1") == (columns > 40)
    assert text.count(KEY) == 3 and "    epoch 0 of 100" in text.splitlines()
    assert all(len(line) <= columns for line in text.splitlines() if path not in line)


def test_runs_as_json(store: Path) -> None:
    first, second = json.loads(success("runs", store, "--json").stdout)["runs"]
    assert (first["state"], first["seed"], first["run"], first["task"]) == ("finished", 0, 1, "classification")
    assert first["bytes"] > 1_000_000 and second["task"] == "pretraining" and second["owner"] is None


def test_no_such_store(tmp_path: Path) -> None:
    for command in ("runs", "clean"):
        assert "nowhere: no such directory" in refusal(command, tmp_path / "nowhere", status=3)


def test_checkpoints_to_go_on_from_can_go_where_the_weights_stay(store: Path) -> None:
    (checkpoint,) = (fine_tuning(store) / "checkpoints").glob("iteration_*.pth")
    shutil.copy(checkpoint, checkpoint.with_name("iteration_1.pth"))
    found = waste(store)
    assert set(found.values()) == {"checkpoint of a finished run"}
    names = sorted(path.rpartition("/")[2] for path in found if path.startswith("classification"))
    assert names == ["iteration_1.pth", checkpoint.name]
    (fine_tuning(store) / "weights.safetensors").unlink()
    names = sorted(path.rpartition("/")[2] for path in waste(store) if path.startswith("classification"))
    assert names == ["iteration_1.pth"]  # the last one alone has the fine-tuned weights
    exported = pretraining(store) / "checkpoints"
    iterations = {path.name for path in exported.glob("iteration_*.pth")}
    assert {path.rpartition("/")[2] for path in found if path.startswith("pretraining")} == iterations != set()
    (exported / "encoder.pth").unlink()
    assert len([path for path in waste(store) if path.startswith("pretraining")]) == len(iterations) - 1


def test_nothing_of_an_unfinished_run_goes(store: Path) -> None:
    for directory in (fine_tuning(store), pretraining(store)):
        (directory / "record.json").unlink()
    assert waste(store) == {}


def test_partial_files_of_the_dead_can_go_and_those_of_the_living_stay(store: Path) -> None:
    left = [fine_tuning(store) / "checkpoints/.iteration_7.pth.partial", store / ".results.csv.0123456789ab"]
    fresh, foreign = pretraining(store) / ".log.jsonl.partial", fine_tuning(store) / ".notes"
    for path in (*left, fresh, foreign):
        path.write_bytes(b"half")
    for path in (*left, foreign):
        os.utime(path, (time.time() - 9_999,) * 2)
    found = {path for path, why in waste(store).items() if why == "left by a process that is gone"}
    assert found == {str(path.relative_to(store)) for path in left}


def test_superseded_runs_go_once_the_later_one_has_finished(store: Path) -> None:
    first = fine_tuning(store)
    second = first.with_name(f"{first.name}.2")
    shutil.copytree(first, second)
    (second / "record.json").unlink()
    assert not any("superseded" in why for why in waste(store).values())
    write_record(second, read_record(first).model_copy(update={"run": 2}))
    assert [path for path, why in waste(store).items() if "superseded" in why] == [str(first.relative_to(store))]
    result = success("clean", store, "--yes")
    assert not first.exists() and second.is_dir() and "freed " in result.stderr
    assert str(first) in result.stdout


def test_clean_names_everything_first_and_asks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(store.rglob("*"))
    result = success("clean", store, "--dry-run")
    assert "checkpoint of a finished run\t" in result.stdout and "would free " in result.stderr
    unasked = call("clean", store)
    assert unasked.exit_code == 2 and "checkpoint of a finished run\t" in unasked.stdout
    assert unasked.stderr == (
        "backbench: nothing was removed: standard input is no terminal to ask at. Give --yes, or --dry-run\n"
    )
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("typer.confirm", refuse_with_abort)
    with pytest.raises(typer.Abort):
        clean(store, yes=False, dry_run=False)
    assert sorted(store.rglob("*")) == before
    assert "freed " in success("clean", store, "--yes").stderr
    assert "nothing to remove" in success("clean", store).stderr
    assert (pretraining(store) / "checkpoints/encoder.pth").is_file()
    assert (pretraining(store) / "checkpoints/autoencoder.pth").is_file()


def refuse_with_abort(text: str, **options: object) -> None:
    assert text.startswith("Remove these and free ")
    raise typer.Abort


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_cleaned_store_still_serves(store: Path) -> None:
    success("clean", store, "--yes")
    assert {row[0] for row in listed(store).values()} == {"finished"}
    assert "| MAE" in success("table", store).stdout
