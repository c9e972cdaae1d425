"""What the shell completes."""

import os
import subprocess
import sys

import pytest

from backbones.names import registered_names
from backbones.registry import find_backbone, list_backbones
from benchmarks.planning.recipe import list_recipes
from tasks.data_sets import DATA_SETS

PROGRAM = """
import sys
from benchmarks.commands.cli import main
try:
    main()
finally:
    print(sorted({"torch", "timm", "pandas"} & {*sys.modules}), file=sys.stderr)
"""


def completions(*words: str) -> list[str]:
    """What bash is offered for the last word."""
    environment = {
        "_BACKBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("backbench", *words)),
        "COMP_CWORD": str(len(words)),
    }
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | environment
    )
    assert finished.stderr.strip() == "[]"
    return finished.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], ["compare"]),
        (["list", "rec"], ["recipes"]),
        (["run", "--recipe", "mini"], [name for name in list_recipes() if name.startswith("mini")]),
        (["pretrain", "--recipe", "mae_vit_m"], ["mae_vit_mini"]),
        (["run", "--recipe", "my_own.yaml"], []),
        (["run", "--backbone", "moco"], ["mocov3_vit_base", "mocov3_vit_large", "mocov3_vit_small"]),
        (["inspect", "file.pth", "--backbone", "beit_vit_l"], ["beit_vit_large"]),
        (["data", "check", "ima"], [name for name in DATA_SETS if name.startswith("ima")]),
        (["table", "runs", "--layout", "tr"], ["transfer", "transfer-more"]),
        (["run", "--if-changed", "re"], ["rerun"]),
    ],
)
def test_commands_and_names_are_completed_without_torch(words: list[str], expected: list[str]) -> None:
    """`--recipe mini` and backbones gave nothing."""
    assert expected or words[-1].endswith(".yaml")
    assert completions(*words) == expected


def test_every_published_backbone_is_among_the_names() -> None:
    assert [entry.name for entry in list_backbones()][: len(registered_names())] == registered_names()
    assert all(find_backbone(name).name == name for name in registered_names())
