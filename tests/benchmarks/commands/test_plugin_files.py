"""`--plugin FILE.py`: a file of one's own that registers backbones and methods, and its row in the table."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from backbones import objectives, registry
from backbones.plugins import _files
from backbones.pretraining.settings import ObjectiveRecipe
from backbones.weights import methods
from benchmarks.planning.recipe import load_recipe
from benchmarks.running.repeating import Code
from tests.support.checkpoint_examples import vit_mini
from tests.support.commands import read_record, run_directory
from tests.support.evaluated_runs import EQUAL, evaluate
from tests.support.in_process import call, refusal, refusal_before_training, run, success
from tests.support.results_examples import read_markdown

PLUGIN = """
import functools
import timm
from backbones.architectures import build_timm_model
from backbones import register_backbone, register_method

def read(state):
    return {name.removeprefix("theirs/"): tensor for name, tensor in state.items() if name != "head"}

register_method("Loose", pretrain_data="photos", convert=read, mean=(0.5,) * 3, std=(0.5,) * 3)

@register_backbone("loose_vit", method="Loose", model="ViT-mini")
def build(image_size, drop_path):
    return timm.create_model("vit_mini_patch8_48", num_classes=0, img_size=image_size)

timms = functools.partial(build_timm_model, "vit_mini_patch8_48")
register_backbone("not_own", method="Loose", model="ViT-mini")(timms)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of one's own, whose registrations stay in one test."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    known, modules = dict(methods.METHODS), set(sys.modules)
    path = tmp_path / "loose_method.py"
    path.write_text(PLUGIN)
    yield path
    methods.METHODS.clear()
    methods.METHODS.update(known)
    _files.clear()
    for name in set(sys.modules) - modules:
        if name.startswith("loose_"):
            del sys.modules[name]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    state = {f"theirs/{name}": tensor for name, tensor in vit_mini().state_dict().items()}
    torch.save(state | {"head": torch.ones(2)}, tmp_path / "loose.pth")
    return tmp_path / "loose.pth"


