"""What `backbench clean` removes, what it leaves alone and says so, and what it does where something will not go."""

import csv
import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.running import cleaning, lease
from benchmarks.running.claim import CLAIM, claimed
from benchmarks.running.cleaning import find_waste, remove
from benchmarks.running.collecting import collect
from benchmarks.running.writing import write_record
from results import Record, find_records
from tests.support.folders import contents, forbid
from tests.support.in_process import call, success
from tests.support.results_examples import make_record
from tests.support.stores import KEY, RECIPE_TEXT, claim_from_elsewhere, put_run


def waste(root: Path) -> list[str]:
    return [str(one.path.relative_to(root)) for one in find_waste(root).waste]


def left(root: Path) -> dict[str, str]:
    return {str(one.path.relative_to(root)): why for one, why in find_waste(root).left}


def rows(root: Path) -> set[tuple[str, str]]:
    with (root / "results.csv").open() as file:
        return {(row["seed"], row["run"]) for row in csv.DictReader(file)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three runs of seeds 0 and 1 each, and what they are collected in."""
    root = tmp_path / "store"
    for seed in (0, 1):
        for number in (1, 2, 3):
            put_run(root, number, seed=seed)
    collect(root)
    return root


def run_of(store: Path, seed: int, number: int) -> Path:
    name = f"seed{seed}-{KEY}" + (f".{number}" if number > 1 else "")
    return store / "classification/imagenet1k/mae_vit_base" / name


@pytest.fixture
def stubborn(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a folder that will not go, as where a file in it is still open on a network file system."""
    folder, genuine = run_of(store, 0, 1) / "checkpoints", os.rmdir

    def rmdir(path: object, **options: object) -> None:
        if str(path) in (str(folder), folder.name) and folder.is_dir() and not any(folder.iterdir()):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)
        genuine(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rmdir", rmdir)
    return folder


def test_what_will_not_go_is_named_and_the_others_go(store: Path, stubborn: Path) -> None:
    result = call("clean", store, "--yes")
    assert result.exit_code == 3
    assert "freed " in result.stderr and f"{stubborn.parent}: Directory not empty" in result.stderr
    assert all(run_of(store, seed, number).exists() == (number == 3) for seed in (0, 1) for number in (1, 2, 3) if seed)
    assert not run_of(store, 0, 2).exists() and (stubborn.parent / "record.json").is_file()
    assert rows(store) == {("0", "1"), ("0", "3"), ("1", "3")}  # all that there are records of
    assert waste(store)[0] == str(stubborn.parent.relative_to(store))


def test_a_file_that_will_not_go_does_not_keep_the_others(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.unlink

    def unlink(path: object, **options: object) -> None:
        if str(path).endswith("seed0-0123456789ab.3/checkpoints/iteration_1.pth"):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        genuine(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", unlink)
    removal = remove(store, find_waste(store).waste)
    file = run_of(store, 0, 3) / "checkpoints/iteration_1.pth"
    assert removal.stayed == [(file, f"Operation not permitted ({file})")] and waste(store) == [
        str(file.relative_to(store))
    ]


@pytest.mark.parametrize(("number", "goes"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_a_full_disk_is_cleaned_though_nothing_can_be_claimed(
    store: Path, number: int, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cleaning, "Lease", fail)
    removal = remove(store, find_waste(store).waste)
    assert [run_of(store, 0, number).exists() for number in (1, 2, 3)] == [not goes, not goes, True]
    assert len(removal.stayed) == (0 if goes else 6) and (removal.freed > 0) == goes


def test_a_copy_that_bears_the_first_run_s_number_is_no_run(tmp_path: Path) -> None:
    first = put_run(tmp_path, checkpoints=1)
    for name in ("1", "01", "0", "2.bak"):
        shutil.copytree(first, first.with_name(f"{first.name}.{name}"))
    assert waste(tmp_path) == []


def test_a_copy_that_is_named_as_a_later_run_makes_no_other_superseded(store: Path) -> None:
    """Clean removed the run that the table shows: the copy of the first one bore the highest number."""
    shutil.copytree(run_of(store, 0, 1), copy := run_of(store, 0, 4))
    run_of(store, 1, 3).rename(renamed := run_of(store, 1, 2).with_name(f"seed1-{KEY}.5"))
    before = contents(store)
    result = success("clean", store, "--yes")
    assert contents(store) == before
    assert f"{copy}: 3." in result.stderr and f"its record is of seed 0, key {KEY}, run 1. A copy?" in result.stderr
    assert {*left(store)} == {str(path.relative_to(store)) for path in (copy, renamed)}
    copy.rename(copy.with_name(f"{copy.name}.bak"))
    success("clean", store, "--yes")
    kept = {(record.seed, record.run) for _, record in find_records([store])}
    assert kept == {(0, 1), (0, 3), (1, 1), (1, 2), (1, 3)}


def test_a_renamed_run_that_lies_alone_is_cleaned_as_any_other(tmp_path: Path) -> None:
    run = put_run(tmp_path)
    run.rename(alone := run.with_name(f"{run.name}.4"))
    assert waste(tmp_path) == [str((alone / "checkpoints/iteration_1.pth").relative_to(tmp_path))]


def test_a_later_run_that_is_replaced_by_a_copy_since_the_look_supersedes_nothing(store: Path) -> None:
    found = [one for one in find_waste(store).waste if one.path == run_of(store, 0, 2)]
    shutil.copy(run_of(store, 0, 1) / "record.json", run_of(store, 0, 3))
    assert [path for path, _ in remove(store, found).stayed] == [run_of(store, 0, 2)]
    assert (run_of(store, 0, 2) / "record.json").is_file()


def put_pretraining(out: Path, number: int) -> Path:
    """A finished one, with what it exports."""
    run = put_run(out / "made", number)
    record = make_record(key=KEY, run=number, task="pretraining", checkpoint_sha256=f"{number}" * 64)
    run.rename(moved := out / run.name)
    write_record(moved, record)
    for name in ("encoder.pth", "autoencoder.pth"):
        torch.save({}, moved / "checkpoints" / name)
    return moved


def test_a_superseded_pretraining_keeps_its_weights(tmp_path: Path) -> None:
    """Runs of other stores may be made from them."""
    for number in (1, 2):
        put_pretraining(tmp_path, number)
    assert {path.rpartition("/")[2] for path in waste(tmp_path)} == {"iteration_1.pth", "iteration_2.pth"}
    success("clean", tmp_path, "--yes")
    names = {path.name for path in tmp_path.rglob("*.pth")}
    assert names == {"encoder.pth", "autoencoder.pth"} and len(find_records([tmp_path])) == 2


def test_weights_that_a_finished_run_was_made_from_stay(store: Path) -> None:
    """Repeating its command would find no file, and could not tell that it has finished."""
    origins = run_of(store, 0, 1) / "checkpoints/iteration_2.pth", run_of(store, 1, 3) / "checkpoints/iteration_1.pth"
    for number, origin in enumerate(origins, start=5):
        run = put_run(store, seed=number, checkpoints=0)
        path = origin if number == 5 else origin.relative_to(store)  # as it was given
        write_record(run, make_record(key=KEY, seed=number, load_report={"path": str(path)}))
    before = {run_of(store, 0, 1): contents(run_of(store, 0, 1)), run_of(store, 1, 3): contents(run_of(store, 1, 3))}
    result = success("clean", store, "--yes")
    assert {run: contents(run) for run in before} == before and not run_of(store, 0, 2).exists()
    size = sum(path.stat().st_size for path in run_of(store, 0, 1).rglob("*") if path.is_file()) / 1024
    assert f"seed0-{KEY}: {size:.1f} KiB left alone: {run_of(store, 5, 1)} was made from its weights" in result.stderr
    assert f"seed1-{KEY}.3: 1.0 KiB left alone: {run_of(store, 6, 1)} was made from its weights" in result.stderr


def test_ctrl_c_in_the_middle_leaves_results_csv_true(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, calls = cleaning._empty, []

    def empty(directory: Path, check: Callable[[], None]) -> None:
        genuine(directory, check)
        calls.append(directory)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cleaning, "_empty", empty)
    with pytest.raises(KeyboardInterrupt):
        remove(store, find_waste(store).waste)
    assert rows(store) == {("0", "3"), ("1", "1"), ("1", "2"), ("1", "3")}
    assert not list(store.rglob(CLAIM))


def test_a_store_that_is_cleaned_in_part_has_a_true_results_csv(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store / "classification/imagenet1k")
    success("clean", ".", "--yes")
    assert rows(store) == {("0", "3"), ("1", "3")} and not Path("results.csv").exists()


def test_a_run_that_is_a_link_stays_with_what_it_leads_to(store: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "scratch"
    elsewhere.mkdir()
    run_of(store, 0, 1).rename(elsewhere / "moved")
    run_of(store, 0, 1).symlink_to(elsewhere / "moved")
    (run_of(store, 1, 3) / "checkpoints").rename(elsewhere / "checkpoints")
    (run_of(store, 1, 3) / "checkpoints").symlink_to(elsewhere / "checkpoints")
    shutil.copytree(elsewhere / "checkpoints", elsewhere / "others")
    shutil.rmtree(run_of(store, 1, 1) / "checkpoints")
    (run_of(store, 1, 1) / "checkpoints").symlink_to(elsewhere / "others")
    before = contents(elsewhere)
    result = success("clean", store, "--yes")
    assert contents(elsewhere) == before
    assert result.stderr.count(" KiB left alone: what could go lies behind a link: clean the directory that") == 2
    assert not run_of(store, 0, 2).exists() and not run_of(store, 1, 1).exists()
    assert sorted(left(store)) == [
        str(path.relative_to(store))
        for path in (run_of(store, 0, 1), run_of(store, 1, 3) / "checkpoints/iteration_1.pth")
    ]


def test_a_linked_store_is_cleaned(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    success("clean", tmp_path / "link", "--yes")
    assert rows(store) == {("0", "3"), ("1", "3")}


@pytest.mark.parametrize(("silent_for", "goes"), [(0, False), (7200, False), (864_000, True)])
def test_a_claim_that_has_been_silent_for_a_day_keeps_nothing(
    store: Path, silent_for: float, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.2 if goes else 60.0)
    for number in (1, 3):
        claim_from_elsewhere(run_of(store, 0, number), silent_for)
    claim_from_elsewhere(unfinished := put_run(store, seed=7, finished=False), silent_for)
    before = contents(unfinished)
    result = success("clean", store, "--yes")
    assert contents(unfinished) == before
    assert run_of(store, 0, 1).exists() == (not goes)
    assert (run_of(store, 0, 3) / "checkpoints/iteration_1.pth").exists() == (not goes)
    assert ("KiB left alone: process 77 on node7 " in result.stderr) == (not goes)
    assert (run_of(store, 0, 3) / "checkpoints/iteration_2.pth").exists()


def test_a_claim_that_cannot_be_read_is_somebodys(store: Path) -> None:
    (run_of(store, 0, 1) / CLAIM).write_text("")
    assert [*left(store)] == [str(run_of(store, 0, 1).relative_to(store))]


def test_the_claim_of_another_user_is_somebodys_for_ever(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in (run_of(store, 0, 1), run_of(store, 0, 3)):
        claim_from_elsewhere(directory, 864_000)
    forbid(monkeypatch, run_of(store, 0, 1) / CLAIM)
    result = success("clean", store, "--yes", "--dry-run")
    assert f"left alone: whose it is cannot be told: {run_of(store, 0, 1) / CLAIM} cannot be read (Permission" in (
        result.stderr
    )
    assert [*left(store)] == [str(run_of(store, 0, 1).relative_to(store))]
    found = [one for one in find_waste(store).waste if one.path == run_of(store, 0, 2)]
    claim_from_elsewhere(run_of(store, 0, 2), 864_000)
    forbid(monkeypatch, run_of(store, 0, 2) / CLAIM)
    assert [path for path, _ in remove(store, found).stayed] == [run_of(store, 0, 2)]


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda store: (run_of(store, 0, 3) / "record.json").unlink(),
        lambda store: shutil.rmtree(run_of(store, 0, 3)),
        lambda store: (run_of(store, 0, 1) / "record.json").unlink(),
        lambda store: claim_from_elsewhere(run_of(store, 0, 1), 0),
        lambda store: (run_of(store, 0, 1) / CLAIM).write_text(""),
    ],
)
def test_a_superseded_run_that_has_changed_since_the_look_stays(store: Path, change: Change) -> None:
    found = [one for one in find_waste(store).waste if one.path == run_of(store, 0, 1)]
    change(store)
    before = contents(run_of(store, 0, 1))
    removal = remove(store, found)
    assert contents(run_of(store, 0, 1)) == before and removal.freed == 0
    assert [path for path, _ in removal.stayed] == [run_of(store, 0, 1)]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "record.json").unlink(),
        lambda run: (run / "checkpoints/iteration_2.pth").unlink(),
        lambda run: claim_from_elsewhere(run, 0),
    ],
)
def test_a_checkpoint_that_is_needed_since_the_look_stays(tmp_path: Path, change: Change) -> None:
    run = put_run(tmp_path)
    found = find_waste(tmp_path).waste
    assert waste(tmp_path) == [str((run / "checkpoints/iteration_1.pth").relative_to(tmp_path))]
    change(run)
    assert remove(tmp_path, found).freed == 0 and (run / "checkpoints/iteration_1.pth").is_file()


def test_what_went_by_itself_since_the_look_is_not_missed(store: Path) -> None:
    found = find_waste(store).waste
    shutil.rmtree(run_of(store, 0, 1))
    (run_of(store, 0, 3) / "checkpoints/iteration_1.pth").unlink()
    assert remove(store, found).stayed == [] and not run_of(store, 0, 1).exists()


def test_nobody_begins_in_a_run_that_is_being_removed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def begin(directory: Path, check: Callable[[], None]) -> None:
        with pytest.raises(ValueError, match="is at work on this run") as refusal, claimed(directory, store, str):
            pass
        refused.append(refusal)
        genuine(directory, check)

    genuine = cleaning._empty
    monkeypatch.setattr(cleaning, "_empty", begin)
    assert remove(store, find_waste(store).waste).stayed == []
    assert len(refused) == 4


def test_who_was_stopped_so_long_that_another_began_removes_nothing_more(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a suspended process, or one whose file server hung: it went on, in the new run."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.0)  # looks before every removal, as after a long stop
    monkeypatch.setattr(lease.Lease, "_beat", lambda self: None)
    genuine, taken = Path.unlink, run_of(store, 0, 1)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        genuine(path, missing_ok=missing_ok)
        if path.name == "iteration_1.pth" and taken in path.parents:
            claim_from_elsewhere(taken, 0)

    monkeypatch.setattr(Path, "unlink", unlink)
    removal = remove(store, find_waste(store).waste)
    assert removal.stayed == [(taken, "the claim is lost, and process 77 on node7 has it now")]
    assert (taken / "checkpoints/iteration_2.pth").is_file() and (taken / "record.json").is_file()
    assert (taken / CLAIM).is_file() and removal.freed > 1024
    assert not run_of(store, 0, 2).exists() and rows(store) == {("0", "1"), ("0", "3"), ("1", "3")}


def test_unfinished_and_broken_runs_lose_nothing_whatever_is_beside_them(tmp_path: Path) -> None:
    put_run(tmp_path, 1, finished=False)
    broken = put_run(tmp_path, 2)
    (broken / "record.json").write_text("{")
    put_run(tmp_path, 3, checkpoints=1)
    put_run(tmp_path, 4, finished=False, checkpoints=1)
    assert waste(tmp_path) == []


def test_runs_that_vanish_meanwhile_are_not_missed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = cleaning.finished_record

    def look(directory: Path) -> Record | None:
        if run_of(store, 1, 3).exists():
            shutil.rmtree(run_of(store, 1, 3))
        return genuine(directory)

    monkeypatch.setattr(cleaning, "finished_record", look)
    assert str(run_of(store, 1, 2).relative_to(store)) not in waste(store)  # the last one now


def test_partial_files_in_the_store_itself(store: Path) -> None:
    partial, link = store / ".results.csv.0123456789ab", store / ".links.csv.0123456789ab"
    partial.write_bytes(b"half")
    link.symlink_to("nowhere")
    os.utime(partial, (time.time() - 9_999,) * 2)
    found = [one for one in find_waste(store).waste if one.run is None]
    assert [one.path for one in found] == [partial] and remove(store, found).freed == 4
    assert not partial.exists() and link.is_symlink()


def test_a_run_whose_recipe_is_all_there_is_stays(tmp_path: Path) -> None:
    run = put_run(tmp_path, finished=False, checkpoints=1)
    (run / "recipe.yaml").write_text(RECIPE_TEXT)
    assert find_waste(tmp_path).waste == [] == find_waste(run).waste


def test_a_superseded_run_stays_whose_weights_were_evaluated(store: Path) -> None:
    first = run_of(store, 0, 1)
    evaluation = put_run(store / "others", seed=5, checkpoints=0)
    report = {"path": str(first / "weights.safetensors")}
    write_record(evaluation, make_record(key=KEY, seed=5, trained=KEY, load_report=report))
    place = str(first.relative_to(store))
    assert place not in waste(store) and f"{evaluation} was made from its weights" in left(store)[place]
