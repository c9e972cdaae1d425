"""Features are computed once for all probes, anew where something changed them, and whole whatever ended a pass."""

import errno
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from backbones import kept_features
from backbones.images.reading import UnreadableImage
from backbones.kept_features import KeptFeatures, remove_features
from tasks.probing import features as passes
from tasks.probing import linear_grid
from tasks.probing.features import FeatureStep
from tasks.probing.linear_grid import Head
from tasks.probing.samples import ShownImages
from tests.support.in_process import call, refusal, success
from tests.support.probing_runs import arguments, only, values


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("model__image_size", 64),
        ("precision", "bf16"),
        ("model__mean", "[0.5,0.5,0.5]"),
        ("inference__crop_ratio", 1.0),
    ],
)
def test_what_changes_features_has_them_computed_anew(
    mini: Path, shown: list[int], probed: Path, tmp_path: Path, change: str, value: object
) -> None:
    more: dict[str, object] = {"model__std": "[0.5,0.5,0.5]"} if change == "model__mean" else {}
    before = sum(shown)
    success(*arguments("mini_knn", mini, tmp_path, **{change: value}, **more))
    assert sum(shown) - before == 64 + 80


def test_a_changed_image_and_another_seed_have_them_computed_anew(
    mini: Path, shown: list[int], probed: Path, tmp_path: Path
) -> None:
    data = tmp_path / "images"
    shutil.copytree(mini, data, ignore=shutil.ignore_patterns("unlabelled", "coco", "ade20k"))
    counts = []
    for step in range(3):
        before = sum(shown)
        success(*arguments("mini_knn", data, tmp_path / f"out{step}", "--seed", 2 if step == 2 else 0))
        counts.append(sum(shown) - before)
        path = next((data / "val").rglob("*.png"), None) or next((data / "val").rglob("*.jp*g"))
        if step == 0:
            Image.new("RGB", (56, 56), "red").save(path)
    assert counts == [0, 80, 64 + 80]  # a copy of the same files has what they have


def test_settings_of_the_probe_alone_take_the_same_features(
    mini: Path, shown: list[int], probed: Path, tmp_path: Path
) -> None:
    before = sum(shown)
    success(*arguments("mini_knn", mini, tmp_path / "a", knn__temperature=0.1))
    success(
        *arguments("mini_logistic_regression", mini, tmp_path / "b", features__pool="token_and_avg", features__layers=2)
    )
    assert sum(shown) == before


def test_augmented_views_are_trained_on(mini: Path, probed: Path, shown: list[int], tmp_path: Path) -> None:
    before = sum(shown)
    success(*arguments("mini_linear_grid", mini, tmp_path, grid__views=2))
    assert sum(shown) - before == 2 * 64


