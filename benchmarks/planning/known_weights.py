"""What an earlier look at a file of weights found out, so that planning need not read gigabytes again.

It is kept in the user's cache folder, a small file for each file or folder of weights, and holds as long as its files
and the hub's descriptions beside them have the same size, times and place on the disk. It is named by those too:
machines that share the cache may have other files under one path. Whoever carries a cell out reads the weights in any
case.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backbones.cache import cache_folder
from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.images.observing import State, is_settled, state_of
from backbones.training.writing import written_whole
from backbones.weights.directories import locate
from backbones.weights.hub_files import DESCRIPTIONS


class KnownWeights:
    """The SHA-256 of a file, or of those of a folder, and how its pixels are normalised under each question asked.

    Nothing here fails: what cannot be read is not known, and what cannot be written is found out again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._state = self._look()
        name = _digest({"path": str(self.path), "state": self._state})
        self._file = cache_folder() / "weights" / f"{name}.json"
        self._known = self._read()

    @property
    def sha256(self) -> str | None:
        """Of the file's bytes; None if it is not known."""
        return self._known.get("sha256")

    def normalisation(self, question: Mapping[str, Any]) -> Normalisation | None:
        """The answer to a question that was asked before."""
        with suppress(KeyError, TypeError, InputError):
            return Normalisation.of(**self._known["normalisations"][_digest(question)])
        return None

    def fits(self, question: Mapping[str, Any]) -> bool:
        """Whether it was found to fit what is asked about."""
        return _digest(question) in self._known.get("fits", [])

    def remember_fit(self, sha256: str, question: Mapping[str, Any]) -> None:
        """Keep that the file fits what was asked about, as `remember` does."""
        self._keep(sha256, {}, [_digest(question)])

    def remember_digest(self, sha256: str) -> None:
        """Keep what the file's digest was found to be, as `remember` does."""
        self._keep(sha256, {})

    def remember(self, sha256: str, question: Mapping[str, Any], answer: Normalisation) -> None:
        """Keep what the file was found to be, unless it has changed since this object was made, or only just."""
        self._keep(sha256, {_digest(question): answer.as_dict()})

    def _keep(self, sha256: str, answers: Mapping[str, Any], fits: Iterable[str] = ()) -> None:
        if not self._state or self._state != self._look() or not all(is_settled(each) for each in self._state):
            return
        before = self._known if self.sha256 == sha256 else {}
        self._known = {
            "path": str(self.path),
            "state": self._state,
            "sha256": sha256,
            "normalisations": {**before.get("normalisations", {}), **answers},
            "fits": sorted({*before.get("fits", []), *fits}),
        }
        with (
            suppress(OSError),
            written_whole(self._file, safe_from_power_cuts=False) as file,
        ):
            file.write(json.dumps(self._known, indent=2).encode())

    def _look(self) -> list[State]:
        """All that would change with the files or with what describes them; empty if there are none."""
        return [state_of(path) for path in files_of(self.path)]

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError, AttributeError):
            known = json.loads(self._file.read_bytes())
            if self._state and known.get("state") == self._state:
                return dict(known)
        return {}


def files_of(path: Path) -> list[Path]:
    """The files of weights behind a path, and those beside them that describe a model, there or not; none where it
    cannot be told which they are."""
    try:
        located = locate(path)
    except (InputError, OSError):
        return []
    return sorted({located.main, *located.files, *(located.main.with_name(name) for name in DESCRIPTIONS)})


def _digest(question: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
