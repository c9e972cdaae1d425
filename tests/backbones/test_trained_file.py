"""The file of a trained network: every tensor as it is, whatever it is, and all of the file or nothing."""

import errno
import multiprocessing
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backbones.errors import DataError, TryAgainError
from backbones.trained.file import WEIGHTS, Description, read_description, write_weights

DESCRIPTION = Description(
    task="classification",
    method="MAE",
    pretrain_data="IN1K, then shapes w/ labels",
    model="ViT-B",
    recipe={"task": "classification", "model": {"image_size": 48}},
    classes=["a", "großer Hund"],
    normalisation={"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)},
    metrics={"top1": 50.0},
    run={"key": "0123456789ab", "seed": 0},
)


class Awkward(nn.Module):
    """Tied and transposed weights, views of one tensor, buffers in half precision and without numbers in them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6, bias=False)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.turned = nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("running", torch.arange(3).to(torch.bfloat16))
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("nothing", torch.zeros(0, 3))
        both = torch.arange(8.0)
        self.register_buffer("first", both[:4])
        self.register_buffer("second", both[4:])


def test_every_tensor_comes_back(tmp_path: Path) -> None:
    network = Awkward()
    write_weights(tmp_path, network, DESCRIPTION)
    found, expected = load_file(tmp_path / WEIGHTS), network.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert read_description(tmp_path / WEIGHTS) == DESCRIPTION


def test_the_same_network_is_the_same_file(tmp_path: Path) -> None:
    """safetensors has what is said of tensors in another order each time; a digest is to tell networks apart."""
    network = Awkward()
    files = [write_weights(tmp_path / str(number), network, DESCRIPTION).read_bytes() for number in range(4)]
    assert len({*files}) == 1


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    (tmp_path / f".{WEIGHTS}.0123456789ab").write_bytes(b"half")
    write_weights(tmp_path, Awkward(), DESCRIPTION)
    assert [*tmp_path.iterdir()] == [tmp_path / WEIGHTS]


def test_the_weights_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors' own `save_file` writes another file, which nobody but its owner may read, and renames it."""
    synced: list[tuple[int, int]] = []

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", sync)
    path = write_weights(tmp_path, Awkward(), DESCRIPTION)
    assert synced == [(path.stat().st_ino, path.stat().st_size)]
    (tmp_path / "text").touch()
    assert path.stat().st_mode == (tmp_path / "text").stat().st_mode


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights(tmp_path, Awkward(), DESCRIPTION)
    before = (tmp_path / WEIGHTS).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TryAgainError, match=r"cannot be written \(No space left on device\)\. Make room and repeat"):
        write_weights(tmp_path, Awkward(), DESCRIPTION)
    assert [*tmp_path.iterdir()] == [tmp_path / WEIGHTS] and (tmp_path / WEIGHTS).read_bytes() == before


def _write_too_much(directory: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_weights(directory, Awkward(), DESCRIPTION)
    except DataError as error:
        os._exit(0 if "cannot be written (File too large)" in str(error) else 1)
    os._exit(2)


def test_a_file_that_the_system_cuts_short_is_none(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_write_too_much, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and not [*tmp_path.iterdir()]


def test_other_files_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"{")
    assert read_description(tmp_path / "cut") is None and read_description(tmp_path / "none") is None
    save_file({"a": torch.zeros(1)}, tmp_path / "plain", {"format": "pt"})
    assert read_description(tmp_path / "plain") is None
    header = DESCRIPTION.header()
    save_file({"a": torch.zeros(1)}, tmp_path / "odd", header | {"classes": "{}"})
    with pytest.raises(DataError, match="its header does not describe a trained network"):
        read_description(tmp_path / "odd")
