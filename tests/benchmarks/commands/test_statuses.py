"""How commands end: one exit status for each kind of failure, the same in all processes of a job."""

import errno
import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from backbones.errors import DataError, DivergedError, InputError, TryAgainError
from benchmarks.commands.statuses import STATUSES
from benchmarks.running.claim import CLAIM, claimed
from benchmarks.running.lease import find_owner
from results import ResultsError
from results.errors import NoRoomError, NotFiniteError, StoreError
from tests.support.commands import PATIENCE, run_directory, start_torchrun
from tests.support.in_process import call, refusal, run
from tests.support.results_examples import make_record


def ending(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    """The exit status of a command that comes upon this error."""

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("benchmarks.commands.listing.show_list", fail)
    result = call("list", "recipes")
    assert result.output.startswith("backbench: ") and "Traceback" not in result.output
    return result.exit_code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("a setting"), 2),
        (ResultsError("a layout"), 2),
        (DataError("a folder"), 3),
        (StoreError("a record"), 3),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a file"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "a file"), 3),
        (DivergedError("a training"), 4),
        (NotFiniteError("a loss"), 4),
        (TryAgainError("another process"), 75),
        (NoRoomError("a disk"), 75),
        (OSError(errno.ENOSPC, "No space left on device"), 75),  # of which file, Python often does not know
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a file"), 75),
        (MemoryError(), 75),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 75),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 75),
        (RuntimeError("DataLoader worker (pid 22330) is killed by signal: Killed. "), 75),
        (RuntimeError("DataLoader worker (pid(s) 22330) exited unexpectedly"), 75),
        (
            RuntimeError(
                "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                "RuntimeError: unable to allocate shared memory(shm) for file </torch>: No space left on device (28)\n"
            ),
            75,
        ),
    ],
)
def test_every_kind_of_failure_has_its_status(monkeypatch: pytest.MonkeyPatch, error: Exception, status: int) -> None:
    """All of them were 2, and a full disk of which the file is not known was a traceback."""
    assert ending(monkeypatch, error) == status


@pytest.mark.parametrize(
    ("command", "module", "then"),
    [
        (("evaluate", "--data", ".", "--weights", "run"), "evaluating.run_evaluation", "evaluate anew, and ImageNet-C"),
        (("predict", "run", "image.png"), "predicting.predict_images", "begin anew"),
        (("export", "run", "--to", "mae", "--out", "mae.pth"), "exporting.export", "begin anew"),
    ],
)
def test_interrupted_commands_say_what_they_do_when_repeated(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], module: str, then: str
) -> None:
    monkeypatch.setattr(f"benchmarks.running.{module}", Mock(side_effect=KeyboardInterrupt))
    result = call(*command)
    assert result.exit_code == 130
    assert f"backbench: interrupted; repeat the command to {then}" in result.output


def test_a_fault_of_our_own_is_not_covered_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        ending(monkeypatch, RuntimeError("a bug"))


def test_help_tells_them_all() -> None:
    text = " ".join(call("--help").output.split())
    for status, meaning in STATUSES.items():
        assert f"{status}: {meaning}" in text


def test_a_number_that_is_none_is_that_of_a_run_that_diverged() -> None:
    with pytest.raises(NotFiniteError, match="a run that diverged has no result"):
        make_record(float("nan"))


def test_a_missing_folder_and_a_missing_setting_are_told_apart(small: Path, tmp_path: Path) -> None:
    assert "no such folder" in refusal(*run(tmp_path / "gone", tmp_path / "out"), status=3)
    assert "no such setting" in refusal(*run(small, tmp_path / "out", optimizer__lrr=1), status=2)


