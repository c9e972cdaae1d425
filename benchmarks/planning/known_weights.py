"""What an earlier look at a file of weights found out, so that planning need not read gigabytes again.

It is kept in the user's cache folder, a small file for each file of weights, and holds as long as that and the hub's
descriptions beside it have the same size, times and place on the disk. It is named by those too: machines that share
the folder may have other files under one path. Whoever carries a cell out reads the weights in any case.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backbones.cache import cache_folder
from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.images.observing import is_settled, state_of
from backbones.training.writing import written_whole
from backbones.weights.hub_files import DESCRIPTIONS


class KnownWeights:
    """The SHA-256 of one file, and how its pixels are normalised under each question that was asked.

    Nothing here fails: what cannot be read is not known, and what cannot be written is found out again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
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

    def remember(self, sha256: str, question: Mapping[str, Any], answer: Normalisation) -> None:
        """Keep what the file was found to be, unless it has changed since this object was made, or only just."""
        if not self._state or self._state != self._look() or not is_settled(self._state):
            return
        others = self._known.get("normalisations", {}) if self.sha256 == sha256 else {}
        answers = others | {_digest(question): answer.as_dict()}
        self._known = {"path": str(self.path), "state": self._state, "sha256": sha256, "normalisations": answers}
        with (
            suppress(OSError),
            written_whole(self._file, safe_from_power_cuts=False) as file,
        ):
            file.write(json.dumps(self._known, indent=2).encode())

    def _look(self) -> list[int]:
        """All that would change with the file or with what describes it; empty if there is no such file."""
        weights = state_of(self.path)
        return weights and [
            *weights,
            *(n for name in DESCRIPTIONS for n in (state_of(self.path.with_name(name)) or [0])),
        ]

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError, AttributeError):
            known = json.loads(self._file.read_bytes())
            if self._state and known.get("state") == self._state:
                return dict(known)
        return {}


def _digest(question: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
