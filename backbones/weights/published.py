"""Where the weights behind the paper's tables come from: public files, and which cell of which table each is for."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

LIST = Path(__file__).with_name("weights.yaml")

Text = Annotated[str, Field(min_length=1)]


class _Checked(BaseModel):
    """Fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedFile(_Checked):
    """A file of weights that others published.

    name:          of the file, as it is published
    page:          address of the page that offers it
    method:        how the weights came about, as the tables print it
    pretrain_data: all that they were trained on, as the tables print it
    model:         the tables' column
    differs:       how it departs from what the paper's row had; empty where it is that very file
    sha256:        of the file, 64 hexadecimal digits, where known
    sha256_prefix: its first digits, where the file's name has them
    md5_prefix:    the first digits of its MD5, where the page prints them
    """

    name: Text
    page: Annotated[str, Field(pattern="^https://")]
    method: Text
    pretrain_data: Text
    model: Text
    differs: str = ""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    sha256_prefix: Annotated[str, Field(pattern="^[0-9a-f]{8,63}$")] | None = None
    md5_prefix: Annotated[str, Field(pattern="^[0-9a-f]{6,32}$")] | None = None

    @property
    def digest(self) -> str:
        """The digest that it is known by, as a person reads it: "sha256 b5f2ef4d…"; empty where none is known."""
        whole, sha256, md5 = self.sha256, self.sha256_prefix, self.md5_prefix
        return f"sha256 {whole}" if whole else f"sha256 {sha256}…" if sha256 else f"md5 {md5}…" if md5 else ""

    def is_file(self, sha256: str, md5: str | None) -> bool:
        """Whether a file of these digests is this one, as far as its published digests tell."""
        if self.sha256 is not None:
            return sha256 == self.sha256
        if self.sha256_prefix is not None:
            return sha256.startswith(self.sha256_prefix)
        return self.md5_prefix is not None and md5 is not None and md5.startswith(self.md5_prefix)


class Place(NamedTuple):
    """Where a number stands, as the paper's tables print it. `model` is the column."""

    table: str
    method: str
    pretrain_data: str
    model: str


class Cell(_Checked):
    """A cell of the paper's tables, and the files, by name, that bear on it.

    weights:  what a run of the cell starts from, released by the method's authors; empty where they released nothing
    nearest:  the nearest that can be had beside those, each differing in what its entry says
    finished: published results of such runs, trained on the table's own task
    evidence: how it is known that there are no weights, or what remains unknown
    """

    place: Place
    weights: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    evidence: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.weights, *self.nearest, *self.finished)

    def starts_from(self, file: PublishedFile) -> bool:
        """Whether a file is of this row and column; "ViT-H-448" starts from ViT-H."""
        same_row = (file.method, file.pretrain_data) == (self.place.method, self.place.pretrain_data)
        return same_row and f"{self.place.model}-".startswith(f"{file.model}-")

    @model_validator(mode="after")
    def _says_why_there_are_none(self) -> "Cell":
        if not self.weights and not self.evidence:
            raise ValueError("a cell without weights says how that is known: evidence")
        return self


class Published(_Checked):
    """All files and all cells. Every cell's files are among the files, and every file is of use to a cell."""

    files: tuple[PublishedFile, ...]
    cells: tuple[Cell, ...]

    @model_validator(mode="after")
    def _names_agree(self) -> "Published":
        names = [file.name for file in self.files]
        used = {name for cell in self.cells for name in cell.files}
        _refuse("listed twice", {name for name in names if names.count(name) > 1})
        _refuse("named by a cell, but not among the files", used - set(names))
        _refuse("named by no cell", set(names) - used)
        own = {file.name: file for file in self.files}
        pairs = [(cell, own[name]) for cell in self.cells for name in cell.weights]
        _refuse("not of the cell's row and column", {file.name for cell, file in pairs if not cell.starts_from(file)})
        return self


def _refuse(why: str, names: Collection[str]) -> None:
    if names:
        raise ValueError(f"{', '.join(sorted(names))}: {why}")


@cache
def published(path: Path = LIST) -> Published:
    """Read the list. Raises ValueError, naming the file and the entry, if there is anything wrong with it."""
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return TypeAdapter(Published).validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {error}") from error


def find_published(sha256: str, md5: str | None = None) -> PublishedFile | None:
    """The published file of these digests (hexadecimal), or None.

    A few files are known by the first digits of their MD5 alone: without md5 they are not found.
    """
    return next((file for file in published().files if file.is_file(sha256, md5)), None)
