"""What cannot be read as a file of weights: what it is instead, and what to do."""

import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from backbones.errors import InputError

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".tar", ".ckpt", ".npz")
"""The endings of files of weights, the safest first."""

_BESIDE = ("training_args.", "optimizer.", "scheduler.", "scaler.", "rng_state")
"""How the names of files begin that Hugging Face's trainer leaves beside the weights."""

_PACKED = {
    b"\x1f\x8b": "packed by gzip: unpack it (`gunzip`, or `tar -xzf` for a .tar.gz), and give the file inside.",
    b"BZh": "packed by bzip2: unpack it with `bunzip2`, and give the file inside.",
    b"\x89HDF": "HDF5, as Keras writes it: save PyTorch's weights with torch.save.",
}
"""What other files begin with, and what to do."""

_UNFINISHED = (
    (
        r"\.lora_[AB]\.|\.base_layer\.",
        "It has adapters beside its weights (LoRA): save what PEFT's merge_and_unload() gives.",
    ),
    (r"\.weight_mask$", 'It is pruned by masks: prune.remove(module, "weight") for each module, and save it again.'),
    (
        r"\.(?:SCB|absmax|quant_map)$|\.weight\.absmax$",
        "It is quantised by bitsandbytes: dequantize() it, and save it again.",
    ),
    (r"(?:^|\.)parametrizations\.", "It is parametrised: remove_parametrizations() of each module, and save it again."),
)
"""Signs in the names of weights that something was left on them, and what to do."""

_LISTED = 4

_SHARD = re.compile(r"-\d+-of-(\d+)\.\w+")


def require_file(path: Path, alone: bool = True) -> None:
    """Raise InputError unless there is a file at `path` that may hold weights, and if `alone` all of a model's."""
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to {path.readlink()}, which is not there. Download the weights again.")
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty. Download or export the checkpoint again.")
    if alone and is_shard(path):
        raise InputError(
            f"{path}: one of several files. Give their folder, or their index in it: *.index.json, which says what "
            "each of them holds."
        )


def weights_in(folder: Path) -> list[Path]:
    """The files of a folder that may hold all of a model's weights by their names, the safest first."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    whole = [name for name in names if not name.startswith(_BESIDE) and not name.endswith("optim_states.pt")]
    return [
        folder / name for suffix in SUFFIXES for name in whole if name.endswith(suffix) and not is_shard(Path(name))
    ]


def unfinished(names: Iterable[str]) -> str:
    """What was left on weights that have to be saved without it, and how, with a blank behind; "" for others."""
    listed = [*names]
    return "".join(f"{told} " for sign, told in _UNFINISHED if any(re.search(sign, name) for name in listed))


def is_shard(path: Path) -> bool:
    """Whether the name is one of several, as Hugging Face writes them: "model-00001-of-00002.safetensors"."""
    shard = _SHARD.search(path.name)
    return shard is not None and int(shard[1]) > 1


def asks_for_code(path: Path, name: str) -> str:
    """Say that a file names a function or class to be read by."""
    return (
        f"{path}: refused, nothing of it was run. Reading it would run code: it asks for {name}, "
        "which is neither weights nor known to be harmless. If you trust its origin, save its weights alone with "
        'torch.save({"model": model.state_dict()}, FILE) where that code is at home, or as safetensors.'
    )


def why_unreadable(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that torch could not read, and what to do about it."""
    with path.open("rb") as file:
        start = file.read(512)
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return asks_for_code(path, named[1])
    if told := next((told for sign, told in _PACKED.items() if start.startswith(sign)), None):
        return f"{path}: {told}"
    if path.suffix == ".onnx":
        return f"{path}: ONNX, a graph without the names of modules. Save the model's state_dict() with torch.save."
    if held := _packed_together(path, start):
        return f"{path}: an archive that holds {held}. Unpack it, and give the file of weights inside."
    if start.startswith(b"PK\x03\x04"):
        return (
            f"{path}: a PyTorch file that cannot be read ({_first_line(error)}). It is probably truncated: "
            "compare its size with the original's and copy it again."
        )
    if start.startswith(b"\x80"):
        return (
            f"{path}: a pickle that PyTorch's restricted reader refuses ({_first_line(error)}); nothing of it was run. "
            "It is truncated, or might run code. Save its weights with torch.save or as safetensors."
        )
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return (
            f"{path}: a pointer of Git LFS, which stands for the file of weights. Fetch that: run `git lfs pull` in "
            "its repository, or download the file from the repository's web page."
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return (
            f"{path}: a web page, not the file of weights: an error, a login, or the page about the file. Open its "
            "address in a browser, and download from the link there (on Hugging Face with /resolve/, not /blob/)."
        )
    what = "a text file" if _is_text(start) else "neither a PyTorch nor a safetensors file"
    return f"{path}: {what}. A checkpoint is a file written by torch.save or safetensors; check what was downloaded."


def _packed_together(path: Path, start: bytes) -> str:
    """The first files in a zip or a tar that is none of PyTorch's own, which hold data.pkl or pickle; "" for others."""
    try:
        if zipfile.is_zipfile(path) and start.startswith(b"PK"):
            with zipfile.ZipFile(path) as packed:
                names = [name for name in packed.namelist() if not name.endswith("/")]
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as bundle:
                names = [member.name for member in bundle if member.isfile()]
        else:
            return ""
    except (OSError, zipfile.BadZipFile, tarfile.TarError):
        return ""
    if any(name.rpartition("/")[2] in ("data.pkl", "pickle") for name in names):
        return ""
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return False
        text = start[: error.start].decode("utf-8")
    return text.isprintable() or "\n" in text
