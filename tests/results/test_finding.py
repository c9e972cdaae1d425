"""Where runs are found in a store with links in it: each once, at its own place, whatever the order of listings."""

import os
from pathlib import Path

import pytest

from results import find_records
from tests.support.results_examples import make_record

pytestmark = pytest.mark.usefixtures("listed")

PLACE = "classification/imagenet1k/mae_vit_base/seed0-0123456789ab"


def put(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "record.json").write_text(make_record().to_json())
    return directory


def found(*roots: Path) -> list[Path]:
    return [directory for directory, _ in find_records(roots)]


@pytest.fixture(params=[False, True], ids=["ascending", "descending"])
def listed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders list what is in them in one order or the other."""
    genuine = os.scandir

    class Listing(list[os.DirEntry[str]]):
        def __enter__(self) -> "Listing":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __next__(self) -> "os.DirEntry[str]":
            if not self:
                raise StopIteration
            return self.pop(0)

        def __iter__(self) -> "Listing":  # type: ignore[override]
            return self

    def scandir(path: str) -> Listing:
        with genuine(path) as entries:
            return Listing(sorted(entries, key=lambda entry: entry.name, reverse=request.param))

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_run_is_found_at_its_own_place_whatever_links_lead_to_it(tmp_path: Path) -> None:
    run = put(tmp_path / "store" / PLACE)
    for link in ("best", "zz", "classification/best", f"{PLACE}.9"):
        (tmp_path / "store" / link).symlink_to(run)
    (tmp_path / "store/all").symlink_to(tmp_path / "store/classification")
    assert found(tmp_path / "store") == [run]
    assert found(tmp_path / "store/classification", tmp_path / "store") == [run]


def test_a_run_of_one_root_with_links_in_another_is_found_at_its_own_place(tmp_path: Path) -> None:
    run = put(tmp_path / "store" / PLACE)
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen/best").symlink_to(run)
    assert found(tmp_path / "chosen", tmp_path / "store") == [run] == found(tmp_path / "store", tmp_path / "chosen")
    assert found(tmp_path / "chosen") == [tmp_path / "chosen/best"]


def test_a_run_that_was_moved_is_found_where_a_link_stands_for_it(tmp_path: Path) -> None:
    store, moved = tmp_path / "store", put(tmp_path / "scratch/moved")
    (store / PLACE).parent.mkdir(parents=True)
    for link in (store / "a", store / PLACE, store / "z"):
        link.symlink_to(moved)
    assert found(store) == [store / PLACE]


def test_a_folder_of_runs_comes_before_a_link_to_one_of_them(tmp_path: Path) -> None:
    run, store = put(tmp_path / "scratch" / PLACE), tmp_path / "store"
    store.mkdir()
    (store / "best").symlink_to(run)
    (store / "more").symlink_to(tmp_path / "scratch")
    assert found(store) == [store / "more" / PLACE]


def test_circles_come_to_an_end(tmp_path: Path) -> None:
    run = put(tmp_path / "store" / PLACE)
    (tmp_path / "store/circle").symlink_to(tmp_path)
    (tmp_path / "store/classification/circle").symlink_to(tmp_path / "store")
    put(tmp_path / "beside")
    assert found(tmp_path / "store") == [tmp_path / "store/circle/beside", run]
