"""Which part of a file holds the trunk: the one that fits the model, whatever it is called."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from backbones.errors import InputError
from backbones.registry import create_backbone
from backbones.weights import prefixes
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.conversion import Weights
from backbones.weights.loading import load_weights
from backbones.weights.methods import ANY_NAMING, Method
from backbones.weights.prefixes import describe_beside, find_trunk, known_parts, looks_of
from backbones.weights.recognition import Recognised
from tests.support.checkpoint_examples import (
    State,
    assert_same_features,
    prefixed,
    randomised,
    save,
    shrink_vit_huge,
    small_vit,
    vit_mini,
)

VIT = "vit_mini_patch8_48"


def vit(seed: int = 0) -> nn.Module:
    return randomised(vit_mini(), seed)


def head(name: str = "head", width: int = 128) -> State:
    return {f"{name}.0.weight": torch.randn(8, width), f"{name}.0.bias": torch.zeros(8)}


def load(path: Path | str, backbone: str = VIT) -> nn.Module:
    return create_backbone(backbone, path).eval()


SOURCE = vit()

SINGLE: dict[str, dict[str, object]] = {
    "lightning, model": {"state_dict": prefixed(SOURCE.state_dict(), "model.") | head("projector"), "epoch": 3},
    "lightning, net": {"state_dict": prefixed(SOURCE.state_dict(), "net.") | head("criterion.prototypes")},
    "lightly, backbone.0": {
        "state_dict": prefixed(SOURCE.state_dict(), "backbone.0.") | head("projection_head.layers")
    },
    "byol": {"state_dict": prefixed(SOURCE.state_dict(), "online_network.encoder.") | head("online_network.projector")},
    "simsiam": {"state_dict": prefixed(SOURCE.state_dict() | head("fc"), "module.encoder.") | head("module.predictor")},
    "a wrapper of one's own": {"weights": prefixed(SOURCE.state_dict(), "student_model.vit.") | head("anything.mlp")},
    "the trunk itself beside a projector": {"model": SOURCE.state_dict() | head("projector")},
    "torch.compile": {"state_dict": prefixed(SOURCE.state_dict(), "_orig_mod.encoder_net.")},
    "deepspeed": {"module": prefixed(SOURCE.state_dict(), "trunk."), "dp_world_size": 8, "optimizer": None},
    "hiera": {"model_state": SOURCE.state_dict()},
    "fsdp": {
        "model": {
            "_fsdp_wrapped_module." + name.replace("blocks.1.", "blocks.1._fsdp_wrapped_module._orig_mod."): tensor
            for name, tensor in SOURCE.state_dict().items()
        }
    },
    "activation checkpointing": {
        "model": {
            name.replace("blocks.2.", "blocks.2._checkpoint_wrapped_module."): tensor
            for name, tensor in SOURCE.state_dict().items()
        }
    },
    "a detector": {
        "model": prefixed(SOURCE.state_dict(), "backbone.net.")
        | head("backbone.simfp_2.4")
        | head("roi_heads.box_head")
    },
    "two entries deep": {"training": {"networks": {"ema": SOURCE.state_dict()}}, "step": 4},
    "loose tensors beside": {"step": torch.tensor(4), "ema": prefixed(SOURCE.state_dict(), "net.")},
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_part_is_found_by_what_fits(tmp_path: Path, name: str) -> None:
    path = save(SINGLE[name], tmp_path)
    model = load(path)
    assert_same_features(model, SOURCE)
    report = model.load_report
    used = {key for keys in report.used.values() for key in keys}
    kept = next(tensors for tensors in read_checkpoint(path).containers.values() if used <= tensors.keys())
    assert used | report.dropped.keys() == kept.keys()
    assert not used & report.dropped.keys() and not report.initialised and not report.converted


def test_what_lies_beside_is_called_what_it_is(tmp_path: Path) -> None:
    beside = {"projection_head": "the projector", "prediction_head": "the predictor", "queue": "the queue of negatives"}
    content = prefixed(SOURCE.state_dict(), "my.net.") | {f"my.{name}.weight": torch.ones(1) for name in beside}
    model = load(save(content | {"my.odd.weight": torch.ones(1)}, tmp_path))
    assert model.load_report.dropped == {
        **{f"my.{name}.weight": f"beside the trunk: {what}" for name, what in beside.items()},
        "my.odd.weight": "beside the trunk: odd",
    }
    assert model.load_report.part == "my.net"
    assert model.load_report.summary().endswith("0 converted; of my.net")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("module.momentum_encoder.blocks.0.norm1.weight", "the momentum encoder"),
        ("module.encoder_k.conv1.weight", "the momentum encoder"),
        ("teacher_backbone.cls_token", "the teacher"),
        ("momentumEncoder.cls_token", "the momentum encoder"),
        ("fc.weight", "the head"),
        ("fc_norm.weight", None),
        ("norm_pre.weight", None),
        ("register_tokens", None),
    ],
)
def test_names_tell_what_they_belong_to_only_where_they_do(name: str, what: str | None) -> None:
    assert describe_beside(name, "module.base_encoder.") == what


def test_what_no_name_explains_is_still_an_error(tmp_path: Path) -> None:
    """A file of another architecture must not load for its names' sake."""
    content = prefixed(SOURCE.state_dict() | {"register_tokens": torch.zeros(1, 4, 128)}, "encoder_net.")
    with pytest.raises(InputError, match=r"have no place in the model: .*register_tokens"):
        load(save(content, tmp_path))