def test_a_loose_file_ends_with_its_row(small: Path, plugin: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    success(*run(small, out, f"loose_vit={weights}"), "--plugin", plugin)
    record = read_record(out)
    assert (record["method"], record["pretrain_data"], record["model"]) == ("Loose", "photos", "ViT-mini")
    assert record["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    ((heading, row),) = read_markdown(success("table", out, "--layout", "transfer").output)
    assert row[1:3] == ["Loose", "photos"] and heading[3:] == ["ViT-mini"]


def test_all_commands_that_name_backbones_take_it(small: Path, plugin: Path, weights: Path, tmp_path: Path) -> None:
    option = ("--plugin", plugin)
    assert "loose_vit" in success("list", "backbones", *option).output
    assert "Loose" in success("list", "methods", *option).output
    told = success("inspect", weights, "--backbone", "loose_vit", *option).output
    assert "left out by Loose's reader" in told and "Loose, photos, ViT-mini" in told
    planned = success(*run(small, tmp_path / "out", f"loose_vit={weights}"), "--dry-run", *option).output
    assert "method Loose, pre-training data photos, column ViT-mini" in planned


def test_its_bytes_are_the_models_code(plugin: Path) -> None:
    """Of a function that is not the file's too: the reader is."""
    success("list", "backbones", "--plugin", plugin)
    codes = {name: Code.of(registry.find_backbone(name)).model_code for name in ("loose_vit", "not_own")}
    assert all(codes.values())
    plugin.write_text(PLUGIN + "# another line\n")
    again = {name: Code.of(registry.find_backbone(name)).model_code for name in codes}
    assert all(again[name] != code for name, code in codes.items())


def test_modules_beside_it_are_the_models_code_too(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model, or the reader, may lie in another file, whose changes were not seen."""
    monkeypatch.syspath_prepend(plugin.parent)
    parts = plugin.with_name("loose_parts.py")
    parts.write_text("SCALE = 1\n")
    plugin.write_text(PLUGIN + "import loose_parts\n")
    success("list", "backbones", "--plugin", plugin)
    before = Code.of(registry.find_backbone("loose_vit")).model_code
    parts.write_text("SCALE = 2\n")
    assert Code.of(registry.find_backbone("loose_vit")).model_code != before


def test_only_what_came_with_it_is_the_models_code(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of one job that had imported more, a reader's module or a library below, were of unlike code."""
    monkeypatch.syspath_prepend(plugin.parent)
    for name in ("loose_reader", "loose_library"):
        plugin.with_name(f"{name}.py").touch()
    importlib.import_module("loose_library")
    success("list", "backbones", "--plugin", plugin)
    before = Code.of(registry.find_backbone("loose_vit")).model_code
    importlib.import_module("loose_reader")
    assert Code.of(registry.find_backbone("loose_vit")).model_code == before
    plugin.with_name("loose_library.py").write_text("SCALE = 2\n")
    assert Code.of(registry.find_backbone("loose_vit")).model_code == before


def test_what_two_plugins_share_is_the_code_of_both(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin.parent)
    parts, second = plugin.with_name("loose_parts.py"), plugin.with_name("loose_second.py")
    parts.write_text("SCALE = 1\n")
    plugin.write_text(PLUGIN + "import loose_parts\n")
    renamed = {'"Loose"': '"Second"', "loose_vit": "second_vit", "not_own": "second_own"}
    text = plugin.read_text()
    for name, other in renamed.items():
        text = text.replace(name, other)
    second.write_text(text)
    success("list", "backbones", "--plugin", plugin, "--plugin", second)
    names = ("loose_vit", "second_vit")
    before = [Code.of(registry.find_backbone(name)).model_code for name in names]
    parts.write_text("SCALE = 2\n")
    after = [Code.of(registry.find_backbone(name)).model_code for name in names]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_modules_beside_an_objectives_file_are_its_code_too(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin.parent)
    monkeypatch.setattr(objectives, "_objectives", {})
    parts = plugin.with_name("loose_parts.py")
    parts.write_text("SCALE = 1\n")
    plugin.write_text(
        "import backbones, loose_parts\nfrom tests.support.objectives import denoising\n"
        "backbones.register_pretraining('loose', method='Loose')(lambda image_size: denoising(image_size))\n"
    )
    success("list", "backbones", "--plugin", plugin)
    recipe = load_recipe("mae_vit_mini", ["model.arch=loose"], {"pretraining"}).recipe
    assert isinstance(recipe, ObjectiveRecipe)
    before = Code.of_pretraining(recipe).model_code
    parts.write_text("SCALE = 2\n")
    assert Code.of_pretraining(recipe).model_code != before


@pytest.mark.slow
def test_every_process_of_a_job_imports_it(small: Path, plugin: Path, weights: Path, tmp_path: Path) -> None:
    """And finds what it needs in the current folder."""
    (tmp_path / "loose_parts.py").write_text("TRACE = 'imported.txt'\n")
    plugin.write_text(
        PLUGIN + "import os, loose_parts\nwith open(loose_parts.TRACE, 'a') as file:\n    file.write('once ')\n"
    )
    arguments = run(small, tmp_path / "out", f"loose_vit={weights}", runtime__device="cpu")
    command = [sys.executable, "-P", "-m", "benchmarks", *arguments, "--processes", "2", "--plugin", "loose_method.py"]
    root = str(Path(__file__).resolve().parents[3])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "imported.txt").read_text() == 3 * "once "  # the process that starts the two as well


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:\n", "it is not Python: line 1: "),
        ("1 / 0\n", "importing it failed in line 1 with ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('usage')\n", "importing it failed with sys.exit('usage') in <module> ("),
        ("import a_module_of_nobodys\n", "it needs the module 'a_module_of_nobodys'. Is it installed, in the current"),
        ("import timm\n", "it registers nothing. Expected register_backbone(…) or register_pretraining(…) before a"),
        (
            PLUGIN.replace("loose_vit", "mae_vit_base"),
            "backbone mae_vit_base: the name is taken. Register it under another.",
        ),
        (PLUGIN.replace('"Loose"', '"MAE"'), "method MAE: the name is taken, by MAE. Register it under another."),
        (PLUGIN.replace('"loose_vit"', '"a:b"'), "backbone 'a:b': expected a name without : and ="),
        (PLUGIN.replace("std=(0.5,)", "std=(0,)"), "method Loose: std [0.0, 0.0, 0.0]: expected three numbers above"),
        (
            PLUGIN.replace(", model=", ", colour="),
            "importing it failed in line 12 with TypeError: register_backbone() got an",
        ),
        ("a\0b", "it is not Python: source code string cannot contain null bytes"),
        (PLUGIN.replace("convert=read", "convert='read'"), "method Loose: convert='read': expected a function."),
        (PLUGIN.replace('"photos"', "None"), "method Loose: pretrain_data=None: expected a name, as the table is"),
        (PLUGIN.replace("(0.5,) * 3", "0.5"), "method Loose: mean 0.5 and std 0.5: expected three numbers each"),
        (PLUGIN.replace('"ViT-mini"', "None"), "backbone loose_vit: model=None: expected a name"),
        (PLUGIN.replace('method="Loose"', "method=None"), "backbone loose_vit: method=None: expected a name"),
        (PLUGIN.replace('"loose_vit"', "5"), "backbone 5: name=5: expected a name"),
        (
            PLUGIN.replace('method="Loose"', 'settings={"model.pool": "token"}, method="Loose"'),
            "backbone loose_vit: settings={'model.pool': 'token'}: expected those of each task by its name",
        ),
    ],
)
def test_a_file_that_does_not_serve(text: str, told: str, small: Path, plugin: Path, tmp_path: Path) -> None:
    plugin.write_text(text)
    message = refusal_before_training(*run(small, tmp_path / "out", "loose_vit"), "--plugin", plugin)
    assert message.startswith(f"--plugin {plugin}: {told}"), message
    assert "\n" not in message