def test_files_are_looked_at_once_for_all_views(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    looked: list[Path] = []
    monkeypatch.setattr(passes, "state_of", lambda path: looked.append(path) or [1, 2])  # type: ignore[func-returns-value]
    success(*arguments("mini_linear_grid", mini, tmp_path / "out", grid__views=2))
    assert len(looked) == 64 + 80


def test_an_interrupted_pass_goes_on(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(passes, "BLOCK", 24)
    forward, counts = FeatureStep.forward, [0]

    def ending(self: FeatureStep, images: Tensor, mode: str, **about: object) -> list[dict[str, Tensor]]:
        counts[0] += len(images)
        if counts[0] == 64:
            raise KeyboardInterrupt
        return forward(self, images, mode, **about)

    monkeypatch.setattr(FeatureStep, "forward", ending)
    ended = call(*arguments("mini_knn", mini, tmp_path / "out"))
    assert ended.exit_code == 130 and "checkpoint" not in ended.output
    assert "interrupted; repeat the command to go on from the features that are kept, of" in ended.output
    counts[0] = 1000
    success(*arguments("mini_knn", mini, tmp_path / "out"))
    assert counts[0] == 1000 + 16 + 80
    monkeypatch.setattr(FeatureStep, "forward", forward)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    success(*arguments("mini_knn", mini, tmp_path / "whole"))
    assert values(only(tmp_path / "out")) == values(only(tmp_path / "whole"))


def test_ctrl_c_while_the_last_features_are_written_ends_before_the_next_pass(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write, images = KeptFeatures.write, list[int]()

    def interrupted(self: KeptFeatures, start: int, *features: Any) -> None:
        images.append(self.images)
        write(self, start, *features)
        if len(images) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(KeptFeatures, "write", interrupted)
    assert call(*arguments("mini_knn", mini, tmp_path / "out")).exit_code == 130
    assert images == [64]
    success(*arguments("mini_knn", mini, tmp_path / "out"))
    assert images == [64, 80]


def test_features_of_one_run_make_no_room_for_one_another(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_features, "LIMIT", 1)
    success(*arguments("mini_knn", mini, tmp_path / "out"))


def test_features_that_are_removed_meanwhile_are_told(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finish = KeptFeatures.finish

    def removing(self: KeptFeatures) -> None:
        finish(self)
        remove_features(self.folder)

    monkeypatch.setattr(KeptFeatures, "finish", removing)
    message = refusal(*arguments("mini_knn", mini, tmp_path / "out"), status=75)
    assert message.endswith("features were removed meanwhile. Repeat the command")


def test_an_image_that_could_not_be_read_in_one_view_is_not_learnt_from(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read, missed = ShownImages._read, list[Path]()

    def once(self: ShownImages, index: int) -> Tensor:
        if self.draw and not missed:
            missed.append(self.paths[index])
            raise UnreadableImage(missed[0], "Stale file handle")
        return read(self, index)

    counts, train = list[int](), linear_grid.train

    def counting(features: Any, targets: Tensor, *about: Any) -> list[Head]:
        counts.append(len(targets))
        return train(features, targets, *about)

    monkeypatch.setattr(ShownImages, "_read", once)
    monkeypatch.setattr(linear_grid, "train", counting)
    success(*arguments("mini_linear_grid", mini, tmp_path / "out", grid__views=1))
    assert counts[-1] == 63 and len(only(tmp_path / "out").corrupt_images) == 1


def test_an_evaluation_image_that_could_not_be_read_for_a_while_is_no_lasting_harm(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = ShownImages._read

    def refused(self: ShownImages, index: int) -> Tensor:
        if index == 70:
            raise UnreadableImage(self.paths[index], "Stale file handle")
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(ShownImages, "_read", refused)
        assert "Stale file handle" in refusal(*arguments("mini_knn", mini, tmp_path / "out"), status=3)
        assert "Stale file handle" in refusal(*arguments("mini_knn", mini, tmp_path / "out"), status=3)

    def locked(folder: Path) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(passes, "remove_features", locked)
        message = refusal(*arguments("mini_knn", mini, tmp_path / "out")).splitlines()[-1]
        assert "cannot be removed: Permission denied. Set XDG_CACHE_HOME" in message
    assert "can be read by now" in success(*arguments("mini_knn", mini, tmp_path / "out")).output


def test_an_unreadable_training_image_is_left_out_and_an_evaluation_image_refused(
    mini: Path, shown: list[int], tmp_path: Path
) -> None:
    data = tmp_path / "images"
    shutil.copytree(mini, data, ignore=shutil.ignore_patterns("unlabelled", "coco", "ade20k"))
    broken = sorted((data / "train").rglob("*.*"))[0]
    broken.write_bytes(broken.read_bytes()[:200])
    success(*arguments("mini_knn", data, tmp_path / "out"))
    record = only(tmp_path / "out")
    assert len(record.corrupt_images) == 1 and str(broken) in record.corrupt_images[0]
    asked = sorted((data / "val").rglob("*.*"))[0]
    asked.write_bytes(asked.read_bytes()[:200])
    assert "1 unreadable evaluation image(s)" in refusal(*arguments("mini_knn", data, tmp_path / "refused"), status=3)
    success(*arguments("mini_knn", data, tmp_path / "allowed", evaluation__allow_unreadable="true"))
    assert {metric.n_eval for metric in only(tmp_path / "allowed").metrics} == {79}
