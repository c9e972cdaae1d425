"""The one door for backbones: by a registered name, any timm model name, or `package.module:function`."""

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import timm
from torch import nn

from backbones.contract import require_backbone, require_builder, require_trainable
from backbones.entries import BackboneEntry, Build, published_entries, timm_build
from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.plugins import (
    describe_error,
    import_function,
    load_plugins,
    note_registration,
    require_callable,
    require_words,
)
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import ANY_NAMING, METHODS, Method, same_name, spell_method
from backbones.weights.readers import Reader, step_of
from backbones.weights.statements import Statement, statement_of_tag

_ANY_SIZE = 224

_entries: dict[str, BackboneEntry] = {entry.name: entry for entry in published_entries()}


def register_method(
    name: str,
    *,
    pretrain_data: str = "unstated",
    convert: Reader | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Method:
    """Make a method known by its name: to `register_backbone`, to `--method` and to files that state it.

    pretrain_data is what its weights were trained on, as the tables print it. convert reads the files of the backbones
    that are registered under it: a function from the file's state_dict to the model's names; what it leaves out is
    dropped, and everything else has to fit. Without it, files are read by any naming known here. mean and std are those
    of its pixels, of red, green and blue between 0 and 1; ImageNet's where they are left out.

    Raises InputError if the name is taken or cannot be printed, or mean and std cannot be meant.
    """
    require_words(f"method {name}", name=name, pretrain_data=pretrain_data)
    require_callable(f"method {name}", convert=convert)
    if taken := next((known for known in METHODS if same_name(known, name)), None):
        raise InputError(f"method {name}: the name is taken, by {taken}. Register it under another.")
    steps = ANY_NAMING if convert is None else (step_of(convert, name),)
    METHODS[name] = Method(name, pretrain_data, steps, _normalisation(f"method {name}", mean, std))
    note_registration(name)
    return METHODS[name]


def register_backbone(
    name: str,
    *,
    method: str | Method,
    model: str,
    pretrain_data: str | None = None,
    arch: str | None = None,
    needs_checkpoint: bool = True,
    convert: Reader | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> Callable[[Build], Build]:
    """Register, as a decorator, a function (image_size, drop_path) -> nn.Module as the backbone of that name.

    method is the name of one that is known (`backbench list methods`, `register_method`) or a new one, whose files are
    then read by any naming known here; or a Method of your own. pretrain_data defaults to the method's. With
    needs_checkpoint=False the function brings the weights. convert reads its files instead of the method's reading: a
    function from the file's state_dict to the model's names. mean and std are those of its pixels, of red, green and
    blue between 0 and 1; by default the method's, ImageNet's where that is not known here. settings are those of a
    task's recipe that the model cannot do without, by task and key: {"classification": {"model.pool": "token"}}. They
    come before `--set`, and records and tables show them as deviations.

    Raises InputError if the name is taken, by another backbone or by timm, or mean and std cannot be meant.
    """
    named = {"method": method.name if isinstance(method, Method) else method, "model": model}
    named |= {} if pretrain_data is None else {"pretrain_data": pretrain_data}
    require_words(f"backbone {name}", name=name, **named)
    require_callable(f"backbone {name}", convert=convert)
    if name in _entries or timm.is_model(name):
        raise InputError(f"backbone {name}: the name is taken. Register it under another.")
    if ":" in name or "=" in name:
        raise InputError(f"backbone {name!r}: expected a name without : and =, as --backbone is to take it.")
    if isinstance(method, str):
        method = METHODS.get(spell_method(method), Method(method, "unstated", ANY_NAMING))
    method_name = method.name
    data = method.pretrain_data if pretrain_data is None else pretrain_data
    steps = method.steps if convert is None else (step_of(convert, name),)
    pixels = _normalisation(f"backbone {name}", mean, std) or (None if method_name in METHODS else method.normalisation)
    own = _own_settings(name, settings)

    def register(build: Build) -> Build:
        by = note_registration(name)
        _entries[name] = BackboneEntry(
            name, method_name, data, model, arch or name, build, steps, needs_checkpoint, pixels, own, by
        )
        return build

    return register


def _own_settings(name: str, settings: object) -> dict[str, dict[str, object]]:
    match settings:
        case None:
            return {}
        case Mapping() if all(isinstance(changes, Mapping) for changes in settings.values()):
            return {task: dict(changes) for task, changes in settings.items()}
    raise InputError(
        f"backbone {name}: settings={settings!r}: expected those of each task by its name, as "
        '{"classification": {"model.pool": "token"}}.'
    )


def _normalisation(what: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation | None:
    try:
        return Normalisation.of(mean, std)
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{what}: {error}") from None


def list_backbones() -> list[BackboneEntry]:
    """Return the registered backbones, plug-ins included, in order of registration.

    Warns of each plug-in that cannot be loaded. Every timm model name is a backbone as well; `timm.list_models()`
    lists those.
    """
    for failure in load_plugins():
        warnings.warn(failure, stacklevel=2)
    return list(_entries.values())


def find_backbone(name: str, with_checkpoint: bool = False) -> BackboneEntry:
    """Return what is known of a backbone. A timm model is "random", or "custom" with a checkpoint.

    Raises InputError for an unknown name, with the nearest known ones and the plug-ins that could not be loaded.
    """
    if name in _entries:
        return _entries[name]
    if ":" in name:
        return _foreign_entry(name)
    if timm.is_model(name):
        return _timm_entry(name, with_checkpoint)
    failures = load_plugins()
    if name in _entries:
        return _entries[name]
    if timm.is_model(name):
        return _timm_entry(name, with_checkpoint)
    raise InputError(_unknown(name, failures))


def settings_of(name: str) -> Mapping[str, Mapping[str, object]]:
    """By task, the settings that a backbone was registered with; none of one that is not registered."""
    if name not in _entries and ":" not in name:
        load_plugins()
    return _entries[name].settings if name in _entries else {}


def create_backbone(
    name: str,
    checkpoint: str | Path | Checkpoint | None = None,
    image_size: int | None = None,
    drop_path: float = 0.0,
    for_pyramid: bool = False,
    empty: bool = False,
) -> nn.Module:
    """Build a backbone and load its weights, strictly.

    name:       see `list_backbones`; any timm model name; or "package.module:function", where the function takes
                (image_size, drop_path) and returns a module as `backbones.contract` has it
    checkpoint: the file or folder with its weights, "FILE::PART" for a part of it, or one already read
    image_size: side in pixels, for models that are built for one; position embeddings are interpolated to it
    drop_path:  rate in [0, 1)
    for_pyramid: whether `build_pyramid` follows: files whose patch filters have the size that it would bring them to,
                such as 16 pixels for ViT-H/14, are then taken as well
    empty:      build it without the weights that it needs: those of a whole network follow, trunk and head

    Returns the model in training mode, without a classifier. Its `load_report` says what became of every weight
    (LoadReport), or is None if there was no checkpoint. Raises InputError for whatever does not fit. What the
    features of another author's module are, the tasks find out, and say what to mend.
    """
    entry = find_backbone(name, with_checkpoint=checkpoint is not None)
    if not empty:
        require_checkpoint(entry, checkpoint is not None)
    model = build_backbone(entry, image_size, drop_path)
    require_trainable(model, name)
    report = None
    if checkpoint is not None:
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = read_checkpoint(checkpoint)
        report = load_weights(model, checkpoint, Method(entry.method, entry.pretrain_data, entry.steps), for_pyramid)
    model.load_report = report  # type: ignore[assignment]
    return model


def require_checkpoint(entry: BackboneEntry, given: bool) -> None:
    """Raise InputError if a backbone needs a checkpoint and none is given, or the reverse."""
    name = entry.name
    if not given and entry.needs_checkpoint:
        raise InputError(f"{name} needs its checkpoint: --backbone {name}=FILE")
    if given and entry.needs_checkpoint is False:
        raise InputError(
            f"{name} takes no checkpoint: its weights are {entry.method}. "
            f"Use the name of the method that made the file, or timm's: --backbone {entry.arch}=FILE"
        )


def build_backbone(entry: BackboneEntry, image_size: int | None, drop_path: float) -> nn.Module:
    """Build what an entry describes, without loading anything. Raises InputError if its author's function fails."""
    require_builder(entry.build, entry.name)
    try:
        model = entry.build(image_size, drop_path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the function may be another author's
        hint = _hint_of_size(entry, drop_path) if image_size is None else ""
        raise InputError(f"backbone {entry.name}: building it failed with {describe_error(error)}{hint}") from error
    return require_backbone(model, entry.name)


def _hint_of_size(entry: BackboneEntry, drop_path: float) -> str:
    """What to do about a function that fails without an image size, if it is for want of one."""
    try:
        entry.build(_ANY_SIZE, drop_path)
    except (Exception, SystemExit):  # as above
        return ""
    return (
        ". The image_size that it was given is None, as in detection and segmentation: let it have a size of its own "
        f"for that, such as image_size or {_ANY_SIZE}"
    )


def _timm_entry(name: str, with_checkpoint: bool) -> BackboneEntry:
    """Describe a timm model; a tag says whose weights they are: those of `vit_base_patch16_224.dino` are DINO's."""
    arch, _, tag = name.partition(".")
    method = METHODS["custom" if with_checkpoint else "random"]
    said = statement_of_tag(arch, tag) if with_checkpoint and tag else Statement()
    return BackboneEntry(
        name,
        said.method or method.name,
        said.pretrain_data or method.pretrain_data,
        _columns().get(arch, name),
        name,
        timm_build(name),
        method.steps,
        None,
    )


def _columns() -> dict[str, str]:
    """The table's column of each timm architecture that a registered backbone has; any other is its own column."""
    return {entry.arch: entry.model for entry in _entries.values()}


def _foreign_entry(name: str) -> BackboneEntry:
    """Describe `package.module:function`, whose weights may come with it."""
    method = METHODS["custom"]
    build = import_function(name)
    return BackboneEntry(name, method.name, method.pretrain_data, name, name, build, method.steps, None)


def _unknown(name: str, failures: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name, [*_entries, *timm.list_models()], n=4, cutoff=0.5)
    lines = [
        f"backbone {name}: no such name."
        + (f" Did you mean {', '.join(nearest)}?" if nearest else "")
        + " `backbench list backbones` lists them; every timm model name and package.module:function work too, "
        "and names that a file of your own registers, with --plugin FILE.",
        *failures,
    ]
    return "\n".join(lines)
