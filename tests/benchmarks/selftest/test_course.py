"""The frame of `backbench doctor --train`: lines one after the other, whatever becomes of them, and what is told."""

import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from benchmarks.commands import selftest
from benchmarks.selftest.course import IMAGES, run_course
from benchmarks.selftest.lines import Line, Verdict
from benchmarks.selftest.worker import Outcome, Worker, first_line
from tests.support.in_process import call, refusal, usage_refusal
from tests.support.selftest_lines import BY_NAME, LINES

STUBS = "tests.support.selftest_lines:LINES"
ORDINARY = [line for line in LINES if line.name != "endless"]


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.selftest.course.IMAGES", dict.fromkeys(IMAGES, 8) | {"processes": 1})


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's lines are those that end in all ways but never."""
    monkeypatch.setattr(selftest, "LINES", ORDINARY)
    monkeypatch.setattr(selftest, "COURSE", STUBS)


def train(out: Path, *more: object) -> Any:
    return call("doctor", "--train", "--device", "cpu", "--minutes", 1, "--out", out, *more)


def entries(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in document(out)["lines"]}


def document(out: Path, name: str = "selftest") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return found


@pytest.mark.usefixtures("stubs")
@pytest.mark.slow
def test_every_line_has_its_turn_whatever_became_of_those_before_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = train(out)
    assert result.exit_code == 1
    sentence = "2 lines ok, 3 failed: wrong, broken, killed, 3 not run"
    assert sentence in result.output.splitlines()
    assert "said by the line" not in result.output
    assert "said by the line" in (out / "selftest.log").read_text()
    found = entries(out)
    states = {name: entry["state"] for name, entry in found.items()}
    assert states == {
        "first": "ok",
        "wrong": "failed",
        "broken": "failed",
        "pointless": "not run",
        "killed": "failed",
        "long": "not run",
        "for-a-gpu": "not run",
        "last": "ok",
    }
    assert found["first"]["figures"] == {"hits": 7, "share": "nan", "kind": "cpu"}
    assert (found["wrong"]["measured"], found["wrong"]["expected"]) == ("6 of 7", "7")
    assert found["broken"]["why"] == "ValueError: no such thing"
    assert found["pointless"]["why"] == "needs two GPUs"
    assert found["killed"]["why"].startswith("the process was ended by SIGKILL; ")
    assert "s left, it takes about 1000 s" in found["long"]["why"]
    assert found["for-a-gpu"]["why"] == "nothing to try on cpu"
    told = document(out)
    assert (told["verdict"], told["kind"], told["versions"]["timm"]) == (sentence, "cpu", "1.0.31")
    assert "cores" in told["device"]
    table = (out / "selftest.md").read_text()
    assert "| ok | first | what first tries | 7 of 7 | 7 \\| all | " in table
    kept = {path.relative_to(out).as_posix() for path in (out / "scratch").glob("*/*")}
    assert kept == {"scratch/wrong/left"}, "only what a failed line left is to be looked into"


@pytest.mark.usefixtures("stubs")
def test_lines_by_name_and_exit_status_0_where_none_failed(tmp_path: Path) -> None:
    result = train(tmp_path / "out", "--only", "last", "--only", "first")
    assert result.exit_code == 0
    assert "2 lines ok" in result.output.splitlines()
    told = document(tmp_path / "out", "selftest-first-and-1-more")["lines"]
    assert [entry["name"] for entry in told] == ["first", "last"], "in the order of their worth"


@pytest.mark.usefixtures("stubs")
def test_a_misspelt_line_is_told_the_nearest(tmp_path: Path) -> None:
    message = refusal("doctor", "--train", "--only", "frist", "--out", tmp_path)
    assert message.strip() == "--only frist: the self-test has no such line. Did you mean 'first'?"


def test_every_line_that_is_named_somewhere_is_one() -> None:
    """The help told of one that never was."""
    root = Path(selftest.__file__).parents[2]
    texts = [call("doctor", "--help").output, *(path.read_text() for path in root.glob("*.md"))]
    texts += [path.read_text() for path in (root / "benchmarks/commands").glob("*.py")]
    named = {name for text in texts for name in re.findall(r"--only ([a-z][a-z-]+)", text)}
    assert "detector-parity" in named and named <= {line.name for line in selftest.LINES}


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = refusal("doctor", "--train", "--device", "cuda", "--out", tmp_path / "out")
    assert message.startswith("--device cuda: PyTorch ") and "finds no GPU. Use --device cpu" in message
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    message = refusal("doctor", "--train", "--device", "cpu", "--out", tmp_path / "out", status=3)
    assert "Name a folder that you may write to" in message


