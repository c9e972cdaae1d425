"""The one door: names, timm models, functions of one's own, plug-ins, and what each refuses."""

import csv
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from backbones import registry
from backbones.errors import InputError
from backbones.plugins import load_plugins
from backbones.registry import create_backbone, find_backbone, list_backbones, register_backbone
from backbones.weights.methods import METHODS, Method


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registrations and plug-ins of one test stay in it."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


def weights_of(arch: str, folder: Path, **options: object) -> Path:
    torch.save(timm.create_model(arch, **options).state_dict(), folder / f"{arch}.pth")
    return folder / f"{arch}.pth"


def drop_path_rates(model: nn.Module) -> list[float]:
    return [round(m.drop_prob, 6) for m in model.modules() if type(m).__name__ == "DropPath"]


# What is registered


def test_registered_names_cover_the_papers_methods_and_models() -> None:
    with (files("results") / "reference" / "paper_tables.csv").open(encoding="utf-8") as file:
        published = {
            (row["method"], row["pretrain_data"], row["model"].removesuffix("-448"))
            for row in csv.DictReader(file)
            if row["method"] not in ("prev best", "scratch")  # which begin with no weights of a method's
        }
    registered = {(entry.method, entry.pretrain_data, entry.model) for entry in list_backbones()}
    assert len(published) == 10
    assert published - registered == {
        ("BEiT", "IN1K+DALLE", "ViT-L"),  # not released; those that are were pre-trained on IN22K
    }
    assert {("BEiT", "IN22K+DALLE", "ViT-B"), ("BEiT", "IN22K+DALLE", "ViT-L")} <= registered


def test_entries_describe_themselves() -> None:
    entry = find_backbone("mae_vit_huge")
    assert (entry.name, entry.method, entry.pretrain_data) == ("mae_vit_huge", "MAE", "IN1K")
    assert (entry.model, entry.arch) == ("ViT-H", "vit_huge_patch14_224")
    assert find_backbone("beit_vit_base").arch == "beit_base_patch16_224"
    assert find_backbone("random_vit_mini").model == "ViT-mini"
    assert find_backbone("vit_base_patch16_224.mae").model == find_backbone("mae_vit_base").model == "ViT-B"
    assert all(timm.is_model(entry.arch) and entry.method in METHODS for entry in list_backbones())


@pytest.mark.parametrize(
    "name, width, depth, heads, parameters",
    [
        ("random_vit_mini", 128, 4, 4, 822_912),
        ("random_vit_base", 768, 12, 12, 85_798_656),  # timm's ViT-B/16 without its head
        ("random_vit_large", 1024, 24, 16, 303_301_632),
        ("random_vit_huge", 1280, 32, 16, 630_764_800),
    ],
)
def test_sizes_are_the_protocols(name: str, width: int, depth: int, heads: int, parameters: int) -> None:
    with torch.device("meta"):
        model = create_backbone(name)
    assert (model.embed_dim, len(model.blocks), model.blocks[0].attn.num_heads) == (width, depth, heads)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.norm.eps == 1e-6
    assert isinstance(model.head, nn.Identity)


def test_beit_keeps_the_norm_of_its_pretraining() -> None:
    with torch.device("meta"):
        model = find_backbone("beit_vit_base").build(None, 0.0)
    assert isinstance(model.norm, nn.LayerNorm)
    assert isinstance(model.fc_norm, nn.Identity)


# Building


@pytest.mark.parametrize(
    "name, size, channels, strides",
    [
        ("resnet50", 64, [64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]),
        ("convnext_atto", 64, [40, 80, 160, 320], [4, 8, 16, 32]),
        ("swin_tiny_patch4_window7_224", 64, [96, 192, 384, 768], [4, 8, 16, 32]),
    ],
)
def test_hierarchical_models_by_timms_name(name: str, size: int, channels: list[int], strides: list[int]) -> None:
    model = create_backbone(name, image_size=size).eval()
    with torch.no_grad():
        maps = model.forward_intermediates(torch.randn(1, 3, size, size), intermediates_only=True)
        features = model(torch.randn(1, 3, size, size))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, size // s, size // s) for c, s in zip(channels, strides, strict=True)
    ]
    assert features.shape == (1, channels[-1])
    assert model.load_report is None
    entry = find_backbone(name)
    assert (entry.method, entry.model, entry.arch) == ("random", name, name)


