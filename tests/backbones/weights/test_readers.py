"""A reader of another author's: what it gives is loaded, what it leaves out is dropped, and all has to fit."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import (
    InputError,
    create_backbone,
    find_backbone,
    normalisation_of,
    register_backbone,
    register_method,
    registry,
)
from backbones.images.normalisation import HALF
from backbones.weights import methods
from backbones.weights.methods import METHODS
from tests.support.checkpoint_examples import check_account, save, vit_mini

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registrations of one test stay in it."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    before = dict(methods.METHODS)
    yield
    methods.METHODS.clear()
    methods.METHODS.update(before)


def build(image_size: int | None, drop_path: float) -> nn.Module:
    return vit_mini()


def odd(state: State) -> State:
    """Names of one's own, query, key and value apart, and a projector beside it."""
    named = {}
    for name, tensor in state.items():
        if name.endswith("attn.qkv.weight"):
            parts = tensor.chunk(3)
            named |= {f"net/{name[:-10]}{part}": rows for part, rows in zip("qkv", parts, strict=True)}
        else:
            named[f"net/{name}"] = tensor
    return {name: tensor.clone() for name, tensor in named.items()} | {"projector.weight": torch.ones(2, 2)}


def convert(state: State) -> State:
    own = {name.removeprefix("net/"): tensor for name, tensor in state.items() if name.startswith("net/")}
    for block in range(4):
        parts = [own.pop(f"blocks.{block}.attn.{part}") for part in "qkv"]
        own[f"blocks.{block}.attn.qkv.weight"] = torch.cat(parts)
    return own


def test_a_reader_is_held_to_the_same_account(tmp_path: Path) -> None:
    register_backbone("mine_vit", method="Mine", model="ViT-mini", convert=convert)(build)
    source = vit_mini().state_dict()
    model = create_backbone("mine_vit", save({"model": odd(source)}, tmp_path))
    assert all(torch.equal(tensor, source[name]) for name, tensor in model.state_dict().items())
    report: Any = model.load_report
    assert report.used["cls_token"] == ("net/cls_token",) and "cls_token" not in report.converted
    assert report.converted["blocks.0.attn.qkv.weight"] == "by mine_vit's reader"
    assert report.dropped["projector.weight"] == "left out by mine_vit's reader, or part of what it computed"


def test_without_anything_computed_what_is_left_out_is_surely_left_out(tmp_path: Path) -> None:
    def strip(state: State) -> State:
        return {name[4:]: tensor for name, tensor in state.items() if name.startswith("net/")}

    register_backbone("mine_vit", method="Mine", model="ViT-mini", convert=strip)(build)
    path = save({f"net/{n}": t for n, t in vit_mini().state_dict().items()} | {"head.weight": torch.ones(2)}, tmp_path)
    model = create_backbone("mine_vit", path)
    assert model.load_report.dropped == {"head.weight": "left out by mine_vit's reader"}
    check_account(model.load_report, path, model)


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        (lambda state: {}, "tensors are not in the file"),
        (lambda state: state | {"surplus": torch.ones(1)}, "have no place in the model: surplus"),
        (lambda state: state["absent"], "mine_vit's reader failed with KeyError: 'absent'"),
        (lambda state: sys.exit("usage"), "mine_vit's reader failed with SystemExit: usage"),
        (lambda state: None, "mine_vit's reader gave NoneType, expected a dict of tensors"),
        (lambda state: {"a": [1]}, "mine_vit's reader gave list under 'a', expected tensors"),
        (lambda state: {1: torch.ones(1)}, "mine_vit's reader gave Tensor under 1, expected tensors"),
    ],
)
def test_a_reader_that_does_not_serve(reader: Callable[[State], Any], told: str, tmp_path: Path) -> None:
    register_backbone("mine_vit", method="Mine", model="ViT-mini", convert=reader)(build)
    with pytest.raises(InputError, match=told):
        create_backbone("mine_vit", save(vit_mini().state_dict(), tmp_path))


def test_a_reader_may_change_tensors_in_place(tmp_path: Path) -> None:
    def doubled(state: State) -> State:
        state["cls_token"].mul_(2)
        return state

    register_backbone("mine_vit", method="Mine", model="ViT-mini", convert=doubled)(build)
    source = vit_mini().state_dict()
    path = save({"model": source}, tmp_path)
    for for_pyramid in (False, True):
        model = create_backbone("mine_vit", path, for_pyramid=for_pyramid)
        assert torch.equal(model.state_dict()["cls_token"], 2 * source["cls_token"])


def test_a_reader_that_looks_at_numbers_does_not_hide_a_second_network(tmp_path: Path) -> None:
    def scaled(state: State) -> State:
        return {
            key: 2 * tensor if key == "cls_token" and tensor.mean().item() < 9 else tensor
            for key, tensor in state.items()
        }

    register_backbone("mine_vit", method="Mine", model="ViT-mini", convert=scaled)(build)
    one, other = vit_mini().state_dict(), {key: tensor + 1 for key, tensor in vit_mini().state_dict().items()}
    path = save({"model": one, "model_ema": other}, tmp_path)
    with pytest.raises(InputError, match="2 of its parts fit the model"):
        create_backbone("mine_vit", path)
    model = create_backbone("mine_vit", f"{path}::model_ema")
    assert torch.equal(model.state_dict()["cls_token"], 2 * other["cls_token"])


def test_a_method_of_ones_own(tmp_path: Path) -> None:
    register_method("Mine", pretrain_data="photos", convert=convert, mean=[0.5] * 3, std=[0.5] * 3)
    register_backbone("mine_vit", method="mine", model="ViT-mini")(build)
    entry = find_backbone("mine_vit")
    assert (entry.method, entry.pretrain_data, normalisation_of(entry)) == ("Mine", "photos", HALF)
    report = create_backbone("mine_vit", save(odd(vit_mini().state_dict()), tmp_path)).load_report
    assert report.converted["blocks.0.attn.qkv.weight"] == "by Mine's reader"
    assert "Mine" in METHODS


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "mae"}, "method mae: the name is taken, by MAE"),
        ({"name": " "}, "method  : name=' ': expected a name"),
        ({"name": "Mine", "mean": (0.5, 0.5, 0.5)}, "method Mine: mean and std belong together"),
        ({"name": "Mine", "mean": 0.5, "std": 0.5}, "method Mine: "),
    ],
)
def test_a_method_that_cannot_be_registered(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        register_method(**options)
