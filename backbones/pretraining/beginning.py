"""Beginning a pre-training with the weights of an existing autoencoder, or of an encoder alone."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from mmengine.dist import is_main_process
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.mae.model import MaskedAutoencoder
from backbones.pretraining.settings import MaskedAutoencoderSettings
from backbones.pretraining.steps import build_autoencoder
from backbones.training.checkpointing import last_update
from backbones.training.writing import written_whole
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.code_bases.huggingface import name_decoder
from backbones.weights.contradictions import label_data
from backbones.weights.conversion import Weights
from backbones.weights.loading import LoadReport, load_weights, match_weights
from backbones.weights.methods import METHODS, Method, same_name
from backbones.weights.naming import drop_masking
from backbones.weights.origin import find_known
from backbones.weights.prefixes import looks_of
from backbones.weights.statements import read_statement

_Result = TypeVar("_Result")

BEGINNING = "beginning.json"
"""What lies in the directory of a run that began with a file: what its first start took of it."""

_REPORT = TypeAdapter(LoadReport)
_DECODER = r"decoder_|mask_token$"
_DECODERS_BLOCK = r"decoder_(?:blocks|layers|encoder\.layer)\.(\d+)\."


def begin_with(network: nn.Module, checkpoint: Checkpoint) -> LoadReport:
    """Load a file into a masked autoencoder, strictly, and report what landed where.

    Names are those of MAE's released files with a decoder (`mae_visualize_vit_*.pth`, `mae_pretrain_vit_*_full.pth`),
    which backbench's own `autoencoder.pth` shares, or those of transformers' ViTMAEForPreTraining. With a file of an
    encoder alone the decoder begins anew.
    Raises InputError as `load_weights` does, for a file with a part of a decoder, and for another network.
    """
    assert isinstance(network, MaskedAutoencoder)
    return _read_into(network, checkpoint, load_weights)


def require_beginning(settings: MaskedAutoencoderSettings, checkpoint: Checkpoint) -> None:
    """Raise InputError, as `begin_with` does, if a file's names and shapes are not those of the autoencoder to be.

    That is built on the meta device, without memory for its weights.
    """
    with torch.device("meta"):
        network = build_autoencoder(settings)
    _read_into(network, checkpoint, match_weights)


def _read_into(
    network: MaskedAutoencoder, checkpoint: Checkpoint, read: Callable[[nn.Module, Checkpoint, Method], _Result]
) -> _Result:
    method = METHODS["MAE"]
    steps = (name_decoder, *(step for step in method.steps if step is not drop_masking), _keep_fixed_positions)
    if not any("decoder_embed." in name for name in checkpoint.state_dict):
        steps = (*steps, _let_decoder_be_new)
    try:
        return read(network, checkpoint, Method(method.name, method.pretrain_data, steps))
    except InputError as error:
        if advice := _other_decoder(network.state_dict(), checkpoint.state_dict):
            raise InputError(f"--from {checkpoint.name}: {advice}") from error
        raise


def as_begun(report: LoadReport, directory: Path) -> LoadReport | None:
    """What the run in `directory` began with: `report`, which is kept there, until it has a checkpoint; then what was.

    Another version may take more or less of a file. None if a run that goes on has kept nothing that can be read.
    """
    file = directory / BEGINNING
    if last_update(directory):
        try:
            return _REPORT.validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return None
    if is_main_process():
        with written_whole(file) as writing:
            writing.write(_REPORT.dump_json(report, indent=2))
    return report


def _other_decoder(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """What to do where a file's decoder is not this model's; "" where that is not what is wrong."""
    name = next((name for name in tensors if name.endswith("decoder_embed.weight")), "")
    prefix = name.removesuffix("decoder_embed.weight")
    theirs = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if not name or "mask_token" not in theirs or tensors[name].shape[1] != own["decoder_embed.weight"].shape[1]:
        return ""
    settings = [
        f"model.{key}={value}" for key, value in _decoder(theirs).items() if value != _decoder(own).get(key, value)
    ]
    if not settings:
        return ""
    as_the_file = f"Set {', '.join(settings)} as the file has it"
    return f"its decoder is not this model's. {as_the_file}, or begin with an encoder alone"


def _decoder(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """The settings of `MaskedAutoencoderSettings` that an autoencoder's tensors tell of."""
    width, encoder = tensors["decoder_embed.weight"].shape
    blocks = {found[1] for name in tensors if (found := re.match(_DECODERS_BLOCK, name))}
    token = tensors["mask_token"].shape[-1]
    told: dict[str, object] = {"decoder_depth": len(blocks), "decoder_width": width}
    return told | ({"mask_tokens_in_encoder": str(token == encoder).lower()} if width != encoder else {})


def data_with_beginning(
    checkpoint: Checkpoint, data: str, spell: Callable[[str], str] = str
) -> tuple[str, tuple[str, ...]]:
    """What an encoder was trained on that began with a file and goes on with `data`; what is to be remarked of that.

    "IN21K w/ labels, then IN1K"; `data` alone where an MAE of the same goes on. `spell` gives the tables' name of a
    data set.
    """
    statement, published, looks = read_statement(checkpoint), find_known(checkpoint), looks_of(checkpoint)
    method = statement.method or (published.method if published else None) or looks.likely_method
    said = statement.pretrain_data or (published.pretrain_data if published else None)
    said = said or label_data(method or "supervised", looks)
    before = spell(said) if said else "unstated"
    if method and same_name(method, "MAE"):
        return (data if same_name(before, data) else f"{before}, then {data}"), ()
    remarks = [f"what it began with is {f'by {method}' if method else 'of no stated method'}, not MAE's"]
    if looks.positions == "learned":
        remarks.append("the learned position embeddings that it began with stay as they are: autoencoders train none")
    return f"{before}, then {data}", tuple(remarks)


def _keep_fixed_positions(weights: Weights, model: nn.Module) -> None:
    """Keep the fixed positions of the model's own decoder if the file's are of another grid."""
    own, positions = model.state_dict(), weights.tensors.get("decoder_pos_embed")
    if positions is not None and positions.shape[1:2] != own["decoder_pos_embed"].shape[1:2]:
        weights.drop(["decoder_pos_embed"], "fixed positions of another grid")
        weights.initialised["decoder_pos_embed"] = "fixed positions of this model's grid"


def _let_decoder_be_new(weights: Weights, model: nn.Module) -> None:
    """Allow for a file without a decoder."""
    if not weights.names(_DECODER):
        reason = "the file has an encoder only; the decoder begins anew"
        names = (name for name in model.state_dict() if name.startswith(("decoder_", "mask_token")))
        weights.initialised.update(dict.fromkeys(names, reason))
