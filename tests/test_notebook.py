"""The notebook of examples/, executed from its first cell to its last."""

import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples/comparison.ipynb"


def frames(cell: Any) -> list[str]:
    """The text of the tables that a cell shows."""
    return [output["data"]["text/plain"] for output in cell.get("outputs", []) if "text/html" in output.get("data", {})]


@pytest.mark.slow
def test_it_runs_and_shows_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]), prepend=os.pathsep)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": tmp_path}}).execute()
    planned, table, by_seed, mine = (text for cell in notebook.cells for text in frames(cell))
    assert planned.count("mini_classification") == 4
    assert "MAE" in table and "random" in table
    assert by_seed.count("MAE") == 1
    assert "MyMethod" in mine and "ResNet-10" in mine
    assert (tmp_path / "runs/suites/small/tables/transfer.md").is_file()
