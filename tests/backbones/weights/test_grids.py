"""Grids that are not square are read from the file or not at all."""

from pathlib import Path

import pytest
import torch
from torch import nn

from backbones.errors import InputError
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import LoadReport, load_weights
from backbones.weights.methods import METHODS
from backbones.weights.recognition import recognise
from tests.support.checkpoint_examples import State, beit_mini, save, vit_mini
from tests.support.position_examples import learned, mae

Grid = tuple[int, int]


def vit(grid: Grid) -> nn.Module:
    return vit_mini(img_size=(8 * grid[0], 8 * grid[1]))


def file_of(grid: Grid, folder: Path, says: bool, fixed: bool = True) -> Path:
    position = (mae if fixed else learned)(*grid, 128)
    state: State = vit(grid).state_dict() | {"pos_embed": position}
    return save({"model": state} | ({"grid": "{}×{}".format(*grid)} if says else {}), folder)


def loaded(path: Path, model: nn.Module, method: str = "custom") -> LoadReport:
    return load_weights(model, read_checkpoint(path), METHODS[method])


@pytest.mark.parametrize("grid", [(4, 9), (8, 18), (3, 5)])
@pytest.mark.parametrize("fixed", [True, False])
def test_a_grid_that_the_file_says_is_used(tmp_path: Path, grid: Grid, fixed: bool) -> None:
    """4 × 9 = 6 × 6 and 8 × 18 = 12 × 12: the first was loaded as it is, the second interpolated as a square."""
    path, model = file_of(grid, tmp_path, says=True, fixed=fixed), vit((6, 6))
    assert loaded(path, model).converted == {"pos_embed": f"{grid[0]}×{grid[1]} → 6×6"}
    if fixed:  # the first half of the numbers depends on the column alone, and stays so
        patches = model.state_dict()["pos_embed"][0, 1:, :64].reshape(6, 6, 64)
        torch.testing.assert_close(patches, patches[:1].expand(6, 6, 64))
    assert loaded(path, vit(grid)).converted == {}


@pytest.mark.parametrize("grid", [(4, 9), (8, 18), (9, 4)])
def test_a_grid_that_nobody_says_is_not_guessed(tmp_path: Path, grid: Grid) -> None:
    path = file_of(grid, tmp_path, says=False)
    with pytest.raises(InputError, match=r"do not look like those of .* patches, and the file does not say"):
        loaded(path, vit((6, 6)))
    assert recognise(read_checkpoint(path).state_dict).grid is None
    assert loaded(path, vit(grid)).converted == {}  # as many as the model's own


def test_square_files_are_interpolated_as_ever(tmp_path: Path) -> None:
    for says in (True, False):
        for fixed in (True, False):
            path = file_of((6, 6), tmp_path, says, fixed)
            assert loaded(path, vit((6, 6))).converted == {}
            assert loaded(path, vit((4, 8))).converted == {"pos_embed": "6×6 → 4×8"}


def test_a_square_file_is_not_loaded_into_an_oblong_of_as_many_patches(tmp_path: Path) -> None:
    assert loaded(file_of((6, 6), tmp_path, says=True), vit((4, 9))).converted == {"pos_embed": "6×6 → 4×9"}
    with pytest.raises(InputError, match="do not look like those of 4×9 patches"):
        loaded(file_of((6, 6), tmp_path, says=False), vit((4, 9)))


def test_a_grid_of_another_number_of_patches_is_no_grid(tmp_path: Path) -> None:
    state = vit((6, 6)).state_dict()
    assert loaded(save({"model": state, "grid": "7×7"}, tmp_path), vit((12, 12))).converted == {
        "pos_embed": "6×6 → 12×12"
    }


def test_position_biases_of_a_grid_that_the_file_says(tmp_path: Path) -> None:
    """BEiT's table of 2 × 14 has as many offsets as one of 5 × 5."""
    source = beit_mini(img_size=(16, 112))
    name = "blocks.0.attn.relative_position_bias_table"
    table = source.state_dict()[name]
    assert table.shape == beit_mini(img_size=40).state_dict()[name].shape
    along_columns = torch.arange(27.0).repeat(3)[:, None].expand(81, 2)
    state = source.state_dict() | {name: torch.cat([along_columns, torch.zeros(3, 2)])}
    model = beit_mini(img_size=40)
    report = loaded(save({"model": state, "grid": "2×14"}, tmp_path), model, "BEiT")
    assert report.converted[name] == "2×14 → 5×5"
    rows = model.state_dict()[name][:-3].reshape(9, 9, 2)
    torch.testing.assert_close(rows, rows[:1].expand(9, 9, 2), rtol=0, atol=1e-4)
    assert (
        loaded(save({"model": state, "grid": "2×14"}, tmp_path), beit_mini(img_size=(16, 112)), "BEiT").converted == {}
    )
