"""Which of the peer's attentions the autoencoder's step is compared with, and which limits."""

from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from benchmarks.speed import mae_step
from benchmarks.speed.comparing.turns import Step, Turns
from benchmarks.speed.mae_step import comparisons, fastest_peer, make_sides, peer_name, reached

SIDES = {
    peer_name("fp32", "sdpa"): Turns([0.44, 0.40, 0.42], 22.0),
    peer_name("fp32", "eager"): Turns([0.45, 0.46, 0.47], 25.0),
    "ours fp32": Turns([0.38, 0.38, 0.38], 21.0),
    peer_name("bf16 autocast", "sdpa"): Turns([0.08, 0.11, 0.12], 14.0),
    peer_name("bf16 autocast", "eager"): Turns([0.10, 0.10, 0.11], 16.0),
    "ours bf16 autocast": Turns([0.08, 0.08, 0.08], 13.0),
}


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, str]]:
    """The peer's sides that were tried before turns are taken, as (bf16, attention); `eager` fails in fp32."""
    tried = []

    def peer_side(batch: int, device: str, bf16: bool, attention: str) -> Step:
        def step() -> None:
            tried.append((bf16, attention))
            if not bf16:
                raise ValueError("no such kernel\nand a long explanation")

        return step

    monkeypatch.setattr(mae_step, "peer_side", peer_side)
    return tried


def test_ours_is_held_against_the_attention_that_was_fastest_in_the_same_turns() -> None:
    half, single = comparisons(SIDES, 256, "cuda")
    assert half.peer == "Hugging Face ViTMAE, bf16 autocast, eager"
    assert half.ratio and half.ratio.median == pytest.approx(0.10 / 0.08) and half.their_memory_gib == 16.0
    assert half.ratio.highest == pytest.approx(0.11 / 0.08)
    assert single.peer == "Hugging Face ViTMAE, fp32, sdpa" and single.ratio
    assert single.ratio.median == pytest.approx(0.42 / 0.38)
    assert fastest_peer(SIDES, "fp32") == peer_name("fp32", "sdpa")


def test_all_attentions_of_the_peer_take_turns(peers: list[tuple[bool, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mae_step, "is_flash_attn_2_available", lambda: True)
    sides, lines = make_sides(256, "cuda", True)
    half = [peer_name("bf16 autocast", attention) for attention in ("sdpa", "eager", "flash_attention_2")]
    assert [name for name in sides if "Hugging Face" in name] == [peer_name("fp32", "sdpa"), *half]
    assert peers == [(False, "eager"), (True, "eager"), (True, "flash_attention_2")]
    assert lines == [
        f"{peer_name('fp32', 'eager')}: does not run here, no such kernel",
        f"{peer_name('fp32', 'flash_attention_2')}: only for half precision",
    ]


def test_an_attention_that_is_not_installed_is_named(
    peers: list[tuple[bool, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mae_step, "is_flash_attn_2_available", lambda: False)
    sides, lines = make_sides(256, "cuda", True)
    name = peer_name("bf16 autocast", "flash_attention_2")
    assert name not in sides and f"{name}: flash-attn is not installed" in lines


def test_on_a_cpu_the_peer_has_its_default_attention(peers: list[tuple[bool, str]]) -> None:
    sides, lines = make_sides(8, "cpu", True)
    assert [name for name in sides if "Hugging Face" in name] == [
        peer_name("fp32", "sdpa"),
        peer_name("bf16 autocast", "sdpa"),
    ]
    assert lines == [] and peers == []


def test_both_update_by_the_fused_adamw_on_a_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's Trainer takes it wherever PyTorch is of 2.8 or later."""
    assert TrainingArguments.default_optim == "adamw_torch_fused"
    updated = []

    def step(loss_of: Any, optimizer: torch.optim.Optimizer, device: str, bf16: bool) -> Step:
        updated.append(optimizer.defaults["fused"])
        return lambda: None

    monkeypatch.setattr(mae_step, "training_step", step)
    mae_step.peer_side(1, "cpu", False, "sdpa")
    mae_step.our_side(1, "cpu", False)
    assert updated == [True, True]


def test_limits_and_operations_of_a_gpu_are_the_self_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peak of each precision; and operations of the step itself as it runs there, each precision's own."""
    rates = {("cuda", "fp32"): 50e12, ("cuda", "bf16"): 700e12}
    monkeypatch.setattr(mae_step, "peak_rate", lambda device, precision: rates[device, precision])
    square = torch.ones(100, 100)

    def our_side(batch: int, device: str, bf16: bool) -> Step:
        return lambda: [square @ square for _ in range(4 if bf16 else 2)]

    monkeypatch.setattr(mae_step, "our_side", our_side)
    sides = {"ours fp32": Turns([1e-7]), "ours bf16 autocast": Turns([1e-7])}
    assert not {"torch.mm", "oneDNN product"} & {*make_sides(256, "cuda", False)[0]}
    again = "what kernels compute again included"
    assert reached(sides, 256, "cuda") == [
        f"ours fp32: 0 GFLOP a step, {again}, 40000 GFLOP/s",
        "80% of the peak by a fp32 torch.mm, 50000 GFLOP/s",
        f"ours bf16 autocast: 0 GFLOP a step, {again}, 80000 GFLOP/s",
        "11% of the peak by a bf16 torch.mm, 700000 GFLOP/s",
    ]
    del sides["ours bf16 autocast"]  # as on a GPU that lacks it
    assert len(reached(sides, 256, "cuda")) == 2


def test_on_a_cpu_nothing_that_is_computed_again_counts() -> None:
    """One image's step has 57 GFLOP; the products take turns with the models."""
    sides = {name: Turns([1.0]) for name in ("torch.mm", "oneDNN product", "ours fp32")}
    said = reached(sides, 1, "cpu")
    assert said[0] == "ours fp32: 57 GFLOP a step, nothing computed again, 57 GFLOP/s"
    assert [line.partition(" of ")[2] for line in said[1:]] == [
        "the peak by torch.mm, 137 GFLOP/s",
        "the peak by oneDNN product, 137 GFLOP/s",
    ]
    assert {"torch.mm", "oneDNN product"} <= {*make_sides(1, "cpu", False)[0]}