def twins(one: State, other: State) -> dict[str, dict[str, object]]:
    return {
        "timm": {"state_dict": one, "state_dict_ema": other},
        "DeiT": {"model": one | {"head.weight": torch.ones(9, 128)}, "model_ema": other},
        "in one entry": {"state_dict": prefixed(one, "student.") | prefixed(other, "teacher.")},
        "lightly": {"state_dict": prefixed(one, "backbone.") | prefixed(other, "backbone_momentum.")},
        "BYOL": {"online_network": one, "target_network": other},
        "outside and inside": {"model": one | prefixed(other, "ema.")},
        "without an entry": one | prefixed(other, "ema."),
    }


@pytest.mark.parametrize("layout", twins({}, {}))
def test_several_that_fit_are_an_error_that_says_how_to_choose(tmp_path: Path, layout: str) -> None:
    one, other = vit(), vit(7)
    path = save(twins(one.state_dict(), other.state_dict())[layout], tmp_path)
    with pytest.raises(InputError, match="2 of its parts fit the model, with different numbers; nothing") as caught:
        load(path)
    lines = str(caught.value).splitlines()
    parts = [line.split(":")[0].strip() for line in lines[1:-1]]
    assert lines[1].endswith("54 tensors, 822,912 numbers")
    assert lines[-1] == f"Say which is meant: {path}::{parts[0]}"
    assert_same_features(load(f"{path}::{parts[0]}"), one)
    assert_same_features(load(f"{path}::{parts[1]}"), other)


@pytest.mark.parametrize("layout", twins({}, {}))
def test_identical_twins_count_as_one(tmp_path: Path, layout: str) -> None:
    path = save(twins(SOURCE.state_dict(), SOURCE.state_dict())[layout], tmp_path)
    model = load(path)
    assert_same_features(model, SOURCE)
    assert model.load_report.why.startswith("the same numbers as ")


def test_of_three_two_may_be_the_same(tmp_path: Path) -> None:
    one, other = vit().state_dict(), vit(7).state_dict()
    with pytest.raises(InputError, match=r"(?m)^  model: 54 .*; the same as best$[^:]*^  ema: 54 tensors"):
        load(save({"model": one, "ema": other, "best": one}, tmp_path))


DINO = {"head.mlp.0.weight": torch.randn(8, 128), "head.last_layer.weight_g": torch.ones(8, 1)}


def known(used: State, other: State) -> dict[str, dict[str, object]]:
    """Files of which the released code says what is used downstream."""
    return {
        "teacher": {
            "student": prefixed(other | DINO, "module.backbone."),
            "teacher": prefixed(used, "backbone.") | DINO,
        },
        "target encoder": {
            "encoder": prefixed(other, "module."),
            "predictor": {"module.mask_token": torch.ones(1)},
            "target_encoder": prefixed(used, "module."),
        },
        "base encoder": {
            "state_dict": prefixed(used, "module.base_encoder.") | prefixed(other, "module.momentum_encoder.")
        },
        "query encoder": {
            "state_dict": prefixed(used | {"fc.weight": torch.ones(9, 128)}, "module.encoder_q.")
            | prefixed(other, "module.encoder_k.")
            | {"module.queue": torch.ones(8, 9)}
        },
        "backbone": {"meta": {}, "state_dict": prefixed(used, "backbone.") | prefixed(other, "momentum_encoder.")},
    }


@pytest.mark.parametrize("which", known({}, {}))
def test_what_released_code_takes_is_taken_and_said(tmp_path: Path, which: str) -> None:
    model = load(save(known(SOURCE.state_dict(), vit(7).state_dict())[which], tmp_path))
    assert_same_features(model, SOURCE)
    assert model.load_report.why.startswith(f"the {which}, which")
    assert ", and not " in model.load_report.summary()


