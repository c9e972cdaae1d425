"""What an export is made of: files to be written, all of them whole or none."""

import json
import os
import pickle
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from backbones.errors import InputError, not_written
from backbones.images.normalisation import Normalisation
from backbones.images.views import View
from backbones.training.tensors import write_tensors
from backbones.training.writing import check_before_writing, why_not_written, written_whole
from backbones.weights.deviating import stating

Target = Literal["timm", "transformers", "mmseg", "detectron2", "mae"]

Content = Callable[[Path], object]
"""Writes a file at that path."""


@dataclass(frozen=True)
class About:
    """What is known of a network beside its weights.

    method, pretrain_data, model: of these weights, as the tables print them
    classes:    the names of its outputs, in their order; empty without a head
    view:       what it sees of an image in its evaluation; None: the usual, of the size that the model is made for
    deviations: in short, where its training departed from the literature's; empty where it did not
    """

    method: str
    pretrain_data: str
    model: str
    normalisation: Normalisation
    classes: tuple[str, ...] = ()
    view: View | None = None
    deviations: str = ""

    @property
    def header(self) -> dict[str, str]:
        """What is written beside the weights, for whoever takes them for a backbone's."""
        mean, std = (json.dumps(list(values)) for values in self.normalisation.as_dict().values())
        return {
            "method": self.method,
            "pretrain_data": self.pretrain_data,
            "model": self.model,
            "mean": mean,
            "std": std,
            **stating(self.deviations),
        }


@dataclass(frozen=True)
class Product:
    """Files by their names in a folder, or one file, "", with others beside it whose names end so instead.

    tensors: that are written
    kind:    what it is, in the target's words
    remarks: what whoever takes it over has to know
    """

    files: Mapping[str, Content]
    tensors: Mapping[str, Tensor]
    kind: str
    is_folder: bool = False
    remarks: tuple[str, ...] = ()


def as_safetensors(tensors: Mapping[str, Tensor], about: About) -> Content:
    """Write tensors, with what is known of them in the header."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            write_tensors(file, _apart(tensors), {"format": "pt", **about.header})

    return write


def as_torch(content: Any) -> Content:
    """Write with `torch.save`."""

    def write(path: Path) -> None:
        with path.open("wb") as file:  # torch's own file tells no reason where it cannot be written
            torch.save(content, file)

    return write


def as_pickle(content: Any) -> Content:
    """Write as detectron2 does its models: a pickle whose tensors are numpy's arrays."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            pickle.dump(content, file)

    return write


def as_text(text: str) -> Content:
    """Write a text."""
    return lambda path: path.write_text(text, encoding="utf-8")


def as_json(content: Any) -> Content:
    """Write JSON that people can read."""
    return as_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, without gradients, and in one piece."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each with memory of its own, as safetensors wants it."""
    held: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in plain(tensors).items():
        storage = tensor.untyped_storage()
        is_part = storage.nbytes() != tensor.nbytes or storage.data_ptr() in places
        held[name] = tensor.clone() if is_part else tensor
        places.add(storage.data_ptr())
    return held


def require_room(out: Path, is_folder: bool, endings: Mapping[str, Any], overwrite: bool) -> None:
    """Raise InputError unless a product can be written to `out`: where something is, only with `overwrite`."""
    if is_folder:
        _require_folder(out, endings, overwrite)
        return
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder, and this target writes a file. Name one: {out / 'model.pth'}")
    if out.suffix == ".py":
        raise InputError(
            f"--out {out}: the weights are no program, and a configuration may lie beside them: name a .pth"
        )
    for path in (beside(out, ending) for ending in endings):
        if path.exists() and not overwrite:
            raise InputError(f"{path}: is there already. Choose another --out, or replace it with --overwrite")


def _require_folder(out: Path, names: Mapping[str, Any], overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file, and this target writes a folder. Choose another")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if there and not overwrite:
        raise InputError(f"{out}: is there already, with {there[0]}. Choose another --out, or replace it: --overwrite")
    if foreign := [name for name in there if name not in names]:
        raise InputError(
            f"{out}: has {foreign[0]}, which no export writes, and --overwrite would remove it. Choose another --out"
        )


def beside(out: Path, ending: str) -> Path:
    """The file itself, or the one beside it with another ending."""
    return out.with_suffix(ending) if ending else out


def write_product(product: Product, out: Path, overwrite: bool = False) -> list[Path]:
    """Write all files, whole or none of them; their paths. What stands there is replaced with `overwrite` alone.

    Raises InputError as `require_room` does, and what `not_written` gives where it cannot be written.
    """
    require_room(out, product.is_folder, product.files, overwrite)
    try:
        return _write_folder(product, out) if product.is_folder else _write_files(product, out)
    except (OSError, RuntimeError) as error:
        reason, number = why_not_written(error)
        raise not_written(f"{out}: cannot be written ({reason}). Make room, or choose another --out", number) from error


def _write_files(product: Product, out: Path) -> list[Path]:
    paths = [beside(out, ending) for ending in product.files]
    with ExitStack() as files:  # none appears before all are written
        for path, content in zip(paths, product.files.values(), strict=True):
            content(Path(files.enter_context(written_whole(path)).name))
    return paths


def _write_folder(product: Product, out: Path) -> list[Path]:
    check_before_writing()
    target = Path(os.path.realpath(out))
    with _staged(target) as staged:
        for name, content in product.files.items():
            content(staged / name)
        check_before_writing()
        if target.is_dir():
            replaced = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
            target.rename(replaced)
            staged.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            staged.rename(target)
    return [out / name for name in product.files]


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside the target, under a hidden name; gone afterwards unless it was renamed."""
    staged = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    staged.mkdir(parents=True)
    try:
        yield staged
    finally:
        with suppress(OSError):
            if staged.is_dir():
                shutil.rmtree(staged)


class NoHomeError(InputError):
    """A target has nothing for a network; the message goes on from the network's path."""


def no_home(what: str, target: str, why: str, others: str) -> NoHomeError:
    """The error for a network that a target has nothing for; `others` says where it can go instead."""
    return NoHomeError(f"{what} cannot be handed on to {target}: {why}. {others}")
