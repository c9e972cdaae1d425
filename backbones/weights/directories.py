"""Weights in a file, in a folder or in several files: which files they are.

Read are Hugging Face's folders, with one file or with shards, and its cache; `torch.distributed.checkpoint`'s;
mmengine's work_dir; our own runs, of pre-training and of fine-tuning; and any folder with a single file of weights.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from backbones.errors import InputError
from backbones.weights.hub_files import IN_ORDER, INDEX
from backbones.weights.unreadable import is_shard, require_file, weights_in

METADATA = ".metadata"
"""What describes the files of a distributed checkpoint."""

_MMENGINE = "last_checkpoint"
_SNAPSHOTS = "snapshots"
_OWN = Path("checkpoints/encoder.pth")
_FINE_TUNED = "weights.safetensors"
_AUTOENCODER = _OWN.with_name("autoencoder.pth")
_LISTED = 8


@dataclass(frozen=True)
class Located:
    """The files that hold a model's weights together.

    main:  the file itself; of several their index; of a distributed checkpoint its metadata
    files: those that hold tensors, and of a distributed checkpoint the metadata, in the order of their names
    """

    main: Path
    files: tuple[Path, ...]
    layout: Literal["file", "shards", "distributed"] = "file"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def sha256(self) -> str:
        """Of the file; of several the SHA-256 of their digests in hexadecimal, a line each, in order of their names."""
        if self.layout == "file":
            return file_sha256(self.main)
        lines = "".join(f"{file_sha256(file)}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(path: Path) -> Located:
    """Find the files behind a path: a file, an index of several, a folder.

    Raises InputError, with what to do, if there are none, or not all of them, or if it cannot be told which are meant.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.name == METADATA and path.is_file():
        return _distributed(path.parent)
    if path.name.endswith(INDEX) and path.is_file():
        return Located(path, tuple(sorted({path.with_name(name) for name in read_index(path).values()})), "shards")
    require_file(path)
    return Located(path, (path,))


def deciding_places(folder: Path) -> tuple[Path, ...]:
    """What decides beside the files themselves which ones `locate` finds behind a folder: what it has, and what the
    texts and folders in it say that name others. Each is there or not."""
    texts, folders = (folder / _MMENGINE, _branch(folder)), (folder, folder / _SNAPSHOTS, folder / _OWN.parent)
    return *texts, *folders


def _in_folder(folder: Path) -> Located:
    if (folder / METADATA).is_file():
        return _distributed(folder)
    if (folder / _SNAPSHOTS).is_dir():
        return locate(_snapshot(folder))
    for name in IN_ORDER:
        if (folder / name).is_file() or (folder / name).is_symlink():
            return locate(folder / name)
    if (folder / _MMENGINE).is_file():
        return locate(_last_of_mmengine(folder))
    if (folder / _OWN).is_file():
        return locate(folder / _OWN)
    if (folder / _FINE_TUNED).is_file():
        return locate(folder / _FINE_TUNED)
    indexes, found = sorted(folder.glob(f"*{INDEX}")), weights_in(folder)
    if len(indexes) == 1:
        return locate(indexes[0])
    if len(found) == 1 and not indexes:
        return locate(found[0])
    if candidates := [*indexes, *found]:
        names = ", ".join(path.name for path in candidates[:_LISTED])
        raise InputError(
            f"{folder}: a folder with {len(candidates)} files of weights, and which is meant cannot be told: {names}. "
            f"Give one of them: {candidates[0]}"
        )
    raise InputError(f"{folder}: a folder without weights. {_what_it_has(folder)}")


def _what_it_has(folder: Path) -> str:
    if shards := sorted(path.name for path in folder.iterdir() if is_shard(path)):
        return (
            f"{shards[0]} is one of several files, and their index is not there: NAME.index.json, which says what each "
            "of them holds. Download it into the same folder."
        )
    if deeper := [path for place in sorted(folder.iterdir()) if place.is_dir() for path in weights_in(place)]:
        return f"Of files of weights further below, the newest is {max(deeper, key=lambda path: path.stat().st_mtime)}."
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return (
        "Expected model.safetensors or pytorch_model.bin (or their index and shards), a distributed checkpoint "
        f"({METADATA}), mmengine's {_MMENGINE}, a run with {_OWN} or {_FINE_TUNED}, or a single file of weights."
        + (f" It has folders: {', '.join(inner[:_LISTED])}" if inner else "")
    )


def _snapshot(folder: Path) -> Path:
    """The snapshot of the hub's cache, models--OWNER--NAME, that its main branch is at, or its only one."""
    snapshots = sorted(path for path in (folder / _SNAPSHOTS).iterdir() if path.is_dir())
    reference = _branch(folder)
    current = folder / _SNAPSHOTS / reference.read_text(encoding="utf-8").strip() if reference.is_file() else None
    if current in snapshots:
        return current
    if len(snapshots) != 1:
        names = ", ".join(path.name for path in snapshots[:_LISTED]) or "none"
        raise InputError(f"{folder}: the hub's cache of a model, of which snapshot cannot be told: {names}. Give one.")
    return snapshots[0]


def _branch(folder: Path) -> Path:
    """What names the snapshot that the main branch is at."""
    return folder / "refs" / "main"


def _last_of_mmengine(folder: Path) -> Path:
    """The checkpoint that mmengine wrote last, by its name in this folder: a work_dir may have been moved since."""
    said = (folder / _MMENGINE).read_text(encoding="utf-8", errors="replace").strip()
    beside = folder / PurePath(said.replace("\\", "/")).name
    for path in (beside, Path(said)):
        if said and path.is_file():
            return path
    raise InputError(
        f"{folder / _MMENGINE}: names {said or 'nothing'}, and there is no such file, nor one of that name beside it. "
        "Give the file of weights itself."
    )


def _distributed(folder: Path) -> Located:
    files = (folder / METADATA, *sorted(folder.glob("*.distcp")))
    return Located(folder / METADATA, files, "distributed")


def whole_autoencoder(path: Path) -> Path:
    """The decoder's file too, of a folder of our own runs of pre-training that has one; any other path as it is."""
    return path / _AUTOENCODER if (path / _AUTOENCODER).is_file() else path


def read_index(index: Path) -> Mapping[str, str]:
    """Which file each tensor lies in, all of which are there."""
    what_to_do = "Download it again, into the folder of the files that it lists."
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{index}: the index of several files, but no JSON ({error}). {what_to_do}") from None
    held = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(held, dict) or not held or not all(isinstance(name, str) for name in held.values()):
        raise InputError(f'{index}: no index of weights: expected {{"weight_map": {{TENSOR: FILE}}}}. {what_to_do}')
    if odd := sorted(name for name in set(held.values()) if name in ("", ".", "..") or PurePath(name).name != name):
        raise InputError(f"{index}: names {odd[0]!r}, which is no file in its own folder. {what_to_do}")
    names = sorted(set(held.values()))
    if missing := [name for name in names if not index.with_name(name).is_file()]:
        raise InputError(
            f"{index}: {len(missing)} of the {len(names)} files that it lists are not there: "
            f"{', '.join(missing[:_LISTED])}{' …' if missing[_LISTED:] else ''}. Download them into the same folder."
        )
    return held
