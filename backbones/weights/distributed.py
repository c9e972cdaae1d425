"""Reading the folders of `torch.distributed.checkpoint`, in one process and without running what they hold.

Their `.metadata` is a pickle. It is read by an unpickler that knows the classes which describe tensors and nothing
else, and of the files beside it only tensors are read, restricted to weights.
"""

import pickle
import warnings
from collections.abc import Callable, Collection
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.directories import METADATA
from backbones.weights.references import is_optimizers

_DESCRIBING = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "collections": {"OrderedDict"},
}
_PATHS = {"PosixPath": PurePosixPath, "PurePosixPath": PurePosixPath}
_PATHS_OF_WINDOWS = {"WindowsPath": PureWindowsPath, "PureWindowsPath": PureWindowsPath}


class _Metadata(pickle.Unpickler):
    """Knows what describes tensors; where they were saved to becomes a path that nothing can be opened by."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "pathlib" and name in _PATHS | _PATHS_OF_WINDOWS:
            return (_PATHS | _PATHS_OF_WINDOWS)[name]
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in _DESCRIBING.get(module, ()):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


Choice = Callable[[dict[str, Tensor]], Collection[str]]
"""Names those that are to be read, of tensors without numbers."""


def read_distributed(folder: Path, choose: Choice | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a distributed checkpoint, whole and on the CPU, and what else there is, unread.

    Those that `choose` leaves out come without numbers, on the device "meta". An optimizer's, twice as many numbers as
    the weights, are left where they are.

    Raises what `choose` does, and InputError for metadata that cannot be read safely and for files that are missing or
    broken.
    """
    import torch.distributed.checkpoint as distributed
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    metadata = _read_metadata(folder)
    described, extras = {}, {}
    for name, what in metadata.state_dict_metadata.items():
        first = name.partition(".")[0]
        if isinstance(what, TensorStorageMetadata) and not is_optimizers(first):
            described[name] = what
        else:
            extras[first] = "not read"
    _require_files(folder, metadata, set(described))
    outline = {
        name: torch.empty(what.size, dtype=what.properties.dtype, device="meta") for name, what in described.items()
    }
    names = choose(outline) if choose else described

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            return metadata

    try:
        tensors = {name: torch.empty_like(outline[name], device="cpu") for name in names}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distributed.load(tensors, storage_reader=Reader(folder), no_dist=True)
    except MemoryError:
        raise
    except (Exception, distributed.CheckpointException) as error:  # torch's reader fails with any exception
        raise InputError(
            f"{folder}: a distributed checkpoint that cannot be read ({_first_line(error)}). It is probably "
            "incomplete: compare its files with the original's and copy them again."
        ) from error
    return outline | tensors, extras


def _read_metadata(folder: Path) -> Any:
    from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

    convert = f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE.pth"
    try:
        with (folder / METADATA).open("rb") as file:
            metadata = _Metadata(file).load()
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            raise pickle.UnpicklingError("it is no Metadata")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
    except Exception as error:  # a damaged pickle fails with any exception
        raise InputError(
            f"{folder / METADATA}: the metadata of a distributed checkpoint, refused ({_first_line(error)}); nothing "
            "of it was run. It is damaged, of another version, or no such metadata. If you trust its origin, run "
            f"{convert}"
        ) from error
    return metadata


def _require_files(folder: Path, metadata: Any, wanted: set[str]) -> None:
    """Raise InputError unless the tensors lie in files of this folder that are there."""
    if not wanted:
        raise InputError(
            f"{folder}: a distributed checkpoint without weights: it has nothing but an optimizer's tensors."
        )
    names = {str(info.relative_path) for index, info in metadata.storage_data.items() if index.fqn in wanted}
    missing = [name for name in sorted(names) if PurePath(name).name != name or not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of the {len(names)} files of this distributed checkpoint are not there: "
            f"{', '.join(missing[:8])}. Copy the whole folder again."
        )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