@pytest.mark.parametrize("option", [("--device", "cpu"), ("--minutes", "3"), ("--out", "x"), ("--only", "x")])
def test_options_of_the_self_test_need_it(option: tuple[str, str]) -> None:
    message = usage_refusal("doctor", *option)
    assert f"{option[0]}: is for the self-test: add --train" in message


def test_a_gpu_without_memory_for_a_start_is_no_failure(tmp_path: Path) -> None:
    with Worker("tests.support.selftest_lines:WITHOUT_MEMORY", "cpu", tmp_path / "log") as worker:
        (verdict,) = run_course(worker, [BY_NAME["first"]], tmp_path, 1)
    assert (verdict.state, verdict.why) == ("not run", "RuntimeError: CUDA error: out of memory")


class Scripted(Worker):
    """Answers in this process, without trying anything."""

    def __init__(self) -> None:
        super().__init__(STUBS, "cpu", Path("log"))
        self.tried: list[str] = []

    def start(self) -> None:
        self.about = {"device": "a device"}

    def try_line(self, line: Line, scratch: Path, data: Path, limit: float) -> Outcome:
        self.tried.append(line.name)
        if line.name == "interrupted":
            raise KeyboardInterrupt
        return Outcome("ok")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    worker = Scripted()
    monkeypatch.setattr("benchmarks.selftest.course._draw", lambda data: None)
    monkeypatch.setattr(selftest, "Worker", lambda *arguments: worker)
    return worker


def named(*lines: tuple[str, float]) -> list[Line]:
    return [Line(name, name, {"cpu": seconds}, BY_NAME["first"].run) for name, seconds in lines]


def test_a_shorter_line_is_run_in_the_time_that_is_too_short_for_another(scripted: Scripted, tmp_path: Path) -> None:
    begun: list[str] = []
    lines = named(("long", 90), ("short", 30))
    verdicts = [*run_course(scripted, lines, tmp_path, 1, lambda line, left: begun.append(line.name))]
    assert [verdict.state for verdict in verdicts] == ["not run", "ok"]
    assert begun == scripted.tried == ["short"]


def test_a_line_that_takes_no_time_says_why_it_is_not_run_when_there_is_none_left(
    scripted: Scripted, tmp_path: Path
) -> None:
    verdicts = [*run_course(scripted, named(("one", 1), ("none", 0)), tmp_path, 0)]
    assert [verdict.why for verdict in verdicts] == ["0 s left, it takes about 1 s", ""]
    assert scripted.tried == ["none"]


