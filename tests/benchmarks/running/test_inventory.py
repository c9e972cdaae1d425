"""What `backbench runs` says of runs that begin and vanish, of others' claims, of their places and how far they are."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.running import inventory
from benchmarks.running.claim import RECIPE, claimed
from benchmarks.running.inventory import Run, find_all_runs
from results import ResultsError, find_records
from tests.support.folders import forbid
from tests.support.in_process import success
from tests.support.stores import KEY, RECIPE_TEXT, claim_from_elsewhere, put_run


def only(root: Path) -> Run:
    (run,) = find_all_runs(root)
    return run


def between(monkeypatch: pytest.MonkeyPatch, before: str, happens: Callable[[], object]) -> None:
    """Let something happen once, right before that function of the inventory is called."""
    genuine, left = getattr(inventory, before), [happens]

    def called(*arguments: object) -> object:
        if left:
            left.pop()()
        return genuine(*arguments)

    monkeypatch.setattr(inventory, before, called)


@pytest.mark.parametrize("before", ["files_of", "_read_log", "find_owner", "read_record", "_read_recipe", "_place"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_vanishes_meanwhile_is_not_missed(
    tmp_path: Path, before: str, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, other = put_run(tmp_path, finished=finished), put_run(tmp_path, seed=1)
    between(monkeypatch, before, lambda: shutil.rmtree(directory))
    found = find_all_runs(tmp_path)
    assert [run.state for run in found if run.directory == other] == ["finished"]
    assert all(run.state != "broken" for run in found)


def test_files_that_the_server_has_forgotten_are_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, genuine = put_run(tmp_path), os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("checkpoints"):
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return genuine(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert (only(tmp_path).directory, only(tmp_path).state) == (directory, "finished")


def test_a_call_that_has_just_claimed_is_at_work_and_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began where one was taken back, between two looks; its recipe is yet to be written."""
    directory = put_run(tmp_path, finished=False, checkpoints=0)

    def taken_back_and_begun() -> None:
        (directory / RECIPE).unlink()
        claim_from_elsewhere(directory, 0)

    between(monkeypatch, "_read_recipe", taken_back_and_begun)
    run = only(tmp_path)
    assert (run.state, run.detail) == ("at work", "process 77 on node7")


def test_a_neighbour_that_fails_early_again_and_again_is_no_fault(tmp_path: Path) -> None:
    directory, other = put_run(tmp_path, seed=1, finished=False).with_name(f"seed0-{KEY}"), put_run(tmp_path, seed=2)
    states = []
    for _ in range(3):
        with pytest.raises(KeyError), claimed(directory, tmp_path, lambda: RECIPE_TEXT):
            states.append({run.directory: run.state for run in find_all_runs(tmp_path)})
            raise KeyError
        assert directory not in {run.directory for run in find_all_runs(tmp_path)}
    assert all(state[directory] == "at work" and state[other] == "finished" for state in states)


def test_who_had_a_run_and_fell_silent_is_said_of_finished_runs_too(tmp_path: Path) -> None:
    claim_from_elsewhere(put_run(tmp_path), 864_000)
    claim_from_elsewhere(put_run(tmp_path, seed=1, finished=False), 864_000)
    claim_from_elsewhere(begun := put_run(tmp_path, seed=2, finished=False), 864_000)
    (begun / RECIPE).unlink()
    first, second, third = find_all_runs(tmp_path)
    silent = "process 77 on node7 had it, and has given no sign of life since 20"
    assert first.state == "finished" and first.detail.startswith(silent)
    assert second.state == "unfinished" and second.detail.startswith(f"epoch 0 of 100; {silent}")
    assert third.state == "unfinished" and third.detail.startswith(f"not begun; {silent}")


def test_a_recipe_that_is_missing_for_good_is_told(tmp_path: Path) -> None:
    directory = put_run(tmp_path, finished=False)
    (directory / RECIPE).unlink()
    (directory / "log.jsonl").write_text('{"loss": 1.5, "iteration": 1, "epoch": 0.1}\n')
    claim_from_elsewhere(directory, 7200)
    assert only(tmp_path).state == "broken" and "recipe.yaml: no such file" in only(tmp_path).detail


