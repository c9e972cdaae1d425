"""A checkpoint: the weights in a file or a folder, and which part of them is meant.

What the file holds beside the weights is kept as short strings, for people to read.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.directories import locate
from backbones.weights.distributed import Choice
from backbones.weights.files import Kind, abridge, read_files
from backbones.weights.references import SEPARATOR, is_optimizers, part_name, split_part

# Where published files keep the weights to use, in the order of preference: MAE, BEiT, DeiT and our own; MoCo v3,
# mmengine and timm; DINO (whose teacher is the network to use); I-JEPA; torch.distributed wrappers. Weights that lie
# elsewhere are found by what fits a model (backbones/weights/prefixes.py).
CONTAINERS = ("model", "state_dict", "teacher", "student", "target_encoder", "encoder", "module", "backbone")

_DEPTH = 8  # of dictionaries in dictionaries


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights in a file, under the names that the file gives them. Equal to itself alone: tensors are not compared.

    path:       the file, as given; of a folder the file in it, of several files their index
    sha256:     of the whole file, 64 hexadecimal digits; of several files that of their digests (directories.py)
    size:       bytes
    kind:       how the file is packed
    container:  the entry that held the weights ("model", "state_dict", "model.state_dict"), "" for the file itself
    state_dict: tensors on the CPU, mapped from the file where its format allows, so that unread ones cost nothing
    extras:     what else lay in the file, abridged ("epoch" → "799", "optimizer" → "dict of 2")
    containers: the tensors of all entries that hold any, by the entry's name, `state_dict` among them
    part:       the part that was chosen, "teacher.backbone"; "" where that is left to what fits a model
    prefix:     what was taken off the names in `state_dict`, because the part was chosen: "backbone."
    beside:     tensors of the same container that do not belong to the part
    meta:       what a file of OpenMMLab's says of itself, as it stands there (openmmlab.py)
    """

    path: Path
    sha256: str
    size: int
    kind: Kind
    container: str
    state_dict: dict[str, Tensor]
    extras: dict[str, str]
    containers: Mapping[str, dict[str, Tensor]] = field(default_factory=dict)
    part: str = ""
    prefix: str = ""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What messages call it: the file, and the part that is meant."""
        return f"{self.path}{SEPARATOR}{self.part}" if self.part else str(self.path)

    @property
    def parameters(self) -> int:
        """How many numbers all its tensors hold together."""
        return numbers(self.state_dict)

    @property
    def fills_file(self) -> bool:
        """Whether the file has hardly room for more than this entry's tensors, or for an optimizer's beside them."""
        own = sum(tensor.nbytes for held in (self.state_dict, self.beside) for tensor in held.values())
        return own > 0.9 * self.size or any(is_optimizers(entry) for entry in self.extras)

    @property
    def md5(self) -> str:
        """Of the whole file, 32 hexadecimal digits: some pages print nothing else. Empty if the file is gone."""
        if not self.path.is_file():
            return ""
        seen = self.path.stat()
        return _md5(self.path, seen.st_size, seen.st_mtime_ns)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches that the position embeddings were made for, where the file says: "6×6"."""
        stated = re.fullmatch(r"\D*(\d+)\D+(\d+)\D*", self.extras.get("grid", ""))
        return (int(stated[1]), int(stated[2])) if stated else None

    def take(self, container: str, prefix: str = "", part: str | None = None) -> "Checkpoint":
        """The same file, of which only the tensors of an entry count whose names begin so; a prefix ends with a dot.

        part: what that is called, as it was chosen
        """
        tensors = self.containers[container]
        before = self.prefix if container == self.container else ""
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        beside = {before + name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
        inner = {name: held for name, held in self.containers.items() if container and name.startswith(f"{container}.")}
        return replace(
            self,
            container=container,
            state_dict=inside,
            extras=_extras_of(self, container),
            containers={container: inside} | ({} if prefix else inner),
            part=part_name(container, before + prefix) if part is None else part,
            prefix=before + prefix,
            beside=beside | dict(self.beside if before else {}),
        )

    def take_part(self, part: str) -> "Checkpoint":
        """The same file, of which only a part counts: an entry, a prefix of names in it, or both joined by a dot.

        A prefix of names alone is enough where one entry has such names, and "." is what has neither. Raises
        InputError, with the parts that there are, for anything else.
        """
        if part == "." and "" in self.containers:
            return self.take("", part=part)
        wanted = part.strip(".")
        found = [(name, "") for name in self.containers if wanted == name and name]
        if not found:
            inner = [name for name in self.containers if name.startswith(f"{wanted}.")]
            found = [(default_of(inner), "")] if inner and wanted else []
        for name, tensors in () if found or not wanted else self.containers.items():
            within = f"{wanted.removeprefix(f'{name}.') if name else wanted}."
            if any(key.startswith(within) for key in tensors):
                found.append((name, within))
        if len(found) == 1:
            return self.take(*found[0], part=wanted)
        if found:
            several = ", ".join(f"{self.path}{SEPARATOR}{part_name(*each)}" for each in found)
            raise InputError(f"{self.path}: several of its parts are called {part!r}. Say which: {several}")
        there = ", ".join(_outline(self.containers)) or "none: its tensors are all named in one word"
        raise InputError(
            f"{self.path}: has no part {part!r}. A part is an entry of the file, or what the names of its tensors "
            f"begin with up to a dot; there are {there}. `backbench inspect {self.path}` lists those that hold a "
            "network."
        )


@cache
def _md5(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def numbers(tensors: Mapping[str, Tensor]) -> int:
    """How many numbers tensors hold together."""
    return sum(tensor.numel() for tensor in tensors.values())


def read_checkpoint(path: str | Path, sha256: str | None = None, part: str = "") -> Checkpoint:
    """Read the weights in a file or a folder without running anything that it contains.

    Accepts `torch.save` files, old and new, safetensors, `.npz`, and the folders that `locate` finds files in; looks
    for the weights inside the containers of the common code bases. `FILE::PART` takes a part of it, and so does `part`.
    Raises InputError, with what to do, for anything that is not such a file: missing, empty, text, truncated, without
    tensors, or a pickle that asks for code to be run; for a folder without weights or with several; for a part that is
    not there; and for quantised, sparse and meta tensors in what is taken. `sha256` is the file's, where that is known.
    """
    path, chosen = (Path(path), part) if part else split_part(path)
    located = locate(path)
    kind, content, metadata = read_files(located, _choice(located.main, chosen) if chosen else None)
    container, containers, extras = _find_weights(located.main, content)
    checkpoint = Checkpoint(
        located.main,
        sha256 or located.sha256(),
        located.size,
        kind,
        container,
        containers[container],
        extras | metadata,
        containers,
        meta=_meta_of(content),
    )
    taken = checkpoint.take_part(chosen) if chosen else checkpoint
    if odd := [key for key, tensor in taken.state_dict.items() if not _is_plain(tensor)]:
        raise InputError(f"{taken.name}: {_not_plain(taken.state_dict[odd[0]])}: {odd[0]}, {len(odd)} in all.")
    return replace(
        taken,
        containers={
            name: held
            for name, held in taken.containers.items()
            if name == taken.container or all(_is_plain(tensor) for tensor in held.values())
        },
    )


def _meta_of(content: object) -> Mapping[str, Any]:
    """The entry in which mmcv and mmengine describe a checkpoint."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def _choice(path: Path, part: str) -> Choice:
    """What a part has of tensors that lie in no entry."""

    def choose(outline: dict[str, Tensor]) -> set[str]:
        whole = Checkpoint(path, "", 0, "distributed", "", outline, {}, {"": outline})
        taken = whole.take_part(part)
        return {taken.prefix + name for name in taken.state_dict}

    return choose


def _is_plain(tensor: Tensor) -> bool:
    """Whether it has a number for each of its places, one beside the other."""
    return tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_meta or tensor.is_nested)


def _not_plain(tensor: Tensor) -> str:
    """What a tensor is that is not plain, and what to do."""
    if tensor.is_meta:
        return (
            'has a tensor without numbers, on the device "meta": its model was saved before its weights were loaded '
            "into it. Load them, and save its state_dict() again"
        )
    if tensor.is_quantized:
        return "has a quantised tensor. Save its weights dequantised, as tensor.dequantize() gives each"
    layout = str(tensor.layout).removeprefix("torch.")
    return f"has a tensor of the layout {layout}. Save its weights dense, as tensor.to_dense() gives each"


def _find_weights(path: Path, content: object) -> tuple[str, dict[str, dict[str, Tensor]], dict[str, str]]:
    """Return the entry that holds the weights, all that hold tensors, and, abridged, what lies beside the first."""
    found = dict(_walk(content, (), set()))
    containers = {".".join(names): tensors for names, tensors in found.items()}
    names = _preferred(content)
    if names is None and found:
        default = default_of(containers, containers)
        names = next(each for each in found if ".".join(each) == default)
    if names is None:
        raise InputError(
            f"{path}: no weights found in it, but {abridge(content)}{_entries(content)}. Expected a model's "
            f"state_dict(), by itself or under one of {', '.join(CONTAINERS)}.{_repacked(content)}"
        )
    extras: dict[str, str] = {}
    inner: Any = content
    for name in names:
        extras |= {str(key): abridge(value) for key, value in inner.items() if key != name}
        inner = inner[name]
    if bad := [key for key, value in inner.items() if isinstance(value, Tensor) and not isinstance(key, str)]:
        raise InputError(f"{path}: its tensors are not named: {bad[:3]}. Expected a model's state_dict().")
    extras |= {str(key): abridge(value) for key, value in inner.items() if not isinstance(value, Tensor)}
    return ".".join(names), containers, extras


def _walk(
    content: object, names: tuple[str, ...], above: set[int]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """All dictionaries that hold named tensors, by the entries that lead to them, but for an optimizer's."""
    if not isinstance(content, Mapping) or len(names) > _DEPTH or id(content) in above:
        return
    tensors = {key: value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    if tensors and all(isinstance(key, str) for key in tensors):
        yield names, tensors
    for key, value in content.items():
        if isinstance(key, str) and not is_optimizers(key):
            yield from _walk(value, (*names, key), above | {id(content)})


def _preferred(content: object) -> tuple[str, ...] | None:
    """The entries that lead to the weights of the common code bases; none for tensors without one."""
    names: list[str] = []
    while isinstance(content, Mapping):
        inner = next((name for name in CONTAINERS if _holds_weights(content.get(name))), None)
        if inner is None:
            return tuple(names) if any(isinstance(value, Tensor) for value in content.values()) else None
        names.append(inner)
        content = content[inner]
    return None


def _holds_weights(content: object) -> bool:
    """Whether there are tensors in it, by themselves or in a container: a model's settings have its name too."""
    return isinstance(content, Mapping) and (
        any(isinstance(value, Tensor) for value in content.values())
        or any(_holds_weights(content.get(name)) for name in CONTAINERS)
    )


def default_of(names: Iterable[str], containers: Mapping[str, Mapping[str, Tensor]] | None = None) -> str:
    """Of several entries the one to look at first: by the order of preference, else the one of most numbers."""
    order = {name: index for index, name in enumerate(CONTAINERS)}
    held = containers or {}
    return min(
        names, key=lambda name: (order.get(name.rpartition(".")[2], len(order)), -numbers(held.get(name, {})), name)
    )


def _extras_of(checkpoint: Checkpoint, container: str) -> dict[str, str]:
    """What lies beside another entry than the one that was taken first."""
    before, after = checkpoint.container.partition(".")[0], container.partition(".")[0]
    extras = {name: value for name, value in checkpoint.extras.items() if name != after or not after}
    if before and before != after:
        extras[before] = f"dict of {len(checkpoint.state_dict)}"
    return extras


def _outline(containers: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """The entries, and what the names in them begin with."""
    found = [name for name in containers if name]
    for name, tensors in containers.items():
        beginnings = dict.fromkeys(key.partition(".")[0] for key in tensors if "." in key)
        found += [part_name(name, beginning) for beginning in beginnings]
    return found[:16] + ([f"{len(found) - 16} more"] if len(found) > 16 else [])


def _repacked(content: object) -> str:
    """What to do with weights in a list, or as numpy's arrays."""
    if isinstance(content, list | tuple) and any(_preferred(each) is not None for each in content):
        return " They are in a list: save the one that is meant by itself, torch.save(content[0], FILE)."
    held = [*content.values()] if isinstance(content, Mapping) else []
    if held and all(abridge(each) == "not read" for each in held):
        return " If these are numpy's arrays, save each as a tensor, torch.from_numpy(array)."
    return ""


def _entries(content: object) -> str:
    """Name the first entries of a dictionary."""
    return f" ({', '.join(str(key) for key in list(content)[:8])})" if isinstance(content, Mapping) and content else ""