def endings_of_two_processes(arguments: list[str]) -> tuple[list[str], list[str], str]:
    """The exit status of each, as torchrun tells it, what they say of that, and all that was printed.

    torchrun's summary names what the first that failed has said as the cause.
    """
    with start_torchrun(arguments) as launcher:
        text, _ = launcher.communicate(timeout=PATIENCE)
    said = re.findall(r"^backbench: (.*)", text, re.MULTILINE)
    _, _, cause = text.partition("Root Cause (first observed failure):")
    assert f"traceback : backbench: {said[-1]}" in cause, text
    return re.findall(r"exitcode +: (-?\d+) \(pid", text), said, text


class TestAllProcessesEndWithTheStatusOfTheOneThatFailed:
    """The others waited for it until the launcher killed them."""

    @pytest.mark.slow
    def test_by_a_run_that_has_an_owner(self, small: Path, finished: Path, encoder: Path, tmp_path: Path) -> None:
        """Only the first asks for it."""
        out = Path(shutil.copytree(finished, tmp_path / "out"))
        (run_directory(out) / "record.json").unlink()
        with claimed(run_directory(out), out, lambda: "task: classification"):
            statuses, said, text = endings_of_two_processes(run(small, out, f"mae_vit_mini={encoder}"))
        assert statuses == ["75", "75"] and len(said) == 1 and "is at work on this run" in said[0], text

    def test_in_the_middle_of_the_training(self, small: Path, finished: Path, encoder: Path, tmp_path: Path) -> None:
        """Only the first writes checkpoints; and nobody has the run afterwards."""
        out = Path(shutil.copytree(finished, tmp_path / "out"))
        (run_directory(out) / "record.json").unlink()
        shutil.rmtree(run_directory(out) / "checkpoints")
        (run_directory(out) / "checkpoints").touch()
        statuses, said, text = endings_of_two_processes(run(small, out, f"mae_vit_mini={encoder}"))
        assert statuses == ["3", "3"] and len(said) == 1 and "iteration_2.pth: cannot be written" in said[0], text
        assert find_owner(run_directory(out) / CLAIM) is None


@pytest.fixture
def one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("arguments", [["--help"], ["list", "recipes"], ["run", "--recipe"]])
def test_a_launchers_variable_that_cannot_be_is_one_message(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "1")
    assert refusal(*arguments).startswith("environment variable RANK: '1', expected")


@pytest.mark.usefixtures("one_of_two")
def test_a_wrong_call_is_told_by_the_first_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of them printed eight frames. The others wait, for the launcher ends all once one has."""
    waited: list[None] = []
    monkeypatch.setattr("benchmarks.running.together.wait_for_first", lambda: waited.append(None))
    for rank, told in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        for arguments in (["run", "--recipe"], ["list", "nothing"], ["inspect", "a_file_that_is_not_there"]):
            result = call(*arguments)
            assert result.exit_code != 0 and bool(result.output) == told, result.output
    assert len(waited) == 3


@pytest.mark.usefixtures("one_of_two")
@pytest.mark.parametrize(
    "error",
    [
        "[/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:41625: Connection reset by peer",
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:27312",
        "[/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 4000ms for recv operation to "
        "complete",
    ],
)
def test_a_lost_connection_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """It was a traceback of sixty lines, before what the launcher says of the process that was killed."""
    assert ending(monkeypatch, RuntimeError(error)) == 75
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(RuntimeError, match="gloo"):
        ending(monkeypatch, RuntimeError(error))


@pytest.mark.usefixtures("one_of_two")
def test_machines_that_do_not_reach_each_other_are_told_of_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection was said to be lost that had never been."""
    error = RuntimeError(
        "Gloo connectFullMesh failed with [/third_party/gloo/gloo/transport/tcp/pair.cc:150] timed out connecting: "
        "SO_ERROR: Connection refused, remote=[127.0.1.1]:31337"
    )
    monkeypatch.setattr("benchmarks.commands.listing.show_list", Mock(side_effect=error))
    result = call("list", "recipes")
    assert result.exit_code == 2
    assert "GLOO_SOCKET_IFNAME" in result.output and "MASTER_ADDR" in result.output