@pytest.mark.parametrize("below", ["", "classification", "classification/imagenet1k/mae_vit_base", "../store"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_says_its_place_wherever_the_command_is_called(
    tmp_path: Path, below: str, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = put_run(tmp_path / "store", 10, finished=finished)
    monkeypatch.chdir(tmp_path / "store")
    for root in (Path(below), directory.relative_to(tmp_path / "store")):
        assert only(root).place == ("classification", "imagenet1k", "mae_vit_base", 0, KEY, 10)
    monkeypatch.chdir(directory)
    assert only(Path()).place == ("classification", "imagenet1k", "mae_vit_base", 0, KEY, 10)


def test_a_run_that_lies_elsewhere_says_its_place(tmp_path: Path) -> None:
    put_run(tmp_path / "store").rename(tmp_path / "kept")
    put_run(tmp_path / "store", finished=False).rename(tmp_path / f"seed3-{KEY}.2")
    shutil.rmtree(tmp_path / "store")
    kept, begun = sorted(find_all_runs(tmp_path), key=lambda run: run.state)
    assert kept.place == ("classification", "imagenet1k", "mae_vit_base", 0, KEY, 1)
    assert begun.place == ("classification", "shapes", "", 3, KEY, 2)


def test_runs_and_seeds_are_sorted_as_numbers(tmp_path: Path) -> None:
    for seed, number in ((10, 1), (2, 10), (2, 2), (2, 1)):
        put_run(tmp_path, number, seed=seed)
    assert [run.place[3:] for run in find_all_runs(tmp_path)] == [
        (2, KEY, 1),
        (2, KEY, 2),
        (2, KEY, 10),
        (10, KEY, 1),
    ]
    rows = json.loads(success("runs", tmp_path, "--json").stdout)["runs"]
    assert [(row["seed"], row["key"], row["run"]) for row in rows][2] == (2, KEY, 10)


@pytest.mark.parametrize(
    ("line", "runtime", "expected"),
    [
        ({"iteration": 13, "update": 6, "updates": 1250, "epoch": 0.5}, "{batch_per_device: 4}", "update 6 of 1,250"),
        ({"iteration": 13, "update": 6, "epoch": 0.5}, "{batch_per_device: 4}", "epoch 0.5 of 100"),
        ({"iteration": 13, "update": 6, "epoch": 0.5}, "{}", "epoch 0.5 of 100"),  # in several processes
        ({"iteration": 13, "epoch": 0.5}, "{batch_per_device: 4}", "epoch 0.5 of 100"),
        ({"iteration": 50, "update": 25, "epoch": 2.0}, "{batch_per_device: 4}", "update 25 of 1,250"),
        ({"iteration": 13, "update": 13, "epoch": 0.52}, "{}", "update 13 of 2,500"),
        ({"iteration": 13, "epoch": 0.52}, "{}", "update 13 of 2,500"),
    ],
)
def test_of_how_many_updates_is_said_where_it_is_known(
    tmp_path: Path, line: dict[str, float], runtime: str, expected: str
) -> None:
    """An epoch has 25 steps; where gradients accumulate, two of them make an update."""
    directory = put_run(tmp_path, finished=False)
    (directory / RECIPE).write_text(RECIPE_TEXT + f"runtime: {runtime}\n")
    lines = [b"x" * 99_999, json.dumps(line | {"loss": 1.5}).encode(), b'{"loss": null, "iteration": 1, "epoch": 1}']
    (directory / "log.jsonl").write_bytes(b"\n".join([*lines, b'{"torn":']))
    assert (only(tmp_path).state, only(tmp_path).detail, only(tmp_path).loss) == ("unfinished", expected, 1.5)


WHOLE = b'{"iteration": 13, "epoch": 0.5, "loss": 1.5}'


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"iteration": 14, "epoch": 0.6, "loss": "abc"}',
        b'{"iteration": 14, "epoch": 0.6, "loss": NaN}',
        b'{"iteration": 14, "epoch": 0.6, "loss": Infinity}',
        b'{"iteration": 14, "epoch": 0.6, "loss": 1' + b"0" * 400 + b"}",
        b'{"iteration": 14, "epoch": 0.0, "loss": 1.4}',
        b'{"iteration": 14, "epoch": NaN, "loss": 1.4}',
        b'{"iteration": 14, "epoch": 1e-320, "loss": 1.4, "update": "many"}',
        b'{"iteration": 14, "epoch": 0.6, "loss": 1.4, "update": null}',
        b'{"iteration": -1, "epoch": 0.6, "loss": 1.4}',
        b'{"iteration": 14, "epoch": 0.6, "loss": 1.4, "updates": Infinity}',
        b'{"loss": "caf\xe9"}',
        b"[" * 50_000,
        '{"iteration": 14, "epoch": 0.6, "loss": 1.4}'.encode("utf-16"),
    ],
)
def test_a_damaged_line_of_a_log_is_passed_over(tmp_path: Path, damaged: bytes) -> None:
    log = put_run(tmp_path, finished=False) / "log.jsonl"
    log.write_bytes(WHOLE + b"\n" + damaged + b"\n")
    assert (only(tmp_path).state, only(tmp_path).detail, only(tmp_path).loss) == (
        "unfinished",
        "update 13 of 2,600",
        1.5,
    )
    log.write_bytes(damaged)
    assert (only(tmp_path).state, only(tmp_path).detail, only(tmp_path).loss) == ("unfinished", "epoch 0 of 100", None)
    assert '"loss": null' in success("runs", tmp_path, "--json").stdout and success("runs", tmp_path).stdout