def test_xcits_patches_have_one_side() -> None:
    """timm's `patch_embed.patch_size` is a number there, a pair elsewhere: it ended in a TypeError."""
    model = create_backbone("xcit_nano_12_p16_224", image_size=64).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 128)
    with pytest.raises(InputError, match="xcit_nano_12_p16_224 cannot be built at image size 70"):
        create_backbone("xcit_nano_12_p16_224", image_size=70)


def test_dense_features_of_a_loaded_vit(tmp_path: Path) -> None:
    model = create_backbone("mae_vit_mini", weights_of("vit_mini_patch8_48", tmp_path), image_size=64).eval()
    with torch.no_grad():
        maps = model.forward_intermediates(torch.randn(2, 3, 64, 64), indices=[1, 3], intermediates_only=True)
    assert [tuple(m.shape) for m in maps] == [(2, 128, 8, 8)] * 2
    assert isinstance(model.norm, nn.LayerNorm)
    assert model.load_report.converted == {"pos_embed": "6×6 → 8×8"}


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_a_timm_checkpoint_loads_by_timms_name(name: str, tmp_path: Path) -> None:
    source = timm.create_model(name)
    for parameter in source.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.save({"state_dict": source.state_dict(), "epoch": 1}, tmp_path / "weights.pth")
    model = create_backbone(name, tmp_path / "weights.pth")
    assert find_backbone(name, with_checkpoint=True).method == "custom"
    state = source.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert set(model.load_report.dropped.values()) == {"the head of the task that it was trained for"}
    assert model.load_report.used.keys() == model.state_dict().keys()


def test_original_convnext_names_go_through_timms_reader(tmp_path: Path) -> None:
    """facebookresearch/ConvNeXt: downsample_layers, stages.N.N.dwconv, pwconv, gamma, norm, head."""
    source = timm.create_model("convnext_atto")
    for parameter in source.parameters():
        nn.init.normal_(parameter, std=0.1)
    original = {}
    for name, tensor in source.state_dict().items():
        for timms, theirs in (
            ("stem.", "downsample_layers.0."),
            (".conv_dw.", ".dwconv."),
            (".mlp.fc1.", ".pwconv1."),
            (".mlp.fc2.", ".pwconv2."),
            (".blocks.", "."),
            ("head.norm.", "norm."),
            ("head.fc.", "head."),
        ):
            name = name.replace(timms, theirs)
        if ".downsample." in name:
            stage, rest = name.removeprefix("stages.").split(".downsample.")
            name = f"downsample_layers.{stage}.{rest}"
        original[name] = tensor
    torch.save({"model": original}, tmp_path / "weights.pth")
    model = create_backbone("convnext_atto", tmp_path / "weights.pth")
    state = source.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert model.load_report.used["head.norm.weight"] == ("norm.weight",)
    assert model.load_report.dropped.keys() == {"head.weight", "head.bias"}


def test_drop_path_replaces_the_architectures_own() -> None:
    assert drop_path_rates(create_backbone("random_vit_mini")) == []
    rates = drop_path_rates(create_backbone("random_vit_mini", drop_path=0.3))
    assert rates == [0.1] * 2 + [0.2] * 2 + [0.3] * 2  # two a block, rising linearly from 0 over 4 blocks
    assert drop_path_rates(create_backbone("swin_tiny_patch4_window7_224")) == []  # timm's default is 0.1


def test_no_drop_path_where_there_is_none() -> None:
    with torch.device("meta"):
        create_backbone("vgg11", drop_path=0.0)
        with pytest.raises(InputError, match="vgg11 has no drop path"):
            create_backbone("vgg11", drop_path=0.1)