def test_a_file_that_is_none(plugin: Path, tmp_path: Path) -> None:
    for name, found in (("absent.py", "there is no such file"), (".", "is a folder"), ("note.txt", "is none")):
        (tmp_path / "note.txt").write_text("x")
        message = refusal("list", "backbones", "--plugin", tmp_path / name)
        assert message == f"--plugin {tmp_path / name}: {found}. Expected a file of Python, such as my_method.py."
    for name, better in (("my-method.py", "my_method.py"), ("2nd try.py", "my_2nd_try.py")):
        shutil.copy(plugin, tmp_path / name)
        message = refusal("list", "backbones", "--plugin", tmp_path / name)
        assert "is no name of a module. Rename the file" in message and message.endswith(f": {better}")
    shutil.copy(plugin, tmp_path / "timm.py")
    message = refusal("list", "backbones", "--plugin", tmp_path / "timm.py")
    assert "its name is that of another module, " in message and "Rename the file" in message


def test_a_module_beside_it_that_is_not_found_is_told_of(plugin: Path) -> None:
    """It was asked whether that is installed."""
    plugin.with_name("loose_helper.py").touch()
    plugin.write_text("import loose_helper\n")
    message = refusal("list", "backbones", "--plugin", plugin)
    assert f"It lies beside the file: call backbench in that folder, or set PYTHONPATH={plugin.parent}" in message


def test_what_it_prints_is_no_answer(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood before a JSON document."""
    plugin.write_text(f"print('hello')\n{PLUGIN}")
    result = success("list", "methods", "--json", "--plugin", plugin)
    assert json.loads(result.stdout) and result.stderr == "hello\n"
    monkeypatch.syspath_prepend(plugin.parent)
    plugin.with_name("loose_function.py").write_text("print('hello')\ndef build(image_size, drop_path): ...\n")
    result = success(*run(plugin.parent, plugin.parent, "loose_function:build"), "--dry-run", "--json")
    assert json.loads(result.stdout) and result.stderr == "hello\n"


def test_a_name_of_a_file_that_was_forgotten_is_asked_for(plugin: Path) -> None:
    arguments = run(plugin.parent, plugin.parent, "loose_vit")
    assert "names that a file of your own registers, with --plugin FILE." in refusal(*arguments, "--dry-run")


def test_help_names_the_three_ways() -> None:
    text = " ".join(call("run", "--help").output.replace("│", " ").split())
    assert "--plugin my_method.py --backbone mymethod_vit_base=FILE" in text
    assert "entry point backbench.backbones" in text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('{"classification": {"model.pool": "token"}}', "deviates: model.pool=token (reference avg)"),
        ('{"detection": {"model.adapter": "simple"}}', "method Loose"),
        (
            '{"classification": {"model.pol": 1}}',
            "backbone loose_vit, with the settings that it was registered with: recipe mini_classification, key",
        ),
        ('{"classifying": {}}', "backbone loose_vit was registered with settings of 'classifying': no task. Known: "),
    ],
)
def test_settings_of_ones_own_are_deviations(
    settings: str, told: str, small: Path, plugin: Path, weights: Path, tmp_path: Path
) -> None:
    """They come before `--set`, and concern their task alone."""
    plugin.write_text(PLUGIN.replace('"loose_vit", method', f'"loose_vit", settings={settings}, method'))
    arguments = (*run(small, tmp_path / "out", f"loose_vit={weights}"), "--dry-run", "--plugin", plugin)
    planned = call(*arguments).output
    assert told in planned and ("pool=" in planned) == ("pool" in settings)
    if "pool" in settings:
        assert "pool=" not in call(*arguments, "--set", "model.pool=avg").output


def test_what_was_trained_of_a_plugins_model_is_evaluated(
    small: Path, plugin: Path, weights: Path, tmp_path: Path
) -> None:
    success(*run(small, tmp_path / "runs", f"loose_vit={weights}"), "--plugin", plugin)
    trained = run_directory(tmp_path / "runs")
    record = evaluate(small, trained, tmp_path / "evaluated", "--plugin", plugin)
    expected = read_record(tmp_path / "runs")
    assert {name: record[name] for name in EQUAL} == {name: expected[name] for name in EQUAL}
    assert (record["method"], record["model"]) == (expected["method"], "ViT-mini")