def test_a_log_that_an_editor_has_marked_as_utf_8_is_read(tmp_path: Path) -> None:
    (put_run(tmp_path, finished=False) / "log.jsonl").write_bytes(b"\xef\xbb\xbf" + WHOLE)
    assert only(tmp_path).loss == 1.5


@pytest.mark.parametrize(
    "recipe", [b"[" * 5_000, b"schedule: {epochs: .inf}\n", b"\xff\xfe", b"schedule: {epochs: x}\n"]
)
def test_a_damaged_recipe_is_told(tmp_path: Path, recipe: bytes) -> None:
    directory = put_run(tmp_path, finished=False)
    (directory / RECIPE).write_bytes(recipe)
    (directory / "log.jsonl").write_bytes(WHOLE)
    assert (
        only(tmp_path).state == "broken" and "recipe.yaml: cannot be read as a run's settings" in only(tmp_path).detail
    )


def test_a_record_that_nests_without_end_is_told(tmp_path: Path) -> None:
    (put_run(tmp_path) / "record.json").write_text("[" * 50_000)
    assert only(tmp_path).state == "broken" and "record.json: not a record" in only(tmp_path).detail


@pytest.mark.parametrize(
    ("finished", "silent_for", "state", "says"),
    [
        (True, 864_000, "finished", "had it, and has given no sign of life since 20"),
        (False, 864_000, "unfinished", "had it, and has given no sign of life since 20"),
        (False, 0, "at work", ""),
    ],
)
def test_whose_an_unreadable_claim_is_cannot_be_told(
    tmp_path: Path, finished: bool, silent_for: float, state: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's, of mode 600: every call ended with status 3."""
    claim_from_elsewhere(directory := put_run(tmp_path, finished=finished), silent_for)
    put_run(tmp_path, seed=1)
    forbid(monkeypatch, directory / ".claim")
    first, second = find_all_runs(tmp_path)
    assert (first.state, second.state) == (state, "finished")
    assert "another process (its claim cannot be read: Permission denied)" in first.detail and says in first.detail
    assert len(json.loads(success("runs", tmp_path, "--json").stdout)["runs"]) == 2


@pytest.mark.parametrize(("finished", "named"), [(True, "record.json: cannot"), (False, "checkpoints: cannot")])
def test_a_run_that_may_not_be_looked_into_is_told(
    tmp_path: Path, finished: bool, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a directory of mode 644: its names can be read, and nothing else."""
    directory = put_run(tmp_path, finished=finished)
    put_run(tmp_path, seed=1)
    forbid(monkeypatch, *directory.rglob("*"), even_to_look=True)
    assert [run.state for run in find_all_runs(tmp_path)] == ["broken", "finished"]
    assert "cannot be read" in find_all_runs(tmp_path)[0].detail
    told: list[ResultsError] = []
    assert len(find_records([tmp_path], told.append)) == 1 and f"{named} be read" in str(told[0])


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_with_links_to_it_is_listed_at_its_own_place(tmp_path: Path, finished: bool) -> None:
    directory = put_run(tmp_path / "store", finished=finished)
    for link in (tmp_path / "store/a_best", tmp_path / "store/classification/a_best", tmp_path / "store/zz"):
        link.symlink_to(directory)
    assert only(tmp_path / "store").directory == directory
    outside = tmp_path / "links"
    outside.mkdir()
    (outside / "best").symlink_to(directory)
    assert only(outside).directory == outside / "best"
    assert only(outside).place == ("classification", "imagenet1k", "mae_vit_base", 0, KEY, 1)
