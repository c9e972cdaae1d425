"""What an author would want to know: the reader gives the weights back, and backbench takes the encoder."""

from pathlib import Path

import torch

import ripple_vision.backbones  # noqa: F401  (registers, where the package is not installed)
from backbones import create_backbone, find_backbone, normalisation_of
from ripple_vision.checkpoints import as_released, from_ripple
from ripple_vision.encoder import RippleNet


def test_the_reader_undoes_what_training_writes() -> None:
    encoder = RippleNet()
    own, read = encoder.state_dict(), from_ripple(as_released(encoder))
    assert own.keys() == read.keys() and all(torch.equal(read[name], tensor) for name, tensor in own.items())


def test_backbench_loads_it_and_says_what_it_left_out(tmp_path: Path) -> None:
    encoder = RippleNet().eval()
    torch.save({"model": as_released(encoder)}, tmp_path / "ripple.pth")
    loaded = create_backbone("ripple_net", tmp_path / "ripple.pth").eval()
    images = torch.rand(2, 3, 64, 96)
    assert torch.equal(loaded(images), encoder(images))
    assert loaded.load_report.dropped == {"online/predictor:weight": "left out by Ripple's reader"}


def test_its_place_in_the_tables_and_its_pixels() -> None:
    entry = find_backbone("ripple_net")
    assert (entry.method, entry.pretrain_data, entry.model) == ("Ripple", "photos", "RippleNet")
    assert normalisation_of(entry).mean == (0.5, 0.5, 0.5)


def test_maps_of_all_four_strides() -> None:
    maps = RippleNet().forward_intermediates(torch.rand(1, 3, 64, 96), indices=[0, 1, 2, 3])
    assert [tuple(each.shape) for each in maps] == [(1, 32, 16, 24), (1, 64, 8, 12), (1, 96, 4, 6), (1, 128, 2, 3)]
