"""Reading checkpoint files: nothing in them is run, and what is no checkpoint is called what it is."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from backbones.errors import InputError
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.directories import file_sha256
from tests.support.checkpoint_examples import save, vit_mini


class Runs:
    """Creates a file when it is unpickled without restriction."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("new_layout", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, new_layout: bool) -> None:
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    torch.save({"model": Runs(trace)}, path, _use_new_zipfile_serialization=new_layout)
    with pytest.raises(InputError, match=r"refused, nothing of it was run. .* it asks for posix.mkdir"):
        read_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it was a live one


def test_a_plain_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "bad.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Runs(trace)))
    with pytest.raises(InputError, match="nothing of it was run"):
        read_checkpoint(path)
    assert not trace.exists()


def test_tolerated_company_is_not_built(tmp_path: Path) -> None:
    """`getattr` on the list of what is tolerated must not be the real one."""

    class Reaches:
        def __reduce__(self) -> tuple[object, ...]:
            return getattr, ("text", "upper")

    checkpoint = read_checkpoint(save({"model": {"weight": torch.ones(2)}, "extra": Reaches()}, tmp_path))
    assert checkpoint.extras == {"extra": "not read"}


def test_mmengine_training_checkpoints_are_read(tmp_path: Path) -> None:
    from mmengine.logging.history_buffer import HistoryBuffer

    content = {"state_dict": {"weight": torch.ones(2)}, "message_hub": {"loss": HistoryBuffer([1.0], [1])}}
    checkpoint = read_checkpoint(save(content | {"random": np.random.default_rng(0).integers(9, size=3)}, tmp_path))
    assert checkpoint.container == "state_dict"
    assert checkpoint.extras == {"message_hub": "dict of 1", "random": "not read"}


@pytest.mark.parametrize("layout", ["zip", "stream", "safetensors"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.999])
def test_truncated_files(tmp_path: Path, layout: str, kept: float) -> None:
    path, state = tmp_path / "whole", vit_mini().state_dict()
    if layout == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=layout == "zip")
    assert read_checkpoint(path).state_dict.keys() == state.keys()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match="truncated"):
        read_checkpoint(path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    text, empty, binary = tmp_path / "text.pth", tmp_path / "empty.pth", tmp_path / "binary.pth"
    page, pointer = tmp_path / "page.pth", tmp_path / "pointer.safetensors"
    text.write_text("é" * 2000)
    page.write_text("\ufeff\n<!DOCTYPE html>\n<html>nicht gefunden: ü</html>\n")
    pointer.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 12345\n")
    empty.touch()
    binary.write_bytes(bytes(range(128, 256)) * 8)
    for path, expected in (
        (text, "a text file"),
        (page, "a web page, not the file of weights"),
        (pointer, "a pointer of Git LFS, .* run `git lfs pull`"),
        (empty, "the file is empty"),
        (binary, "neither a PyTorch nor a safetensors file|restricted reader"),
        (tmp_path / "absent.pth", "no such checkpoint file"),
        (save({"optimizer": {}, "epoch": 3}, tmp_path, "no_weights.pth"), r"no weights found.*\(optimizer, epoch\)"),
        (save([1, 2], tmp_path, "list.pth"), "no weights found in it, but list of 2"),
        (save({}, tmp_path, "nothing.pth"), "no weights found in it, but dict of 0"),
    ):
        with pytest.raises(InputError, match=expected) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value)


def test_a_part_of_sharded_weights_is_not_read(tmp_path: Path) -> None:
    path = save({"weight": torch.ones(2)}, tmp_path, "pytorch_model-00001-of-00003.bin")
    with pytest.raises(InputError, match=r"00003.bin: one of several files. Give their folder, or their index in it"):
        read_checkpoint(path)


@pytest.mark.parametrize("layout", ["zip", "stream", "safetensors"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin", ""])
def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path: Path, layout: str, suffix: str) -> None:
    path, weights = tmp_path / f"model{suffix}", {"weight": torch.arange(6.0)}
    if layout == "safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=layout == "zip")
    checkpoint = read_checkpoint(path)
    assert checkpoint.kind == ("safetensors" if layout == "safetensors" else "torch")
    assert torch.equal(checkpoint.state_dict["weight"], weights["weight"])


@pytest.mark.parametrize("settings", [{"depth": 12}, {}, {"depth": 12, "state_dict": {"note": "none"}}])
def test_a_models_settings_are_not_taken_for_its_weights(tmp_path: Path, settings: dict[str, object]) -> None:
    checkpoint = read_checkpoint(save({"model": settings, "state_dict": {"weight": torch.ones(2)}}, tmp_path))
    assert checkpoint.container == "state_dict"
    assert checkpoint.extras == {"model": f"dict of {len(settings)}"}
    assert torch.equal(checkpoint.state_dict["weight"], torch.ones(2))


def test_hash_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    checkpoint = read_checkpoint(save({"model": {"weight": torch.ones(3, 2)}, "epoch": 7}, tmp_path))
    assert checkpoint.size == (tmp_path / "checkpoint.pth").stat().st_size
    assert checkpoint.parameters == 6
    assert checkpoint.extras == {"epoch": "7"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.tar.gz", b"\x1f\x8b\x08\x00" + bytes(64), "packed by gzip: unpack it"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5, as Keras writes it"),
        ("a.onnx", b"\x08\x08\x12\x07pytorch" + bytes(64), "ONNX, a graph"),
    ],
)
def test_other_formats_are_named_with_what_to_do(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["weights.zip", "weights.tar"])
def test_plain_archives_are_told_to_be_unpacked(tmp_path: Path, name: str) -> None:
    """A zip was called a truncated file of PyTorch, which is a zip too."""
    save({"weight": torch.ones(2)}, tmp_path)
    shutil.make_archive(str(tmp_path / "weights"), name.rpartition(".")[2], tmp_path, "checkpoint.pth")
    with pytest.raises(InputError, match=r"an archive that holds checkpoint\.pth\. Unpack it"):
        read_checkpoint(tmp_path / name)


def test_lists_and_arrays_are_told_to_be_saved_otherwise(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in a list: save the one that is meant"):
        read_checkpoint(save([{"weight": torch.ones(2)}], tmp_path))
    with pytest.raises(InputError, match=r"torch\.from_numpy"):
        read_checkpoint(save({"weight": np.ones(2)}, tmp_path))


def test_two_parts_are_told_to_be_joined_by_a_dot(tmp_path: Path) -> None:
    path = save({"teacher": {"backbone.weight": torch.ones(2)}}, tmp_path)
    with pytest.raises(InputError, match=r"names two parts.*::teacher\.backbone"):
        read_checkpoint(f"{path}::teacher::backbone")
