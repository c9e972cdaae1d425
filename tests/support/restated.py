"""Plain ViTs and their kin written out from their papers and released code, on weights under the authors' names.

Independent of timm and of backbones/: what the reading of a file is compared with.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.small_architectures import DEPTH, HEADS, PATCH, SIDE, WIDTH

State = dict[str, Tensor]
TOKENS = (SIDE // PATCH) ** 2


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> State:
    """Numbers of a trained network's size: scales near 1, everything else a tenth."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        drawn = 0.1 * torch.randn(shape, generator=generator)
        is_scale = len(shape) == 1 and name.endswith(("weight", "gamma", "gamma_1", "gamma_2"))
        state[name] = drawn + 1 if is_scale else drawn
    return state


def vit_shapes(*, class_token: bool = True, scale: str = "", registers: int = 0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a ViT as DeiT, MAE, DINO and DINOv2 have them; `scale` is "ls1.gamma" or "gamma_1"."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, WIDTH)} if class_token else {}
    shapes |= {"register_tokens": (1, registers, WIDTH)} if registers else {}
    shapes |= {"pos_embed": (1, TOKENS + class_token, WIDTH), "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH)}
    shapes |= {"patch_embed.proj.bias": (WIDTH,)}
    for block in (f"blocks.{index}." for index in range(DEPTH)):
        shapes |= _norm(block + "norm1") | _linear(block + "attn.qkv", WIDTH, 3 * WIDTH)
        shapes |= _linear(block + "attn.proj", WIDTH, WIDTH) | _norm(block + "norm2")
        shapes |= _linear(block + "mlp.fc1", WIDTH, 4 * WIDTH) | _linear(block + "mlp.fc2", 4 * WIDTH, WIDTH)
        if scale:
            shapes |= {block + scale: (WIDTH,), block + scale.replace("1", "2"): (WIDTH,)}
    return shapes | _norm("norm")


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def beit_shapes(shared: bool) -> dict[str, tuple[int, ...]]:
    """A ViT with BEiT's biases: of query and value only, and of relative positions, shared or in every block."""
    shapes = {name: shape for name, shape in vit_shapes(scale="gamma_1").items() if name != "pos_embed"}
    side = SIDE // PATCH
    table = ((2 * side - 1) ** 2 + 3, HEADS)
    for block in (f"blocks.{index}.attn." for index in range(DEPTH)):
        del shapes[block + "qkv.bias"]
        shapes |= {block + "q_bias": (WIDTH,), block + "v_bias": (WIDTH,)}
        shapes |= {} if shared else {block + "relative_position_bias_table": table}
    return shapes | ({"rel_pos_bias.relative_position_bias_table": table} if shared else {})


def swiglu(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The same with DINOv2's ViT-g feed-forward layers, `w12` and `w3`."""
    kept = {name: shape for name, shape in shapes.items() if ".mlp." not in name}
    for block in (f"blocks.{index}.mlp." for index in range(DEPTH)):
        kept |= _linear(block + "w12", WIDTH, 352) | _linear(block + "w3", 176, WIDTH)
    return kept


def vit_features(state: State, images: Tensor, eps: float = 1e-6) -> Tensor:
    """All tokens behind the last norm over tokens, if there is one: class token, registers, patches."""
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    tokens = F.conv2d(images, weight, bias, stride=PATCH).flatten(2).mT
    position = state.get("pos_embed", torch.zeros(1, 1, WIDTH))
    class_token = state.get("cls_token")
    if position.shape[1] == TOKENS or class_token is None:
        tokens = tokens + position
    if class_token is not None:
        tokens = torch.cat([class_token.expand(len(images), -1, -1), tokens], dim=1)
    if position.shape[1] == TOKENS + 1:
        tokens = tokens + position
    if "register_tokens" in state:
        registers = state["register_tokens"].expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
    for index in range(DEPTH):
        part = {name.split(".", 2)[2]: value for name, value in state.items() if name.startswith(f"blocks.{index}.")}
        shared = state.get("rel_pos_bias.relative_position_bias_table")
        tokens = _block(tokens, part, part.get("attn.relative_position_bias_table", shared), eps)
    return _normed(tokens, state, "norm", eps) if "norm.weight" in state else tokens


def _block(tokens: Tensor, part: State, table: Tensor | None, eps: float) -> Tensor:
    one = torch.ones(WIDTH)
    first = part.get("gamma_1", part.get("ls1.gamma", one))
    second = part.get("gamma_2", part.get("ls2.gamma", one))
    tokens = tokens + first * _attention(_normed(tokens, part, "norm1", eps), part, table)
    hidden = _normed(tokens, part, "norm2", eps)
    if "mlp.w12.weight" in part:
        gate, value = F.linear(hidden, part["mlp.w12.weight"], part["mlp.w12.bias"]).chunk(2, dim=-1)
        return tokens + second * F.linear(F.silu(gate) * value, part["mlp.w3.weight"], part["mlp.w3.bias"])
    hidden = F.gelu(F.linear(hidden, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
    return tokens + second * F.linear(hidden, part["mlp.fc2.weight"], part["mlp.fc2.bias"])


def _attention(tokens: Tensor, part: State, table: Tensor | None) -> Tensor:
    bias = part.get("attn.qkv.bias")
    if "attn.q_bias" in part:
        bias = torch.cat([part["attn.q_bias"], torch.zeros(WIDTH), part["attn.v_bias"]])
    joined = F.linear(tokens, part["attn.qkv.weight"], bias)
    query, key, value = (each.unflatten(2, (HEADS, -1)).transpose(1, 2) for each in joined.chunk(3, dim=2))
    scores = query @ key.mT / math.sqrt(WIDTH // HEADS)
    if table is not None:
        scores = scores + _relative(table)
    mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
    return F.linear(mixed, part["attn.proj.weight"], part["attn.proj.bias"])


def _relative(table: Tensor) -> Tensor:
    """BEiT's biases (heads, tokens, tokens): by distance in rows and columns; the last three of the table are those
    from the class token, to it, and of it with itself."""
    side = SIDE // PATCH
    biases = torch.empty(TOKENS + 1, TOKENS + 1, HEADS)
    biases[0, :], biases[:, 0], biases[0, 0] = table[-3], table[-2], table[-1]
    for one in range(TOKENS):
        for other in range(TOKENS):
            rows, columns = one // side - other // side, one % side - other % side
            biases[one + 1, other + 1] = table[(rows + side - 1) * (2 * side - 1) + columns + side - 1]
    return biases.permute(2, 0, 1)


def _normed(tokens: Tensor, state: State, name: str, eps: float) -> Tensor:
    return F.layer_norm(tokens, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps)


def clip_shapes() -> dict[str, tuple[int, ...]]:
    """OpenAI's image encoder, under `visual.`, and a little of the text encoder beside it."""
    shapes = {"class_embedding": (WIDTH,), "positional_embedding": (TOKENS + 1, WIDTH), "proj": (WIDTH, 24)}
    shapes |= {"conv1.weight": (WIDTH, 3, PATCH, PATCH)} | _norm("ln_pre") | _norm("ln_post")
    for block in (f"transformer.resblocks.{index}." for index in range(DEPTH)):
        shapes |= {block + "attn.in_proj_weight": (3 * WIDTH, WIDTH), block + "attn.in_proj_bias": (3 * WIDTH,)}
        shapes |= _linear(block + "attn.out_proj", WIDTH, WIDTH) | _norm(block + "ln_1") | _norm(block + "ln_2")
        shapes |= _linear(block + "mlp.c_fc", WIDTH, 4 * WIDTH) | _linear(block + "mlp.c_proj", 4 * WIDTH, WIDTH)
    text = {"transformer.resblocks.0.ln_1.weight": (32,), "token_embedding.weight": (9, 32), "logit_scale": ()}
    text |= {"positional_embedding": (7, 32), "text_projection": (32, 24), "ln_final.weight": (32,)}
    return {f"visual.{name}": shape for name, shape in shapes.items()} | text


def clip_features(state: State, images: Tensor, quick: bool) -> Tensor:
    """All tokens behind `ln_post`, of which CLIP projects the first."""
    own = {name.removeprefix("visual."): tensor for name, tensor in state.items() if name.startswith("visual.")}
    tokens = F.conv2d(images, own["conv1.weight"], stride=PATCH).flatten(2).mT
    first = own["class_embedding"].expand(len(images), 1, -1)
    tokens = _normed(torch.cat([first, tokens], dim=1) + own["positional_embedding"], own, "ln_pre", 1e-5)
    for index in range(DEPTH):
        name = f"transformer.resblocks.{index}."
        part = {key.removeprefix(name): value for key, value in own.items() if key.startswith(name)}
        attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        attention.load_state_dict({key[5:]: value for key, value in part.items() if key.startswith("attn.")})
        hidden = _normed(tokens, part, "ln_1", 1e-5)
        tokens = tokens + attention(hidden, hidden, hidden, need_weights=False)[0]
        hidden = F.linear(_normed(tokens, part, "ln_2", 1e-5), part["mlp.c_fc.weight"], part["mlp.c_fc.bias"])
        hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else F.gelu(hidden)
        tokens = tokens + F.linear(hidden, part["mlp.c_proj.weight"], part["mlp.c_proj.bias"])
    return _normed(tokens, own, "ln_post", 1e-5)
