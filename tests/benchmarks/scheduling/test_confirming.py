"""Further seeds before a night alarms: how many, on which GPU, and what a signal does to them."""

import signal
import sys
import time
from pathlib import Path

import pytest

from benchmarks.launching import processes, slots
from benchmarks.launching.slots import Slot, unlock
from benchmarks.scheduling import confirming
from benchmarks.scheduling.confirming import FurtherRun, carry_out, further_runs
from results import load_results
from results.regression.findings import CellName, Finding, Kind, Severity
from results.regression.runs import to_runs
from tests.support.suite_stores import make_job, put_finished, put_suite

TOLD = "import os, sys; print(os.environ.get('CUDA_VISIBLE_DEVICES'), *sys.argv[1:])"
ASKED = """
import os, signal
def end(*_):
    print('saved', flush=True)
    os._exit(75)
signal.signal(signal.SIGTERM, end)
os.kill(os.getppid(), signal.SIGTERM)
while True:
    signal.pause()
"""
CELL = CellName("classification", "imagenet1k", "val", "top1", "MAE", "IN1K", "ViT-B", "mae_vit_base", "imagenet")
SAVED = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
signal.signal(signal.SIGHUP, lambda *_: os._exit(75))
print('begun', flush=True)
while True:
    signal.pause()
"""
JOB = make_job("mae", 0, arguments=("run", "--recipe", "imagenet_vit_base", "--seed", "0"))


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slots, "_folder", lambda: tmp_path / "gpus")
    monkeypatch.setattr(slots, "_known_uuids", dict)


def put_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, gpus: int = 0, of: int = 1
) -> FurtherRun:
    """A further run of a cell that had so many processes, on a machine of so many GPUs, carried out by a program."""
    folder = put_suite(tmp_path / "store", JOB)
    put_finished(folder, JOB, world_size=of)
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, "-c", program))
    monkeypatch.setattr(confirming, "find_gpus", lambda: tuple(map(str, range(gpus))))
    return FurtherRun(JOB, folder, 7, CELL)


@pytest.mark.parametrize(
    ("gpus", "of", "expected"),
    [(0, 1, "None"), (2, 1, "1"), (5, 2, "2,3 --processes 2"), (5, 8, "1")],
)
def test_it_takes_as_many_gpus_as_the_cell_had_that_nobody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, of: int, expected: str
) -> None:
    run = put_further(tmp_path, monkeypatch, TOLD, gpus, of)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    held = Slot(gpus=("0",)).lock()
    assert carry_out(run) is None
    freed = Slot(gpus=("1",)).lock()
    assert held is not None and freed is not None
    unlock((*held, *freed))
    visible, _, processes_of_it = expected.partition(" ")
    told = " ".join([visible, "run --recipe imagenet_vit_base --seed 7", processes_of_it]).strip()
    assert run.log.read_text() == f"{told}\n"


def test_a_signal_to_end_lets_it_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = put_further(tmp_path, monkeypatch, ASKED)
    with pytest.raises(KeyboardInterrupt):
        carry_out(run)
    assert run.log.read_text() == "saved\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("program", "kind", "severity", "words"),
    [
        ("raise SystemExit(4)", "failed", Severity.regression, "seed 7 failed with exit status 4 (log: {})"),
        ("raise SystemExit(75)", "unfinished", Severity.unclear, "seed 7 was ended with exit status 75 (log: {})"),
        ("raise SystemExit(130)", "unfinished", Severity.unclear, "seed 7 was ended with exit status 130 (log: {})"),
        ("raise SystemExit(137)", "unfinished", Severity.unclear, "seed 7 was ended by signal 9 (log: {})"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "unfinished",
            Severity.unclear,
            "seed 7 was ended by signal 9 (log: {})",
        ),
    ],
)
def test_one_that_ends_otherwise_than_well_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, kind: Kind, severity: Severity, words: str
) -> None:
    run = put_further(tmp_path, monkeypatch, program)
    assert carry_out(run) == Finding(CELL, kind, severity, words.format(run.log)) and run.log.is_file()


def test_when_its_time_is_over_it_is_asked_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = put_further(tmp_path, monkeypatch, SAVED)
    monkeypatch.setattr(confirming, "_is_over", lambda until: run.log.is_file() and bool(run.log.read_text()))
    words = f"seed 7 has not ended: the hours for further seeds were over (log: {run.log})"
    assert carry_out(run, until=0.0) == Finding(CELL, "unfinished", Severity.notice, words)


def test_after_its_time_none_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = put_further(tmp_path, monkeypatch, TOLD)
    words = "seed 7 was not begun: the hours for further seeds were over"
    assert carry_out(run, until=time.monotonic()) == Finding(CELL, "unfinished", Severity.notice, words)
    assert not run.log.exists()
    held = Slot().lock()
    assert held is not None
    monkeypatch.setattr(Slot, "lock", lambda slot: None)
    waited = carry_out(run, until=time.monotonic() + 0.1)
    assert waited is not None and waited.words == words


@pytest.mark.parametrize(
    ("tonight", "expected"),
    [((0,), [10, 11]), ((0, 10), [11]), ((0, 11), [10]), ((0, 10, 11), []), ((0, 10, 11, 12), [])],
)
def test_a_repeated_call_goes_on_and_adds_none(tmp_path: Path, tonight: tuple[int, ...], expected: list[int]) -> None:
    folder = put_suite(tmp_path / "store", JOB)
    put_finished(folder, JOB)
    (run,) = to_runs(load_results(folder.out))
    planned = further_runs([folder.out], [(run.cell, (8, 9), tonight)], 2)
    assert [one.seed for one in planned] == expected


def test_of_two_methods_with_one_backbone_each_has_its_own_weights(tmp_path: Path) -> None:
    jobs = [make_job(name, method=name, arguments=("run", "--seed", "0", "--method", name)) for name in ("MAE", "DINO")]
    folder = put_suite(tmp_path / "store", *jobs)
    for job in jobs:
        put_finished(folder, job)
    runs = to_runs(load_results(folder.out))
    assert {run.cell.method for run in runs} == {"MAE", "DINO"}
    for run in runs:
        (further,) = further_runs([folder.out], [(run.cell, (0,), (0,))], 1)
        assert further.arguments == ["run", "--seed", "1", "--method", run.cell.method]