# Refusals


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("mae_vit_base", {}, r"^mae_vit_base needs its checkpoint: --backbone mae_vit_base=FILE$"),
        ("supervised_vit_mini", {}, "supervised_vit_mini needs its checkpoint"),
        ("random_vit_mini", {"checkpoint": "a.pth"}, "takes no checkpoint.*--backbone vit_mini_patch8_48=FILE"),
        ("mae_vit_bsae", {}, "no such name. Did you mean mae_vit_base"),
        ("resnet5O", {}, "Did you mean resnet50"),
        (
            "random_vit_mini",
            {"image_size": 50},
            "50: not a multiple of vit_mini_patch8_48's patch size 8. Use 48 or",
        ),
        ("random_vit_mini", {"image_size": 0}, "expected a positive number"),
        ("random_vit_mini", {"drop_path": 1.0}, "expected a probability"),
        ("resnet18.no_such_tag", {}, "Invalid pretrained tag"),
    ],
)
def test_refusals(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_backbone(name, **arguments)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: asked.append(options) or nn.Identity())
    with pytest.raises(InputError, match="Identity lacks"):
        create_backbone("resnet18.a1_in1k")
    assert [options["pretrained"] for options in asked] == [False]


# Registration, functions of one's own, plug-ins


def build_mini(image_size: int | None, drop_path: float) -> nn.Module:
    return timm.create_model("vit_mini_patch8_48", num_classes=0, img_size=image_size, drop_path_rate=drop_path)


def test_register_a_backbone(own_registry: None, tmp_path: Path) -> None:
    register_backbone("mine_vit_mini", method="Mine", pretrain_data="IN22K", model="ViT-mini")(build_mini)
    entry = find_backbone("mine_vit_mini")
    assert (entry.method, entry.pretrain_data, entry.model, entry.build) == ("Mine", "IN22K", "ViT-mini", build_mini)
    assert entry in list_backbones()
    model = create_backbone("mine_vit_mini", weights_of("vit_mini_patch8_48", tmp_path), image_size=64, drop_path=0.3)
    assert model.load_report.method == "Mine"
    assert model.patch_embed.grid_size == (8, 8)
    assert drop_path_rates(model)[-1] == 0.3
    for taken in ("mine_vit_mini", "mae_vit_base", "resnet50"):
        with pytest.raises(InputError, match="the name is taken"):
            register_backbone(taken, method="Mine", model="ViT-mini")


def test_register_a_method_with_its_own_reading(own_registry: None, tmp_path: Path) -> None:
    def from_mine(weights: object, model: nn.Module) -> None:
        weights.rename(r"mine/", "")

    method = Method("Mine", "IN1K", (from_mine,))
    register_backbone("mine_vit_mini", method=method, model="ViT-mini")(build_mini)
    state = build_mini(None, 0.0).state_dict()
    torch.save({f"mine/{name}": tensor for name, tensor in state.items()}, tmp_path / "mine.pth")
    report = create_backbone("mine_vit_mini", tmp_path / "mine.pth").load_report
    assert report.used["cls_token"] == ("mine/cls_token",)
    assert find_backbone("mine_vit_mini").pretrain_data == "IN1K"


