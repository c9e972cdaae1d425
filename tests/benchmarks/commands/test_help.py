"""What `--help` says, and what a mistyped call is told."""

import subprocess
import sys

import pytest

from tests.support.in_process import call, usage_refusal

COMMANDS = [
    "demo",
    "pretrain",
    "run",
    "predict",
    "table",
    "compare",
    "regress",
    "runs",
    "clean",
    "collect",
    "history",
    "list",
    "inspect",
    "export",
    "doctor",
    "data",
    "cache",
]


@pytest.mark.parametrize(
    "command",
    [
        (),
        *((c,) for c in COMMANDS),
        *(("data", c) for c in ("mini", "check")),
        *(("cache", c) for c in ("ls", "rm")),
    ],
)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert " ".join(("Usage: backbench", *command)) in " ".join(result.output.split())


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from benchmarks.commands.cli import app\n"
        "try: app(['--help'], prog_name='backbench')\n"
        "except SystemExit: pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pretrain" in finished.stdout
    imported = finished.stderr
    assert "'benchmarks'" in imported
    for library in ("torch", "pydantic", "pandas", "numpy", "timm", "mmengine", "yaml", "PIL"):
        assert f"'{library}'" not in imported


def test_a_large_store_is_collected_and_laid_out_without_torch() -> None:
    """It took two of five seconds."""
    modules = "benchmarks.running.collecting, benchmarks.commands.tables, benchmarks.commands.regression"
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pretrian"], "No such command 'pretrian'. Did you mean 'pretrain'?"),
        (["data", "chekc"], "No such command 'chekc'. Did you mean 'check'?"),
        (["pretrain", "--recipes", "x"], "No such option: --recipes"),
        (["pretrain", "--recipe", "mae_vit_mini", "--data", "."], "Missing option '--out'"),
        (["run", "--recipe"], "Option '--recipe' requires an argument"),
        (
            ["pretrain", *["--recipe", "r", "--data", "d", "--out", "o", "--seed", "-1"]],
            "'--seed': expected a value greater",
        ),
        (
            ["pretrain", *["--recipe", "r", "--data", "d", "--out", "o", "--seed", "x"]],
            "'--seed': expected a value",
        ),
        (
            ["run", *["--recipe", "r", "--data", "d", "--out", "o", "--backbone", "b", "--seed", str(2**32)]],
            "'--seed': expected a value less than or equal to 4294967295",
        ),
        (
            ["list", "recipe"],
            "'what': 'recipe' is not one of 'backbones', 'methods', 'recipes', 'suites', 'datasets', 'weights'.",
        ),
        (["table", ".", "--layout", "imagnet"], "'--layout': 'imagnet' is not one of 'imagenet', 'coco',"),
        (["table", ".", "--layout", "coco", "--format", "xlsx"], "'xlsx' is not one of 'md', 'csv', 'latex'."),
    ],
)
def test_a_mistyped_call_is_explained(arguments: list[str], expected: str) -> None:
    assert expected in usage_refusal(*arguments)


def test_help_teaches_how_to_name_row_and_column() -> None:
    text = " ".join(call("run", "--help").output.replace("│", " ").split())
    assert "--method MyMethod --pretrain-data IN1K --model ViT-B" in text
    assert "recorded under those" in text
