"""Names of recipes, backbones and data sets that do not exist."""

from pathlib import Path

import pytest

from tasks.registry import TASKS
from tests.support.in_process import refusal


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"recipe": "mini_clasification"},
            "recipe mini_clasification: no such recipe. Nearest: mini_",
        ),
        (
            {"recipe": "mae_vit_mini"},
            "partial_fine_tuning or segmentation: use `backbench pretrain`",
        ),
        ({"backbone": "random_vit_mni"}, "backbone random_vit_mni: no such name. Did you mean random_vit_mini"),
        ({"backbone": "resnet1"}, "Did you mean resnet"),
        ({"backbone": "mae_vit_mini"}, "mae_vit_mini needs its checkpoint: --backbone mae_vit_mini=FILE"),
        ({"backbone": "mae_vit_mini="}, "--backbone mae_vit_mini=: expected NAME or NAME=CHECKPOINT"),
        ({"backbone": "=encoder.pth"}, "--backbone =encoder.pth: expected NAME or NAME=CHECKPOINT"),
        ({"backbone": "no_such_package:build"}, "no module 'no_such_package'. Is it installed"),
        ({"backbone": "shutil:build"}, "shutil has no function 'build'. It has"),
    ],
)
def test_unknown_names_are_refused(small: Path, tmp_path: Path, options: dict[str, str], expected: str) -> None:
    chosen = {"recipe": "mini_classification", "backbone": "random_vit_mini"} | options
    arguments = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    assert expected in refusal("run", *arguments, "--data", small, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_a_task_says_what_to_write(small: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("schedule: {epochs: 3}\n")
    message = refusal("run", "--recipe", recipe, "--backbone", "resnet18", "--data", small, "--out", tmp_path)
    *others, last = sorted(TASKS)
    expected = f"Expected {', '.join(others)} or {last}, or `extends: NAME`"
    assert message == f'recipe {recipe}, key "task": missing. {expected}'


def test_an_unknown_data_set_names_the_nearest(small: Path) -> None:
    assert refusal("data", "check", "imagenet", "--data", small) == (
        "data set imagenet: not known. Did you mean imagenet1k?"
    )
