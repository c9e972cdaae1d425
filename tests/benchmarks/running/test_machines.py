"""Machines of one job that do not have the same directory, or other data: one message, and no step is taken."""

import shutil
from pathlib import Path

import pytest

from benchmarks.running import machines, repeating
from benchmarks.running.machines import require_same_code, require_same_data, require_same_directory
from benchmarks.running.repeating import Code
from tasks.datasets.identity import SAMPLE_SIZE, draw_sample
from tests.support.commands import run_arguments
from tests.support.two_machines import backbench_in_two, in_two

SETTINGS = {
    "schedule__epochs": 1,
    "schedule__warmup_epochs": 0,
    "optimizer__batch_size": 16,
    "runtime__workers": 0,
    "runtime__shared_directory_seconds": 0.2,
    "runtime__device": "cpu",
    "precision": "fp32",
}


def refusal(arguments: list[str], places: list[Path], output: Path, status: int = 3) -> str:
    """The only message of a command that both end with the same status, having trained nothing."""
    assert backbench_in_two(arguments, places, output) == [status, status]
    messages = [line for line in output.read_text().splitlines() if line.startswith("backbench: ")]
    assert len(messages) == 1, output.read_text()
    assert "Traceback" not in output.read_text()
    for place in places:
        assert not list(place.rglob("log.jsonl")) and not list(place.rglob("*.pth"))
    return messages[0]


def test_unlike_directories_end_a_fresh_run(mini: Path, tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    message = refusal(run_arguments(mini, Path("runs"), **SETTINGS), places, tmp_path / "log")
    assert message.startswith(f"backbench: {places[1]}/runs/classification/")
    assert "on node1: not the directory that the first process, on node0, writes to" in message
    assert "shared_directory_seconds" in message
    assert [list(place.rglob("recipe.yaml")) for place in places] == [[], []]


def test_unlike_data_end_a_run(mini: Path, tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        (place / "images").mkdir(parents=True)
        for split in ("train", "val"):
            shutil.copytree(mini / split, place / "images" / split)
    gone = sorted((places[1] / "images/val").glob("*/*"))[3]
    gone.unlink()
    message = refusal(run_arguments(Path("images"), tmp_path / "runs", **SETTINGS), places, tmp_path / "log")
    assert message.startswith(f"backbench: {gone} on node1: No such file or directory, and ")
    assert "for the first process, on node0" in message


def test_another_authors_model_has_to_be_the_same(mini: Path, tmp_path: Path) -> None:
    """Two architectures trained together, or one that differed by a line, which nothing noticed."""
    places = [tmp_path / "a", tmp_path / "b"]
    build = "def cnn(image_size, drop_path):\n    return timm.create_model('resnet10t', num_classes=0)\n"
    for place in places:
        place.mkdir()
        (place / "my_model_of_two.py").write_text(f"import timm\n\nPLACE = '{place.name}'\n\n\n{build}")
    arguments = run_arguments(mini, tmp_path / "runs", "my_model_of_two:cnn", **SETTINGS)
    message = refusal(arguments, places, tmp_path / "log", status=2)
    assert message.startswith("backbench: machines of this job run unlike code: the model's code: ")
    assert " on node0, " in message and message.endswith(" on node1. Install the same on all")


def compare_versions(rank: int, directory: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(repeating, "deciding_versions", lambda: {"timm": f"1.0.{rank}", "torch": "2.14"})
        require_same_code(Code("c0de"))


def test_libraries_have_to_be_the_same(tmp_path: Path) -> None:
    told = "InputError: machines of this job run unlike code: timm: 1.0.0 on node0, 1.0.1 on node1. Install the same"
    assert [said.startswith(told) for said in in_two(tmp_path, compare_versions)] == [True, True]


def claim_late(rank: int, directory: Path) -> str:
    """The second sees the first's claim at the third look."""
    own = directory / str(rank)
    looks = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            (own / ".claim").write_bytes(b"token=1")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("time.sleep", look)
        require_same_directory(own, 30.0)
    return f"{len(looks)}"


def test_a_claim_that_is_seen_late_is_waited_for(tmp_path: Path) -> None:
    for rank, claim in enumerate((b"token=1", b"token=0")):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / ".claim").write_bytes(claim)
    assert in_two(tmp_path, claim_late) == ["0", "2"]


def compare_data(rank: int, directory: Path) -> None:
    first = directory / "0"
    sample = draw_sample("f" * 16, [first / "a.jpg"], [first / "b.jpg"], always=[directory / "labels.json"])
    require_same_data(sample, directory / str(rank))


@pytest.mark.parametrize(("size", "word"), [(1, ""), (2, "b.jpg on node1: 2 bytes, and 1 bytes for the first")])
def test_files_are_compared_by_place_and_size(tmp_path: Path, size: int, word: str) -> None:
    (tmp_path / "labels.json").write_bytes(b"{}")
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "a.jpg").write_bytes(b"1")
        (tmp_path / str(rank) / "b.jpg").write_bytes(b"1" * (size if rank else 1))
    first, second = in_two(tmp_path, compare_data)
    if word:
        assert word in first and second == "FirstFailedError: "
    else:
        assert (first, second) == (None, None)


def compare_with_own_caches(rank: int, directory: Path) -> None:
    """Each has unpacked images into a cache folder of its own, and sees none of the first one's."""
    require_same_data([(str(directory / "cache0" / "1.ppm"), 1)], directory / "data")


def test_images_in_each_machines_own_cache_are_no_difference(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert in_two(tmp_path, compare_with_own_caches) == [None, None]


def test_one_machine_compares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_first_difference", lambda *given: "looked")
    require_same_data([(str(tmp_path / "gone.jpg"), 1)], tmp_path)


def test_the_sample_is_drawn_by_the_fingerprint_from_all_files(tmp_path: Path) -> None:
    train = [tmp_path / f"t{number}" for number in range(SAMPLE_SIZE)]
    val = [tmp_path / f"v{number}" for number in range(SAMPLE_SIZE)]
    for path in (*train, *val):
        path.write_bytes(b"12")
    drawn = draw_sample("a" * 16, train, val)
    assert len({*drawn}) == SAMPLE_SIZE
    assert {size for _, size in drawn} == {2}
    assert {Path(path).name[0] for path, _ in drawn} == {"t", "v"}
    assert draw_sample("a" * 16, train, val) == drawn != draw_sample("b" * 16, train, val)