def test_a_student_is_to_be_had(tmp_path: Path) -> None:
    student = vit(7)
    path = save(known(SOURCE.state_dict(), student.state_dict())["teacher"], tmp_path)
    for part in ("student", "student.module.", "student.module.backbone"):
        assert_same_features(load(f"{path}::{part}"), student)


def test_a_methods_own_name_decides_where_the_file_has_no_sign(tmp_path: Path) -> None:
    path = save({"student": vit(7).state_dict(), "teacher": SOURCE.state_dict()}, tmp_path)
    with pytest.raises(InputError, match=r"(?m)^  teacher: .*\n  student: "):
        load(path)
    model = vit_mini().eval()
    report = load_weights(model, read_checkpoint(path), Method("iBOT", "IN1K", ANY_NAMING))
    assert_same_features(model, SOURCE)
    assert report.why.endswith(", and not student")


def test_which_network_of_ibots_imagenet_22k_is_asked(tmp_path: Path) -> None:
    """Its authors release the student there, not the teacher."""
    student = vit(7)
    path = save(known(SOURCE.state_dict(), student.state_dict())["teacher"], tmp_path)
    method = Method("iBOT", "IN22K", ANY_NAMING)
    with pytest.raises(InputError, match=r"2 of its parts fit the model"):
        load_weights(vit_mini(), read_checkpoint(path), method)
    model = vit_mini().eval()
    load_weights(model, read_checkpoint(f"{path}::student"), method)
    assert_same_features(model, student)


def test_data2vecs_own_checkpoint_gives_its_model(tmp_path: Path) -> None:
    path = save({"model": SOURCE.state_dict(), "model_ema": vit(7).state_dict()}, tmp_path)
    model = vit_mini().eval()
    report = load_weights(model, read_checkpoint(path), Method("data2vec", "IN1K", ANY_NAMING))
    assert_same_features(model, SOURCE)
    assert report.why.endswith(", and not model_ema")
    with pytest.raises(InputError, match="2 of its parts fit the model"):
        load_weights(vit_mini(), read_checkpoint(path), Method("DeiT", "IN1K", ANY_NAMING))


def test_filters_of_a_pyramid_under_any_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ViT-H's of 16 pixels, for a model of 14."""
    shrink_vit_huge(monkeypatch)
    source = small_vit(16, 4)
    path = save({"weights": prefixed(source.state_dict(), "odd.trunk.") | {"x.y": torch.ones(1)}}, tmp_path)
    model = create_backbone("mae_vit_huge", path, for_pyramid=True)
    assert torch.equal(model.patch_embed.proj.weight, source.patch_embed.proj.weight)
    assert model.load_report.part == "weights.odd.trunk"


def test_moco_of_before_transformers_gives_its_query_encoder(tmp_path: Path) -> None:
    source, momentum = (randomised(timm.create_model("resnet10t"), seed) for seed in (0, 7))
    state = prefixed(source.state_dict(), "module.encoder_q.") | prefixed(momentum.state_dict(), "module.encoder_k.")
    model = load(save({"state_dict": state, "arch": "resnet10t"}, tmp_path), "resnet10t")
    assert torch.equal(model.layer4[0].conv2.weight, source.layer4[0].conv2.weight)
    assert model.load_report.dropped["module.encoder_q.fc.weight"] == "the head of the task that it was trained for"


def test_mocos_small_vit_is_no_other_by_its_part(tmp_path: Path) -> None:
    source = timm.create_model("vit_small_patch16_224", num_heads=12, num_classes=0)
    path = save({"state_dict": prefixed(source.state_dict(), "module.base_encoder.")}, tmp_path)
    with pytest.raises(InputError, match="12 attention heads, this model 6"):
        load(f"{path}::state_dict.module.base_encoder", "vit_small_patch16_224")


@pytest.mark.parametrize("part", ["teacher", "state_dict.teacher", "state_dict", "blocks.x", "state_dict_ema"])
def test_a_part_that_is_not_there(tmp_path: Path, part: str) -> None:
    path = save({"ema": prefixed(SOURCE.state_dict(), "net.")}, tmp_path)
    with pytest.raises(InputError, match=rf"has no part '{part}'.*there are ema, ema\.net\. `backbench inspect"):
        read_checkpoint(f"{path}::{part}")


def test_a_part_of_two_entries_has_to_be_said_whole(tmp_path: Path) -> None:
    path = save({"a": prefixed(SOURCE.state_dict(), "net."), "b": prefixed(SOURCE.state_dict(), "net.")}, tmp_path)
    with pytest.raises(InputError, match=r"several of its parts are called 'net'.*::a\.net, .*::b\.net"):
        read_checkpoint(f"{path}::net")
    assert_same_features(load(f"{path}::b.net"), SOURCE)


