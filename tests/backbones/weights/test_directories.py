"""Weights in folders: Hugging Face's, distributed checkpoints, mmengine's work_dir, our own runs, any other."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as distributed

from backbones.errors import InputError
from backbones.registry import create_backbone
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.directories import file_sha256
from backbones.weights.statements import read_statement
from benchmarks.planning.known_weights import KnownWeights
from tests.support.checkpoint_examples import State, assert_same_features, prefixed, save, vit_mini
from tests.support.two_processes import end_of_two

SOURCE = vit_mini()
STATE = {name: tensor.detach() for name, tensor in SOURCE.state_dict().items()}
CONFIG = {"model_type": "vit_mae", "architectures": ["ViTMAEForPreTraining"]}
PIXELS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


def loads(path: Path | str) -> Checkpoint:
    """The checkpoint, which gives the source's features."""
    checkpoint = read_checkpoint(path)
    assert_same_features(create_backbone("vit_mini_patch8_48", checkpoint).eval(), SOURCE)
    return checkpoint


def write_shards(folder: Path, state: State = STATE, suffix: str = "safetensors", count: int = 3) -> Path:
    """Save as transformers shards, and describe the model beside; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, held = "model" if suffix == "safetensors" else "pytorch_model", {}
    for shard in range(count):
        name = f"{stem}-{shard + 1:05}-of-{count:05}.{suffix}"
        part = dict([*state.items()][shard::count])
        if suffix == "safetensors":
            safetensors.torch.save_file(part, folder / name, metadata={"format": "pt"})
        else:
            torch.save(part, folder / name)
        held |= dict.fromkeys(part, name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": held}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_one_checkpoint(tmp_path: Path, suffix: str) -> None:
    index = write_shards(tmp_path, suffix=suffix)
    checkpoint = loads(tmp_path)
    assert checkpoint.path == index and loads(index).sha256 == checkpoint.sha256
    assert checkpoint.kind == ("safetensors" if suffix == "safetensors" else "torch")
    files = sorted(tmp_path.glob(f"*-of-*.{suffix}"))
    assert checkpoint.size == sum(file.stat().st_size for file in files)
    digests = "".join(hashlib.sha256(file.read_bytes()).hexdigest() + "\n" for file in files)
    assert checkpoint.sha256 == hashlib.sha256(digests.encode()).hexdigest()
    statement = read_statement(checkpoint)
    assert (statement.method, statement.pixels) == ("MAE", (PIXELS["image_mean"], PIXELS["image_std"]))


def test_shards_of_transformers_own_writing(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        image_size=48,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    theirs = ViTModel(config, add_pooling_layer=False).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="500KB")
    assert len([*tmp_path.glob("*-of-*.safetensors")]) > 2
    model = create_backbone("supervised_vit_mini", tmp_path).eval()
    assert_same_features(model, SourceOf(theirs), 1e-5)


class SourceOf:
    """transformers' model with timm's method."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).last_hidden_state