def test_the_document_is_whole_after_every_line(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = named(("a", 1), ("b", 1), ("c", 1))
    monkeypatch.setattr(selftest, "LINES", lines)
    seen: list[Sequence[str]] = []

    def watched(*arguments: Any) -> Iterator[Verdict]:
        for verdict in run_course(*arguments):
            yield verdict
            seen.append([entry["state"] for entry in document(tmp_path)["lines"]])

    monkeypatch.setattr(selftest, "run_course", watched)
    assert train(tmp_path).exit_code == 0
    assert seen == [["ok", "not run", "not run"], ["ok", "ok", "not run"], ["ok", "ok", "ok"]]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_one_line_again_leaves_the_report_of_all(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "LINES", named(("a", 1), ("b", 1)))
    train(tmp_path)
    (tmp_path / "selftest.log").write_text("of all")
    whole = contents(tmp_path)
    assert set(whole) == {"selftest.json", "selftest.md", "selftest.log"}
    result = train(tmp_path, "--only", "b")
    assert f"{tmp_path / 'selftest-b.json'}, {tmp_path / 'selftest-b.md'}; what" in result.output
    assert [entry["name"] for entry in document(tmp_path, "selftest-b")["lines"]] == ["b"]
    after = contents(tmp_path)
    assert whole.items() <= after.items() and set(after) - set(whole) == {
        f"selftest-b.{x}" for x in ("json", "md", "log")
    }


def test_a_report_of_another_time_is_not_taken_for_this_ones(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "LINES", named(("interrupted", 1)))
    (tmp_path / "selftest.json").write_text('{"verdict": "of another time"}')
    seen: list[str] = []
    draw = lambda data: seen.append(document(tmp_path)["verdict"])  # noqa: E731
    monkeypatch.setattr("benchmarks.selftest.course._draw", draw)
    train(tmp_path)
    assert seen == ["0 lines ok, 1 not run"]


@pytest.mark.parametrize("minutes", ["inf", "nan", "1e300", "1441", "0"])
def test_minutes_are_those_of_a_day_at_most(minutes: str) -> None:
    """On a terminal infinity was an OverflowError, in the JSON something that is none."""
    message = usage_refusal("doctor", "--train", "--device", "cpu", "--minutes", minutes)
    least = "greater than or equal to 0.1" if minutes == "0" else "less than or equal to 1440"
    assert f"Invalid value for '--minutes': expected a value {least}" in message


def test_ctrl_c_ends_with_what_is_known(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.selftest.course._draw", Path.mkdir)
    monkeypatch.setattr(selftest, "LINES", named(("a", 1), ("interrupted", 1), ("c", 1)))
    result = train(tmp_path)
    assert result.exit_code == 130
    assert "interrupted: 1 line ok, 2 not run" in result.output
    assert document(tmp_path)["verdict"] == "1 line ok, 2 not run"
    assert entries(tmp_path)["c"]["why"] == "not reached"
    assert not (tmp_path / "data").exists()


def test_a_folder_of_somebody_elses_stays(tmp_path: Path) -> None:
    own = tmp_path / "data/photograph.jpg"
    own.parent.mkdir()
    own.write_text("")
    assert "not written by" in refusal("doctor", "--train", "--device", "cpu", "--out", tmp_path)
    assert own.exists()


def test_ctrl_c_again_ends_with_what_is_known(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came out of the ending as "interrupted before the self-test began", whatever had been found."""
    monkeypatch.setattr(selftest, "LINES", named(("a", 1), ("interrupted", 1)))
    end, former = scripted.end, signal.getsignal(signal.SIGINT)

    def impatient() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        end()

    monkeypatch.setattr(scripted, "end", impatient)
    result = train(tmp_path)
    assert result.exit_code == 130 and "interrupted: 1 line ok, 1 not run" in result.output
    assert signal.getsignal(signal.SIGINT) == former


@pytest.mark.slow
def test_a_line_that_hangs_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    with Worker(STUBS, "cpu", tmp_path / "log") as worker:
        hung = worker.try_line(BY_NAME["endless"], tmp_path, tmp_path, limit=0.2)
        assert (hung.state, hung.why) == ("failed", "not done after 0 s, and ended")
        assert worker.try_line(BY_NAME["first"], tmp_path, tmp_path, limit=60).state == "ok"


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Worker(STUBS, "cpu", tmp_path / "log") as worker:
        worker.start()
        process = worker._process
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        worker.try_line(BY_NAME["endless"], tmp_path, tmp_path, limit=60)
    assert not process.is_alive()


def test_a_process_that_cannot_be_killed_is_not_waited_for_at_the_end_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits for a GPU that hangs was left alone, and then kept the self-test from ending."""
    with Worker(STUBS, "cpu", tmp_path / "log") as worker:
        worker.start()
        process, kill = worker._process, worker._process.kill
        with monkeypatch.context() as patch:
            patch.setattr(os, "killpg", lambda *arguments: None)
            patch.setattr(process, "kill", lambda: None)
            patch.setattr("benchmarks.selftest.worker.end_marked", lambda *arguments: None)
            patch.setattr("benchmarks.selftest.worker._END_SECONDS", 0.1)
            worker.end()
    assert process.is_alive() and process not in multiprocessing.active_children()
    kill()
    process.join()


def _fail_in_a_process(rank: int) -> None:
    raise ValueError("no such thing\n    as this")


def test_an_error_in_a_process_of_pytorchs_is_told_by_its_own_first_line() -> None:
    """It was "ProcessRaisedException: -- Process 0 terminated with the following error:", whatever had happened."""
    with pytest.raises(ProcessRaisedException) as error:
        torch.multiprocessing.start_processes(_fail_in_a_process, nprocs=1, start_method="fork")
    assert first_line(error.value) == "ValueError: no such thing"


def test_lines_that_cannot_be_imported_are_a_failure_of_each(tmp_path: Path) -> None:
    with Worker("tests.support.no_such_lines:LINES", "cpu", tmp_path / "log") as worker:
        (verdict,) = run_course(worker, [BY_NAME["first"]], tmp_path, 1)
    assert (verdict.state, verdict.why.startswith("RuntimeError: ")) == ("failed", True)
    assert "no_such_lines" in verdict.why