def test_what_thop_counted_is_left_out(tmp_path: Path) -> None:
    counted = {"total_ops": torch.zeros(1), "blocks.0.total_params": torch.zeros(1)}
    model = load(save(SOURCE.state_dict() | counted, tmp_path))
    assert_same_features(model, SOURCE)
    assert {*model.load_report.dropped} == {*counted}


def test_an_empty_part_is_none(tmp_path: Path) -> None:
    path = save({"ema": SOURCE.state_dict()}, tmp_path)
    with pytest.raises(InputError, match=r"no part after ::\. Name one"):
        read_checkpoint(f"{path}::")


def test_two_colons_in_a_files_name(tmp_path: Path) -> None:
    path = save({"ema": SOURCE.state_dict()}, tmp_path, "odd::name.pth")
    assert_same_features(load(path), SOURCE)
    assert read_checkpoint(f"{path}::ema").part == "ema"
    save({"x": SOURCE.state_dict()}, tmp_path, "odd::name.pth::ema")
    assert read_checkpoint(f"{path}::ema").part == ""


def test_an_optimizers_numbers_are_no_part(tmp_path: Path) -> None:
    moments = {0: vit(7).state_dict()}
    optimizers = {"optimizer": {"state": moments}, "optimizer_states": {"exp_avg": vit(7).state_dict()}}
    path = save({"model": SOURCE.state_dict()} | optimizers, tmp_path)
    assert [*read_checkpoint(path).containers] == ["model"]
    assert load(path).load_report.why == ""


def test_parts_are_known_without_a_model(tmp_path: Path) -> None:
    content = known(SOURCE.state_dict(), vit(7).state_dict())
    parts = {
        name: [part.part for part, _ in known_parts(read_checkpoint(save(each, tmp_path, f"{name}.pth")))]
        for name, each in content.items()
    }
    assert parts == {
        "teacher": ["student.module.backbone", "teacher.backbone"],
        "target encoder": ["encoder.module", "target_encoder.module"],
        "base encoder": ["state_dict.module.base_encoder", "state_dict.module.momentum_encoder"],
        "query encoder": ["state_dict.module.encoder_q", "state_dict.module.encoder_k"],
        "backbone": ["state_dict.backbone", "state_dict.momentum_encoder"],
    }


def test_an_odd_part_is_recognised_and_keeps_its_files_method(tmp_path: Path) -> None:
    odd = read_checkpoint(save({"x": prefixed(SOURCE.state_dict(), "student_model.vit.")}, tmp_path))
    assert looks_of(odd).timm_name == VIT
    dino = save(known(SOURCE.state_dict(), vit(7).state_dict())["teacher"], tmp_path)
    assert looks_of(read_checkpoint(f"{dino}::teacher.backbone")).method == "DINO"


def test_a_part_that_does_not_fit_costs_no_look_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = vit().state_dict()
    checkpoint = read_checkpoint(save({"model": prefixed(state, "net."), "twin": vit(1).state_dict()}, tmp_path))
    looked: list[int] = []
    monkeypatch.setattr(prefixes, "recognise", lambda *_: looked.append(1) or Recognised())
    with pytest.raises(InputError) as refused:
        load_weights(vit_mini(depth=3), checkpoint, Method("custom", "unstated", ANY_NAMING))
    assert not looked
    assert "The file looks like: no architecture known here." in str(refused.value) and looked


def test_parts_of_too_few_tensors_are_not_tried_unless_another_reads_them() -> None:
    tensors = prefixed(vit().state_dict(), "net.")
    checkpoint = Checkpoint(Path("weights.pth"), "", 1, "torch", "", tensors, {}, {"": tensors})
    tried: list[str] = []

    def attempt(part: Checkpoint) -> Weights:
        tried.append(part.prefix)
        raise InputError("")

    for fewest in (13, 0):
        tried.clear()
        with pytest.raises(InputError):
            find_trunk(nn.Linear(2, 2), checkpoint, "custom", "unstated", attempt, fewest)
        assert ("net.blocks.0." in tried) is not bool(fewest)
        assert {"", "net.", "net.blocks."} <= {*tried}


def test_the_md5_of_a_file_is_made_once_for_all_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read_checkpoint(save({"model": vit().state_dict(), "twin": vit(1).state_dict()}, tmp_path))
    assert checkpoint.md5 == checkpoint.take_part("twin").md5
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("read again"))
    assert len(checkpoint.take_part("model").md5) == 32
    assert not checkpoint.fills_file and not checkpoint.take_part("twin").fills_file