def hub_snapshot(folder: Path) -> Path:
    """The hub's cache: snapshots of links to blobs."""
    root, blobs = folder / "models--facebook--vit-mae-mini", folder / "models--facebook--vit-mae-mini" / "blobs"
    write_shards(folder / "download")
    snapshot = root / "snapshots" / ("a1" * 20)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted((folder / "download").iterdir())):
        blob = blobs / hashlib.sha256(str(number).encode()).hexdigest()
        file.rename(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a1" * 20)
    return snapshot


def test_the_hubs_cache(tmp_path: Path) -> None:
    snapshot = hub_snapshot(tmp_path)
    for path in (snapshot, snapshot.parents[1]):
        checkpoint = loads(path)
        assert read_statement(checkpoint).method == "MAE"
    (snapshot.parent / ("b2" * 20)).mkdir()
    assert loads(snapshot.parents[1]).path.parent == snapshot
    (snapshot.parents[1] / "refs" / "main").unlink()
    with pytest.raises(InputError, match=r"of which snapshot cannot be told: a1.*, b2"):
        read_checkpoint(snapshot.parents[1])
    next(snapshot.glob("*.index.json")).resolve().unlink()
    with pytest.raises(InputError, match=r"a link to .*blobs.*, which is not there. Download"):
        read_checkpoint(snapshot)


def save_distributed(content: dict[str, object], folder: Path) -> Path:
    distributed.save(content, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_checkpoint(tmp_path: Path) -> None:
    optimizer = {"state": {"0": {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    half = {"positions": torch.ones(3, dtype=torch.bfloat16)}
    content = {"model": prefixed(STATE, "trunk.") | half, "optimizer": optimizer, "epoch": 3}
    folder = save_distributed(content, tmp_path / "checkpoint")
    checkpoint = loads(folder)
    assert checkpoint.kind == "distributed"
    assert checkpoint.extras == {"optimizer": "not read", "epoch": "not read"}
    assert torch.equal(checkpoint.state_dict["model.positions"], half["positions"])
    assert loads(f"{folder}::model.trunk").part == "model.trunk"
    files = [folder / ".metadata", *sorted(folder.glob("*.distcp"))]
    digests = "".join(f"{file_sha256(file)}\n" for file in files)
    assert checkpoint.sha256 == hashlib.sha256(digests.encode()).hexdigest()


@pytest.mark.filterwarnings("ignore")
def test_of_a_distributed_checkpoint_only_the_chosen_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process read the whole folder, the teacher's bytes with the student's."""
    content = {
        "student": prefixed(STATE, "trunk."),
        "teacher": prefixed(STATE, "trunk."),
        "pos_embed": STATE["pos_embed"],
    }
    folder = save_distributed(content, tmp_path / "checkpoint")
    read: list[str] = []
    reader = torch.distributed.checkpoint.filesystem.FileSystemReader
    whole = reader.read_data

    def read_data(self: Any, plan: Any, planner: Any) -> Any:
        read.extend(item.dest_index.fqn for item in plan.items)
        return whole(self, plan, planner)

    monkeypatch.setattr(reader, "read_data", read_data)
    loads(f"{folder}::teacher")
    assert {name.partition(".")[0] for name in read} == {"teacher"}
    read.clear()
    with pytest.raises(InputError, match="has no part 'ema'"):
        read_checkpoint(f"{folder}::ema")
    assert not read


class Runs:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.filterwarnings("ignore")
def test_nothing_in_a_distributed_checkpoint_is_run(tmp_path: Path) -> None:
    folder, trace = save_distributed({"model": STATE, "settings": Runs(tmp_path / "trace")}, tmp_path / "c"), tmp_path
    trace = tmp_path / "trace"
    loads(folder)
    assert not trace.exists()
    (folder / ".metadata").write_bytes(pickle.dumps(Runs(trace)))
    with pytest.raises(InputError, match=r"asks for posix.mkdir.*nothing of it was run.*dcp_to_torch .*/c FILE.pth"):
        read_checkpoint(folder)
    assert not trace.exists()
    pickle.loads((folder / ".metadata").read_bytes())
    assert trace.exists()  # it was a live one


def _save_halves(rank: int, folder: Path, state: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group("gloo")
    mesh, whole = init_device_mesh("cpu", (2,)), torch.load(state)
    halves = {f"model.{name}": distribute_tensor(tensor, mesh, [Shard(0)]) for name, tensor in whole.items()}
    distributed.save(halves, checkpoint_id=folder)
    torch.distributed.destroy_process_group()


def test_a_distributed_checkpoint_of_two_processes_is_put_together(tmp_path: Path) -> None:
    folder, output = tmp_path / "checkpoint", tmp_path / "output"
    assert end_of_two(_save_halves, output, folder, save(STATE, tmp_path)) == [0, 0], output.read_text()
    assert len([*folder.glob("*.distcp")]) == 2
    loads(folder)


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_checkpoint_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    folder = save_distributed({"model": STATE}, tmp_path / "c")
    (file,) = folder.glob("*.distcp")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    file.rename(tmp_path / "elsewhere")
    for info in metadata.storage_data.values():
        info.relative_path = "../elsewhere"
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(InputError, match=r"1 of the 1 files of this distributed checkpoint are not there: \.\./elsewh"):
        read_checkpoint(folder)


def test_mmengines_last_checkpoint_where_it_is_now(tmp_path: Path) -> None:
    save({"state_dict": prefixed(STATE, "backbone."), "meta": {}}, tmp_path, "epoch_9.pth")
    save({"state_dict": prefixed(STATE, "backbone."), "meta": {}}, tmp_path, "epoch_10.pth")
    for said in (tmp_path / "epoch_10.pth", "/gone/work_dirs/mae/epoch_10.pth", r"D:\runs\epoch_10.pth"):
        (tmp_path / "last_checkpoint").write_text(f"{said}\n")
        assert loads(tmp_path).path == tmp_path / "epoch_10.pth"


def test_a_run_of_pretraining_gives_its_encoder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "record.json").write_text("{}")
    for name in ("encoder.pth", "autoencoder.pth", "epoch_1.pth"):
        save({"model": STATE}, tmp_path / "checkpoints", name)
    assert loads(tmp_path).path == tmp_path / "checkpoints" / "encoder.pth"


def test_a_single_file_and_the_safer_of_two_formats(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "anything.pt")
    torch.save({}, tmp_path / "optimizer.pt")
    assert loads(tmp_path).path.name == "anything.pt"
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    assert loads(tmp_path).path.name == "pytorch_model.bin"
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    checkpoint = loads(tmp_path)
    assert checkpoint.path.name == "model.safetensors"
    assert checkpoint.sha256 == file_sha256(tmp_path / "model.safetensors")


def edit(change: Callable[[dict[str, str]], object]) -> Callable[[Path], object]:
    """Change what the index says."""

    def apply(index: Path) -> None:
        content = json.loads(index.read_text())
        change(content["weight_map"])
        index.write_text(json.dumps(content))

    return apply


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (
        lambda index: index.with_name("model-00002-of-00003.safetensors").unlink(),
        r"1 of the 3 files that it lists are not there: model-00002-of-00003.safetensors. Download them",
    ),
    "empty shard": (
        lambda index: index.with_name("model-00002-of-00003.safetensors").write_bytes(b""),
        r"model-00002-of-00003.safetensors: the file is empty",
    ),
    "truncated shard": (
        lambda index: os.truncate(index.with_name("model-00003-of-00003.safetensors"), 900),
        "model-00003-of-00003.safetensors: .* truncated",
    ),
    "another file's name": (
        edit(lambda held: held.update(norm="model-9.safetensors")),
        "files that it lists are not there: model-9.saf",
    ),
    "a file elsewhere": (
        edit(lambda held: held.update(norm="../secret.safetensors")),
        "names '../secret.safetensors', which is no file in its own folder",
    ),
    "a tensor that is not there": (
        edit(lambda held: held.update(extra="model-00001-of-00003.safetensors")),
        r"has 1 of the 19 tensors not that model.safetensors.index.json says are in it, such as extra\. Index",
    ),
    "corrupted index": (
        lambda index: os.truncate(index, 100),
        "the index of several files, but no JSON .* Download",
    ),
    "another JSON": (lambda index: index.write_text("[1]"), "no index of weights: expected"),
    "an index of nothing": (edit(lambda held: held.clear()), "no index of weights: expected"),
    "no index": (
        lambda index: index.unlink(),
        "is one of several files, and their index is not there",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_shards_say_what_to_do(tmp_path: Path, what: str) -> None:
    index = write_shards(tmp_path)
    breaking, expected = BROKEN[what]
    breaking(index)
    with pytest.raises(InputError, match=expected) as caught:
        read_checkpoint(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


FOLDERS: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({}, "a folder without weights. Expected model.safetensors or"),
    "no weights": ({"README.md": b"", "runs/x": b""}, r"without weights. .* It has folders: runs"),
    "a run of tasks": ({"checkpoints/iteration_2.pth": b"1"}, r"without weights. .* is .*/iteration_2.pth"),
    "two candidates": ({"a.pth": b"1", "b.pt": b"2"}, r"2 files of weights, .*: b.pth|: a.pth, b.pt. Give one of them"),
    "two indexes": ({"a.index.json": b"", "b.index.json": b""}, "2 files of weights.*: a.index.json, b.index.json"),
    "mmengine's gone": ({"last_checkpoint": b"/x/epoch_3.pth"}, "names /x/epoch_3.pth, and there is no such file, nor"),
    "mmengine's empty": ({"last_checkpoint": b""}, "names nothing, and there is no such file"),
    "broken metadata": ({".metadata": b"\x80\x04", "__0_0.distcp": b""}, "refused .* nothing of it was run"),
    "other metadata": ({".metadata": pickle.dumps({"a": 1})}, "refused .it is no Metadata.; nothing"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_that_do_not_serve_say_what_to_do(tmp_path: Path, what: str) -> None:
    files, expected = FOLDERS[what]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        read_checkpoint(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoints_with_less_than_all(tmp_path: Path) -> None:
    folder = save_distributed({"model": STATE}, tmp_path / "c")
    (file,) = folder.glob("*.distcp")
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match=r"a distributed checkpoint that cannot be read .* copy them again"):
        read_checkpoint(folder)
    file.unlink()
    with pytest.raises(InputError, match=r"1 of the 1 files of this distributed checkpoint are not there: __0_0\.d"):
        read_checkpoint(folder)
    alone = save_distributed({"optimizer": {"state": torch.ones(2)}}, tmp_path / "o")
    with pytest.raises(InputError, match="a distributed checkpoint without weights"):
        read_checkpoint(alone)


def test_what_is_known_of_a_folder_holds_while_its_files_do(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    before = KnownWeights(tmp_path)._state
    assert before and KnownWeights(tmp_path)._state == before
    os.utime(index.with_name("model-00002-of-00003.safetensors"), ns=(1, 1))
    assert KnownWeights(tmp_path)._state != before


def test_two_descriptions_of_one_blob_are_two(tmp_path: Path) -> None:
    """Snapshots of the hub's cache share their blobs, and what lay beside the link was not looked at."""
    blob = save(STATE, tmp_path, "blob")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_model.bin").symlink_to(blob)
    known = [KnownWeights(tmp_path / name / "pytorch_model.bin") for name in ("a", "b")]
    assert known[0]._file != known[1]._file
    (tmp_path / "a" / "config.json").write_text("{}")
    assert KnownWeights(known[0].path)._state != known[0]._state
