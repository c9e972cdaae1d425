"""Row and column of the tables by what the call says: `run --method M --pretrain-data D --model COLUMN`."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from backbones import registry
from backbones.forward_cost import forward_cost
from backbones.plugins import load_plugins
from backbones.registry import create_backbone
from tests.support.commands import read_record, run_directory
from tests.support.in_process import call, hide_training, refusal_before_training, run, success
from tests.support.results_examples import read_markdown

OWN = "users_own_vision:vit"
DECLARED = ["--method", "MyMethod", "--pretrain-data", "imagenet1k", "--model", "vit_mini"]
MINI_VIT = (
    "import timm\n"
    "def vit(image_size, drop_path):\n"
    "    return timm.create_model('vit_mini_patch8_48', num_classes=0, img_size=image_size)\n"
)
PLUGIN = MINI_VIT + (
    "from backbones import register_backbone\n"
    "register_backbone('plugged_vit', method='Plugged', pretrain_data='photos', model='ViT-mini', "
    "needs_checkpoint=False)(vit)\n"
)
PARAMETERS = 822_912  # tests/backbones/test_registry.py


@pytest.fixture(scope="module")
def own_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module of the user's own, and an installed package with an entry point."""
    folder = tmp_path_factory.mktemp("own_code")
    (folder / "users_own_vision.py").write_text(MINI_VIT)
    (folder / "users_plugin.py").write_text(PLUGIN)
    metadata = folder / "users_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: users-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[backbench.backbones]\nmine = users_plugin\n")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        load_plugins.cache_clear()
        yield
    load_plugins.cache_clear()
    for name in ("users_own_vision", "users_plugin"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def unnamed(small: Path, own_code: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished run of a module of one's own, of which nothing was said."""
    out = tmp_path_factory.mktemp("unnamed")
    success(*run(small, out, OWN))
    return out


@pytest.fixture
def copy(unnamed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that, where nothing may be trained anew."""
    hide_training(monkeypatch)
    return Path(shutil.copytree(unnamed, tmp_path / "out"))


def row_and_heading(out: Path) -> tuple[list[str], list[str]]:
    """The names before the only number of the table, and the columns' headings."""
    ((heading, row),) = read_markdown(success("table", out, "--layout", "transfer").output)
    return row[1:3], heading[3:]


def test_without_a_word_ones_own_module_is_its_own_column(unnamed: Path) -> None:
    record = read_record(unnamed)
    assert (record["method"], record["pretrain_data"], record["model"]) == ("custom", "unstated", OWN)
    assert record["declared"] == {} and f"model={OWN} (reference ViT-mini)" in record["deviations"]
    assert row_and_heading(unnamed) == (["custom", "unstated"], [OWN])


def test_ones_own_module_stands_in_the_row_and_column_that_are_declared(
    small: Path, own_code: None, tmp_path: Path
) -> None:
    result = success(*run(small, tmp_path, OWN), *DECLARED)
    place = "method MyMethod, pre-training data IN1K, column ViT-mini"
    assert f"{place} (method, pre-training data, column as declared)" in result.output
    assert f"an encoder of {PARAMETERS:,} parameters" in result.output
    record = read_record(tmp_path)
    assert record["declared"] == {"method": "MyMethod", "pretrain_data": "IN1K", "model": "ViT-mini"}
    assert record["parameters"] == PARAMETERS
    assert not [text for text in record["deviations"] if text.startswith("model=")]
    assert not [note for note in record["notes"] if "declared" in note]
    assert row_and_heading(tmp_path) == (["MyMethod", "IN1K"], ["ViT-mini"])
    rows = pd.read_csv(tmp_path / "results.csv")
    assert set(rows["model"]) == {"ViT-mini"} and set(rows["parameters"]) == {PARAMETERS}


def test_a_plugin_stands_where_it_says_and_a_flag_beats_it_and_tells(
    small: Path, own_code: None, tmp_path: Path
) -> None:
    success(*run(small, tmp_path, "plugged_vit"))
    assert row_and_heading(tmp_path) == (["Plugged", "photos"], ["ViT-mini"])
    result = success(*run(small, tmp_path, "plugged_vit"), "--method", "Plugged v2", "--model", "ViT-S")
    assert row_and_heading(tmp_path) == (["Plugged v2", "unstated"], ["ViT-S"])  # the name's data are its method's
    told = [
        "the backbone's name, plugged_vit, stands for method Plugged; Plugged v2 as declared",
        "the backbone's name, plugged_vit, stands for column ViT-mini; ViT-S as declared",
    ]
    assert read_record(tmp_path)["notes"][:2] == told
    assert all(f"note: {note}" in result.output for note in told)


def test_other_names_neither_change_the_key_nor_train_anew(small: Path, copy: Path) -> None:
    before, directory = read_record(copy), run_directory(copy)
    result = success(*run(small, copy, OWN), *DECLARED)
    assert "finished before; nothing to do" in result.output
    assert f"recorded until now as method custom, pre-training data unstated, column {OWN}" in result.output
    record = read_record(copy)
    assert run_directory(copy) == directory
    changed = {name for name in record if record[name] != before[name]}
    assert changed == {"method", "pretrain_data", "model", "declared", "deviations"}
    assert set(before["deviations"]) - set(record["deviations"]) == {f"model={OWN} (reference ViT-mini)"}
    assert set(pd.read_csv(copy / "results.csv")["method"]) == {"MyMethod"}
    assert row_and_heading(copy) == (["MyMethod", "IN1K"], ["ViT-mini"])


def test_what_was_pretrained_otherwise_deviates_and_is_told_once(
    small: Path, finished: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of the literature is of its whole pre-training."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    hide_training(monkeypatch)
    told = "pre-training: optimizer.batch_size=16 (reference 128) and 2 more"
    assert [line for line in read_record(out)["deviations"] if "pre-training" in line] == [told]
    success(*run(small, out, f"mae_vit_mini={encoder}"), "--method", "MyMethod")
    assert read_record(out)["method"] == "MyMethod"
    assert [line for line in read_record(out)["deviations"] if "pre-training" in line] == [told]


def test_what_is_not_declared_anew_stays_as_it_was_declared(small: Path, copy: Path) -> None:
    success(*run(small, copy, OWN), *DECLARED)
    record = run_directory(copy) / "record.json"
    named = record.read_bytes()
    for repeated in ([], DECLARED):
        assert "until now" not in success(*run(small, copy, OWN), *repeated).output
        assert record.read_bytes() == named
    success(*run(small, copy, OWN), "--method", "MyMethod v2")
    success(*run(small, copy, OWN), "--model", "ViT-B")
    assert row_and_heading(copy)[0] == ["MyMethod v2", "IN1K"]
    assert "model=ViT-B (reference ViT-mini)" in read_record(copy)["deviations"]


def test_a_flag_beats_the_files_own_word_and_that_the_name(
    small: Path, encoder: Path, own_code: None, tmp_path: Path
) -> None:
    backbone = f"{OWN}={encoder}"
    says_itself = success(*run(small, tmp_path, backbone), "--dry-run")
    assert "method MAE, pre-training data " in says_itself.output and "unstated" not in says_itself.output
    assert "column ViT-mini" in says_itself.output and "as declared" not in says_itself.output
    assert "deviates: model=" not in says_itself.output
    result = success(*run(small, tmp_path, backbone), *DECLARED)
    assert "method MyMethod, pre-training data IN1K, column ViT-mini (" in result.output
    notes = " / ".join(read_record(tmp_path)["notes"])
    assert "MAE on unlabelled; MyMethod as declared" in notes and "IN1K as declared" in notes
    success(*run(small, tmp_path, backbone), "--method", "mae", "--pretrain-data", "photos")
    record = read_record(tmp_path)
    assert (record["method"], record["pretrain_data"]) == ("MAE", "photos")
    assert "MyMethod" not in " / ".join(record["notes"]) and "photos as declared" in " / ".join(record["notes"])


def test_a_dry_run_shows_row_and_column(small: Path, own_code: None, tmp_path: Path) -> None:
    result = call(*run(small, tmp_path, OWN), *DECLARED, "--dry-run")
    assert result.exit_code == 0
    assert "method MyMethod, pre-training data IN1K, column ViT-mini (" in result.output
    assert "model=" not in result.output


@pytest.mark.parametrize("option", ["--method", "--pretrain-data", "--model"])
@pytest.mark.parametrize("name", ["", " ", "two\nlines"])
def test_a_name_that_cannot_be_printed_is_refused(
    small: Path, own_code: None, tmp_path: Path, option: str, name: str
) -> None:
    message = refusal_before_training(*run(small, tmp_path, OWN), option, name)
    assert message == f"{option} {name!r}: expected a name, as the table is to print it"


def test_pretraining_records_how_many_parameters_its_encoder_has(pretrained: Path) -> None:
    assert read_record(pretrained)["parameters"] == PARAMETERS


def test_pretraining_records_what_its_encoder_takes_for_a_whole_image(pretrained: Path) -> None:
    record = read_record(pretrained)
    size = record["recipe_settings"]["model"]["image_size"]
    expected = forward_cost(create_backbone("random_vit_mini", image_size=size), size)
    assert (record["gflops"], record["gflops_image_size"]) == (expected.gflops, size)
