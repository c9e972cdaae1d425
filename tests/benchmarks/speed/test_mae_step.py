"""Which of the peer's attentions the autoencoder's step is compared with."""

import pytest

from benchmarks.speed import mae_step
from benchmarks.speed.comparing.turns import Step, Turns
from benchmarks.speed.mae_step import comparisons, fastest_peer, make_sides, peer_name

SIDES = {
    "torch.mm fp32": Turns([0.02] * 3),
    "torch.mm bf16": Turns([0.002] * 3),
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
