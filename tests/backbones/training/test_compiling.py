"""A compiled network gives what it gave, at every size that it is called with."""

import copy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.training import compiling
from backbones.training.compiling import compile_network, require_compiler


@torch.no_grad()
def test_images_of_a_second_size_are_compiled_too() -> None:
    """With torch's dynamic sizes the second one failed."""
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=1, num_classes=0, mlp_ratio=1)
    pyramid = build_pyramid(vit, "fpn", image_size=32, window=None, relative_position=False)
    expected = copy.deepcopy(pyramid)
    compile_network(pyramid, backend="aot_eager")
    for size in ((32, 32), (32, 44)):
        images = torch.rand(1, 3, *size)
        for found, wanted in zip(pyramid(images), expected(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_every_run_of_a_process_is_compiled() -> None:
    """From the ninth graph of one class on, the fourth run of a loop went on without a word as if nothing was asked."""
    for depth in range(1, 11):
        sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": depth, "num_heads": 1, "num_classes": 0}
        network, compiled = VisionTransformer(**sizes), []

        def count(graph: Any, inputs: Any, compiled: list[Any] = compiled) -> Any:
            compiled.append(graph)
            return graph.forward

        compile_network(network, backend=count)
        network(torch.rand(1, 3, 16, 16))
        assert compiled, f"network {depth}"


@pytest.mark.parametrize(
    ("device", "variables", "there", "message"),
    [
        ("cpu", {}, {"gcc", "clang++"}, "needs a C++ compiler, and finds no g++. Install g++ or leave it at false"),
        ("cpu", {"CXX": "nvc++ -O2"}, {"g++"}, "finds no nvc++, which the variable CXX names. Install one or leave it"),
        ("cuda", {}, {"g++", "cc"}, "needs a C compiler, and finds no gcc and no clang. Install gcc or leave it"),
        ("cuda", {}, {"clang"}, "needs triton on a GPU. Install it or leave it at false"),
        ("cpu", {}, {"g++"}, ""),
        ("cpu", {"CXX": "ccache g++"}, {"ccache"}, ""),
    ],
)
def test_what_torch_compiles_with_has_to_be_there(
    monkeypatch: pytest.MonkeyPatch, device: str, variables: dict[str, str], there: set[str], message: str
) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    monkeypatch.setattr(compiling.Path, "exists", lambda path: True)
    if not message:
        require_compiler(device)
        return
    with pytest.raises(InputError) as refused:
        require_compiler(device)
    assert str(refused.value).startswith('key "runtime.compile": torch.compile ') and message in str(refused.value)


def test_pythons_headers_have_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name)
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda name: "/nowhere")
    with pytest.raises(InputError, match=r'key "runtime.compile": .* finds no Python\.h'):
        require_compiler("cpu")
