"""What is tried of another author's model before a run: it finds what it should, and leaves the model as it was."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import features
from backbones.contract import require_backbone
from backbones.errors import InputError
from backbones.features import examine
from benchmarks.commands.network_checks import try_network
from tasks.classification.classifier import add_head, pooling_notes
from tasks.unused import require_all_used
from tests.support.strangers import PATCH, SIDE, WIDTH, PlainViT


class Initialising(PlainViT):
    """It sets a scale by the first images that it trains on, as Glow's ActNorm does."""

    def __init__(self) -> None:
        super().__init__(SIDE)
        self.scale, self.initialised = nn.Parameter(torch.ones(WIDTH)), False

    def forward_features(self, images: Tensor) -> Tensor:
        x = super().forward_features(images)
        if self.training and not self.initialised:
            self.scale.data.copy_(1 / (x.std((0, 1)) + 1e-6))
            self.initialised = True
        return x * self.scale


class InitialisingItself(Initialising):
    """Its method is a function that holds on to the module, so that a copy of it calls this one."""

    def __init__(self) -> None:
        super().__init__()
        self.forward_features = lambda images: Initialising.forward_features(self, images)  # type: ignore[method-assign]


class Caching(PlainViT):
    """It replaces a buffer whenever images have another size."""

    def __init__(self) -> None:
        super().__init__(SIDE)
        self.register_buffer("positions", torch.zeros(1), persistent=False)
        self.cells = 0

    def forward_features(self, images: Tensor) -> Tensor:
        cells = (images.shape[2] // PATCH) * (images.shape[3] // PATCH)
        if cells != self.cells:
            self.positions, self.cells = torch.linspace(0, cells, 1 + cells)[:, None], cells
        return super().forward_features(images) + self.positions


class Hooked(PlainViT):
    """Its features are what a hook has kept of them, which a copy's hook would put into this module."""

    def __init__(self) -> None:
        super().__init__(SIDE)
        self.kept: list[Tensor] = []
        self.norm.register_forward_hook(lambda _module, _inputs, output: self.kept.append(output))

    def forward_features(self, images: Tensor) -> Tensor:
        self.kept.clear()
        super().forward_features(images)
        return self.kept[-1]


class Skipping(PlainViT):
    """In training it adds a layer's output now and then."""

    def __init__(self, rate: float) -> None:
        super().__init__(SIDE)
        self.rate, self.layer = rate, nn.Linear(WIDTH, WIDTH)

    def forward_features(self, images: Tensor) -> Tensor:
        x = super().forward_features(images)
        return x if self.training and torch.rand(()) < self.rate else x + self.layer(x)


class WithoutBlack(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        if not images.any():
            raise ValueError("an empty image")
        return super().forward_features(images)


class ComplexFirst(nn.Module):
    """Its first parameter is complex, as of a filter of frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(1, 1, WIDTH, dtype=torch.cfloat))
        self.inner = PlainViT(SIDE)

    def forward_features(self, images: Tensor) -> Tensor:
        return torch.fft.ifft(torch.fft.fft(self.inner.forward_features(images), dim=1) * self.filter, dim=1).real


class Halving(nn.Module):
    """Convolutions that round sizes up, as ResNet's do, or down; four maps, or the last, or with a norm for each."""

    def __init__(self, padding: int = 1, maps: int = 4, norms: bool = False) -> None:
        super().__init__()
        stems = [nn.Conv2d(3 if first else 10, 10, 2 + padding, 2, padding) for first in (True, *4 * [False])]
        self.stages = nn.ModuleList([nn.Sequential(*stems[:2]), *stems[2:]])
        self.norms = nn.ModuleList(nn.GroupNorm(2, 10) if norms else nn.Identity() for _ in range(4))
        self.maps = maps

    def forward_features(self, images: Tensor) -> Any:
        outputs, x = [], images
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            outputs.append(norm(x))
        return outputs if self.maps == 4 else outputs[-1]


class HalfAlone(PlainViT):
    """Its kernels take half precision alone, as flash_attn's do."""

    def forward_features(self, images: Tensor) -> Tensor:
        x = super().forward_features(images)
        if not torch.is_autocast_enabled(images.device.type):
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        return x


def classifier(module: nn.Module, side: int = SIDE) -> nn.Module:
    return add_head(module, 5, "avg", side)


def test_what_initialises_itself_by_its_first_images_does_so_in_the_run() -> None:
    module = Initialising()
    require_all_used(classifier(module), "mine", SIDE)
    assert not module.initialised
    assert torch.equal(module.scale, torch.ones(WIDTH))


def test_what_writes_into_parameters_and_cannot_be_copied_is_refused_by_name() -> None:
    network = classifier(InitialisingItself())
    with pytest.raises(InputError, match=r"mine: a pass in training writes into its parameters backbone\.scale, and"):
        require_all_used(network, "mine", SIDE)
    findings = [*try_network("classification", classifier(InitialisingItself()), torch.randn(4, 3, SIDE, SIDE))]
    assert "writes into its parameters backbone.scale" in findings[0].remark


def test_a_cache_of_another_size_serves_and_stays_true() -> None:
    module = Caching()
    network = classifier(module)
    require_all_used(network, "mine", 2 * SIDE)
    assert module.positions.shape == (1 + module.cells, 1)
    assert torch.equal(module.positions, torch.linspace(0, module.cells, 1 + module.cells)[:, None])
    assert network(torch.randn(2, 3, SIDE, SIDE)).isfinite().all()


def test_features_from_a_hook_keep_their_norm() -> None:
    module = Hooked()
    network = classifier(module).eval()
    require_all_used(network, "mine", SIDE)
    images = torch.randn(2, 3, SIDE, SIDE)
    assert isinstance(module.norm, nn.LayerNorm)
    pooled = PlainViT.forward_features(module, images)[:, 1:].mean(1)
    torch.testing.assert_close(network(images), network.get_classifier()(pooled))  # type: ignore[operator]


def test_a_layer_left_out_at_random_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier(Skipping(0.7))
    require_all_used(network, "mine", SIDE)
    monkeypatch.setattr("tasks.unused.process_count", lambda: 2)
    message = (
        r"passes no gradient on to backbone\.layer\.weight, backbone\.layer\.bias in some passes in training: they "
    )
    with pytest.raises(InputError, match=message + "are left out at random"):
        require_all_used(network, "mine", SIDE)


def test_a_layer_left_out_in_training_is_told_as_what_it_is() -> None:
    with pytest.raises(InputError, match="left out at random, or detached, and several processes cannot train that"):
        require_all_used(classifier(Skipping(1.0)), "mine", SIDE)


def test_a_model_that_refuses_black_images_is_tried_on_others() -> None:
    assert examine(WithoutBlack(SIDE), "mine").channels == (WIDTH,)
    require_all_used(classifier(WithoutBlack(SIDE)), "mine", SIDE)


def test_kernels_of_half_precision_alone_are_tried_in_it() -> None:
    """They were refused, for trials were in single precision."""
    network = classifier(HalfAlone(SIDE))
    require_all_used(network, "name", SIDE)
    findings = {each.check: each for each in try_network("classification", network, torch.rand(2, 3, SIDE, SIDE))}
    assert {each.result for each in findings.values()} == {"ok"}
    assert findings["bf16 autocast"].remark == "needed, for a pass in fp32 fails: use --set precision=bf16"


@pytest.mark.parametrize(("gpu", "reason"), [(False, ""), (True, ". On the GPU: RuntimeError: no cuda")])
def test_the_reason_on_the_cpu_is_told_first(gpu: bool, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gave way to the GPU's."""

    def fail(module: nn.Module, images: Tensor, on_gpu: bool) -> None:
        raise RuntimeError("no cuda" if on_gpu else "no cpu")

    monkeypatch.setattr(features, "try_features", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    with pytest.raises(InputError) as caught:
        examine(PlainViT(SIDE), "name")
    assert str(caught.value).endswith(f"With each of them: RuntimeError: no cpu{reason}")


def test_a_complex_parameter_may_come_first() -> None:
    require_all_used(classifier(ComplexFirst()), "mine", SIDE)


def test_minus_one_classes_are_no_classifier() -> None:
    module = PlainViT(SIDE)
    module.num_classes = -1  # type: ignore[assignment]
    assert require_backbone(module, "mine") is module
    module.num_classes = 10  # type: ignore[assignment]
    with pytest.raises(InputError, match="it has a classifier of 10 classes"):
        require_backbone(module, "mine")


@pytest.mark.parametrize("side", [112, 176, 192])
@pytest.mark.parametrize("maps", [1, 4])
@pytest.mark.parametrize("padding", [0, 1])
def test_images_need_not_be_whole_cells_in_classification(side: int, maps: int, padding: int) -> None:
    network: Any = classifier(Halving(padding, maps), side)
    assert network.form.strides == ((4, 8, 16, 32) if maps == 4 else (32,))
    require_all_used(network, "mine", side)
    assert network(torch.randn(2, 3, side, side)).shape == (2, 5)


def test_a_map_of_as_many_channels_as_rows_is_laid_out_as_the_others() -> None:
    form = examine(Halving(), "mine", 320)
    assert (form.layout, form.channels) == ("channels first", (10, 10, 10, 10))


def test_norms_of_maps_that_are_not_pooled_are_frozen_and_told() -> None:
    network = classifier(Halving(norms=True), 64)
    require_all_used(network, "mine", 64)
    frozen = {key for key, each in network.named_parameters() if not each.requires_grad}
    assert frozen == {f"backbone.norms.{number}.{kind}" for number in range(3) for kind in ("weight", "bias")}
    what, which = pooling_notes(network)
    assert what.endswith("; what only the other maps use is frozen)")
    assert "6 of 20 parameter tensors are frozen: backbone.norms.0.weight" in which


def test_a_method_put_together_of_the_modules_own_is_tried() -> None:
    module = PlainViT(SIDE)
    module.forward_features = functools.partial(PlainViT.forward_features, module)  # type: ignore[method-assign]
    require_all_used(classifier(module), "mine", SIDE)