def test_weights_that_come_with_the_code(own_registry: None) -> None:
    register_backbone("whole", method="Mine", model="ViT-mini", needs_checkpoint=False)(build_mini)
    assert create_backbone("whole").load_report is None


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user's, importable for the length of a test."""
    path = tmp_path / "users_own_backbone.py"
    path.write_text(
        "import timm, torch\n"
        "import backbones.vit_sizes\n"
        "def good(image_size, drop_path):\n"
        "    return timm.create_model('vit_mini_patch8_48', num_classes=0, img_size=image_size)\n"
        "def with_head(image_size, drop_path):\n"
        "    return timm.create_model('vit_mini_patch8_48', num_classes=10)\n"
        "def bare(image_size, drop_path):\n"
        "    return torch.nn.Linear(2, 2)\n"
        "def nothing(image_size, drop_path): pass\n"
        "def no_arguments(): pass\n"
        "def fails(image_size, drop_path): raise RuntimeError('out of luck')\n"
        "def ends(image_size, drop_path): raise SystemExit(3)\n"
        "built = torch.nn.Identity()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("users_own_backbone", None)


def test_a_function_of_ones_own(own_module: Path, tmp_path: Path) -> None:
    name = "users_own_backbone:good"
    model = create_backbone(name, weights_of("vit_mini_patch8_48", tmp_path, num_classes=5), image_size=64)
    assert model.patch_embed.grid_size == (8, 8)
    assert model.load_report.dropped.keys() == {"head.weight", "head.bias"}
    assert create_backbone(name).load_report is None
    assert find_backbone(name).method == "custom"


@pytest.mark.parametrize(
    "function, message",
    [
        ("with_head", "it has a classifier of 10 classes. Build it with num_classes=0"),
        ("bare", "Linear lacks forward_features. Give it a method forward_features"),
        ("nothing", "expected a torch.nn.Module, got NoneType"),
        ("no_arguments", r"is called as \(image_size, drop_path\), by position: .* as no_arguments\(\)"),
        ("fails", "building it failed with RuntimeError: out of luck"),
        ("ends", r"building it failed with sys\.exit\(3\) in ends \(.*users_own_backbone\.py, line 12\), which ends"),
        ("built", "built is a Identity that has been built. Expected a function that builds one anew"),
        ("absent", "users_own_backbone has no function 'absent'. It has bare, built, ends, fails"),
    ],
)
def test_a_function_that_does_not_serve(own_module: Path, function: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_backbone(f"users_own_backbone:{function}")


def test_a_module_that_cannot_be_imported(own_module: Path) -> None:
    with pytest.raises(InputError, match=r"no module 'no_such_module'. Is it installed"):
        create_backbone("no_such_module:build")
    for name in ("./users_own_backbone:good", "users_own_backbone.py:good", ":good"):
        with pytest.raises(InputError, match=f"backbone {name}: expected MODULE:FUNCTION, the module as Python"):
            create_backbone(name)
    own_module.with_name("users_lacking_backbone.py").write_text("import no_such_module\n")
    with pytest.raises(InputError, match=r"no module 'no_such_module', which users_lacking_backbone imports. Is it"):
        create_backbone("users_lacking_backbone:build")
    for content, error in (("1 / 0", "ZeroDivisionError"), ("import sys; sys.exit()", r"sys\.exit\(\) in <module>")):
        own_module.with_name("users_broken_backbone.py").write_text(f"{content}\n")
        with pytest.raises(InputError, match=f"importing users_broken_backbone failed with {error}"):
            create_backbone("users_broken_backbone:build")


def install_plugin(folder: Path, distribution: str, module: str, code: str) -> None:
    """Lay out an installed distribution as pip does: a module, its metadata and its entry point."""
    (folder / f"{module}.py").write_text(code)
    metadata = folder / f"{distribution}-1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (metadata / "entry_points.txt").write_text(f"[backbench.backbones]\n{module} = {module}\n")


def test_plugins_register_and_broken_ones_are_named(
    own_registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install_plugin(
        tmp_path,
        "good-package",
        "plugin_that_works",
        "import backbones.vit_sizes, timm\n"
        "from backbones.registry import register_backbone\n"
        "@register_backbone('plugged_vit', method='Plugged', model='ViT-mini', needs_checkpoint=False)\n"
        "def build(image_size, drop_path):\n"
        "    return timm.create_model('vit_mini_patch8_48', num_classes=0)\n",
    )
    install_plugin(tmp_path, "bad-package", "plugin_that_fails", "import a_package_that_is_missing\n")
    failure = r"plug-in 'plugin_that_fails' of bad-package 1\.5 .* ModuleNotFoundError: .*a_package_that_is_missing"
    with pytest.warns(UserWarning, match=failure):
        names = [entry.name for entry in list_backbones()]
    assert "plugged_vit" in names
    assert create_backbone("plugged_vit").embed_dim == 128
    with pytest.raises(InputError, match=failure):
        create_backbone("the_broken_ones_name")
