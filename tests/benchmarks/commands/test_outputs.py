"""Where output goes: files, links, pipes, standard output; and readers and people that leave in the middle."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer

from benchmarks.running.writing import write_record
from tests.support.in_process import call, refusal, success
from tests.support.results_examples import make_record


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_record(tmp_path / "runs/a", make_record(83.5))
    return tmp_path / "runs"


class TestTableInto:
    def test_a_pipe(self, store: Path, tmp_path: Path) -> None:
        """What was no regular file was replaced by one: as root, /dev/null."""
        pipe, read = tmp_path / "pipe.csv", list[str]()
        os.mkfifo(pipe)
        reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
        reader.start()
        success("table", store, "-o", pipe)
        assert pipe.is_fifo()
        reader.join(10)
        assert read[0].startswith("table,dataset,")

    @pytest.mark.parametrize("exists", [True, False])
    def test_what_a_link_leads_to(self, store: Path, tmp_path: Path, exists: bool) -> None:
        target, link = tmp_path / "elsewhere/t.md", tmp_path / "link.md"
        target.parent.mkdir()
        if exists:
            target.write_text("before")
        link.symlink_to("elsewhere/t.md")
        success("table", store, "-o", link)
        assert link.is_symlink() and target.read_text().startswith("### ImageNet-1K")
        assert [path.name for path in target.parent.iterdir()] == ["t.md"]

    def test_a_device_behind_a_link(self, store: Path, tmp_path: Path) -> None:
        link = tmp_path / "null.csv"
        link.symlink_to(os.devnull)
        success("table", store, "-o", link)
        assert link.is_symlink() and Path(os.devnull).is_char_device()

    def test_a_full_device(self, store: Path, tmp_path: Path) -> None:
        (tmp_path / "full.md").symlink_to("/dev/full")
        assert "no space is left" in refusal("table", store, "-o", tmp_path / "full.md", status=75)

    def test_standard_output(self, store: Path, tmp_path: Path) -> None:
        """Under each of its names; a file that it is appended to was replaced."""
        printed = success("table", store).stdout
        assert success("table", store, "-o", "-").stdout == printed
        for name in ("-", "/dev/stdout"):
            all_of_it = tmp_path / "all.md"
            all_of_it.write_text("before\n")
            with all_of_it.open("a") as file:
                subprocess.run(
                    [sys.executable, "-m", "benchmarks", "table", store, "-o", name], stdout=file, check=True
                )
            assert all_of_it.read_text() == f"before\n{printed}"

    def test_a_directory(self, store: Path, tmp_path: Path) -> None:
        """The message was: Make . a directory that you may write to."""
        (tmp_path / "d.csv").mkdir()
        message = refusal("table", store, "-o", tmp_path / "d.csv", status=3)
        assert message == f"{tmp_path}/d.csv: cannot be written: it is a directory. Give the name of a file."

    @pytest.mark.parametrize(("options", "name"), [(["--json"], "t.csv"), (["--format", "latex"], "t.md")])
    def test_a_file_that_is_named_after_another_format(
        self, store: Path, tmp_path: Path, options: list[str], name: str
    ) -> None:
        message = refusal("table", store, *options, "-o", tmp_path / name)
        assert message.startswith(f"{' '.join(options)} -o {tmp_path}/{name}: two formats")
        assert not (tmp_path / name).exists()
        success("table", store, *options, "-o", tmp_path / "t.txt")

    def test_a_json_file(self, store: Path, tmp_path: Path) -> None:
        success("table", store, "--json", "-o", tmp_path / "t.json")
        assert (tmp_path / "t.json").read_text().startswith("{")


@pytest.mark.parametrize(
    "arguments", [["list", "recipes"], ["list", "recipes", "--json"], ["table", "STORE"], ["--help"], ["doctor"]]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_is_gone_is_no_answer(store: Path, arguments: list[str], unbuffered: str) -> None:
    """`backbench compare A B --fail-if-worse top1=1 | head -1` said that A was worse."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [str(store) if word == "STORE" else word for word in arguments]
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks", *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writing)
    assert (finished.returncode, finished.stderr) == (141, b"")


class TestAQuestion:
    """typer says of all three that they abort."""

    @pytest.fixture
    def ending(self, monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
        """What happens while a command asks: an exception, or the answer no."""
        events: list[BaseException | None] = []

        def ask(*arguments: object, **options: object) -> None:
            (event,) = events
            if event is None:
                raise typer.Abort
            try:
                raise event
            except (KeyboardInterrupt, EOFError):
                raise typer.Abort from None

        monkeypatch.setattr("benchmarks.commands.listing.show_list", ask)
        return events

    @pytest.mark.parametrize(("event", "status"), [(KeyboardInterrupt(), 130), (EOFError(), 1), (None, 1)])
    def test_that_is_interrupted_is_not_answered(
        self, ending: list[BaseException | None], event: BaseException | None, status: int
    ) -> None:
        ending.append(event)
        result = call("list", "recipes")
        assert result.exit_code == status
        assert ("backbench: interrupted" in result.output) == (status == 130)
