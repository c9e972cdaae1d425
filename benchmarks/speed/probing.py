"""How fast are the probes on features, beside what else does the same?

    python benchmarks/speed/probing.py [--device cpu|cuda] [--repeats 3] [--queries 10000] [--kept 50000]
                                       [--images 256] [--epochs 90] [--json FILE]

Three comparisons, in one process, the sides of each taking turns, on features and images of random numbers:

- nearest neighbours: 200 of `kept` features of 768 channels for each query, beside the bare product of both in single
  precision, which no exact search does without, and on a CPU scikit-learn's search by cosine, and faiss's flat index
  if installed
- the linear grid of DINOv2: 52 heads trained together, beside each of them trained alone
- a whole linear probe: one pass of ViT-Tiny/16 at 96 pixels over the images and the grid on what it gives, beside
  `epochs` passes of the same ViT, each of which trains one linear layer, as a probe without kept features does

The neighbours have to be equal: scikit-learn's have the same similarities to six decimals.
"""

from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from backbones.frozen import FrozenBackbone
from backbones.registry import create_backbone
from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import Comparison, compare, write_figures
from benchmarks.speed.comparing.turns import Step, take_turns
from tasks.probing.linear_grid import RATES, Schedule, train
from tasks.probing.neighbours import KEPT, QUERIES, nearest
from tasks.probing.probes import select
from tasks.probing.recipe import Pool

_CHANNELS, _COUNT = 768, 200
_CLASSES, _BATCH, _ITERATIONS = 100, 256, 200
_KINDS: tuple[tuple[Pool, int], ...] = (("token", 1), ("token_and_avg", 1), ("token", 4), ("token_and_avg", 4))
_SIDE = 96
_DEFAULTS = {"cpu": {"repeats": 3}, "cuda": {"repeats": 5}}


def random_features(count: int, device: str, seed: int) -> Tensor:
    """Of unit length, (N, C)."""
    numbers = torch.randn(count, _CHANNELS, generator=torch.Generator().manual_seed(seed))
    return F.normalize(numbers, dim=1).to(device)


def bare_product(queries: Tensor, kept: Tensor) -> Tensor:
    """All similarities, in the blocks of `nearest` and in one place as there, of which nothing is kept.

    The program waits for no block: where it did, the table would have a GPU wait that is at work all the time.
    """
    total, place = kept.new_zeros(()), kept.new_empty(QUERIES * min(KEPT, len(kept)))
    for block in queries.split(QUERIES):
        for part in kept.split(KEPT):
            products = place[: len(block) * len(part)].view(len(block), len(part))
            total += torch.mm(block, part.T, out=products)[0, 0]
    return total


def neighbour_sides(queries: Tensor, kept: Tensor) -> dict[str, Callable[[], Step]]:
    """The searches by name."""
    sides: dict[str, Callable[[], Step]] = {
        "ours": lambda: partial(nearest, queries, kept, _COUNT),
        "the bare product": lambda: partial(bare_product, queries, kept),
    }
    if queries.is_cuda:
        return sides
    asked, known = queries.numpy(), kept.numpy()
    peer = NearestNeighbors(n_neighbors=_COUNT, metric="cosine", algorithm="brute").fit(known)
    sides["scikit-learn"] = lambda: partial(peer.kneighbors, asked)
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        return sides
    index = faiss.IndexFlatIP(_CHANNELS)
    index.add(known)
    return sides | {"faiss": lambda: partial(index.search, asked, _COUNT)}


def require_equal(queries: Tensor, kept: Tensor) -> None:
    """End the process if scikit-learn finds other neighbours of the first queries."""
    ours = nearest(queries[:64], kept, _COUNT)[0].cpu().numpy()
    peer = NearestNeighbors(n_neighbors=_COUNT, metric="cosine", algorithm="brute").fit(kept.cpu().double().numpy())
    theirs = 1 - peer.kneighbors(queries[:64].cpu().double().numpy())[0]
    if np.abs(ours - theirs).max() > 1e-6:
        raise SystemExit("not equal: scikit-learn's neighbours are others")


def compare_neighbours(queries: int, kept: int, repeats: int, device: str) -> list[Comparison]:
    """Ours beside each other search."""
    asked, known = random_features(queries, device, 0), random_features(kept, device, 1)
    require_equal(asked, known)
    with redirect_stderr(StringIO()):  # a line of progress for each of many searches
        turns = take_turns(neighbour_sides(asked, known), repeats, device)
    what = f"{_COUNT} neighbours of {queries:,} × {kept:,} × {_CHANNELS}"
    return [compare(what, turns["ours"], name, each) for name, each in turns.items() if name != "ours"]


def compare_grid(repeats: int, device: str) -> Comparison:
    """52 heads together, beside one after the other."""
    rng = torch.Generator().manual_seed(0)
    widths = {"one": 192, "two": 384, "four": 768, "five": 960}
    features = {name: torch.randn(4000, width, generator=rng).to(device) for name, width in widths.items()}
    targets = torch.randint(_CLASSES, (4000,), generator=rng).to(device)
    schedule = Schedule(_ITERATIONS, _BATCH)

    def together() -> None:
        train(features, targets, _CLASSES, schedule, 0)

    def alone() -> None:
        for name, values in features.items():
            for rate in RATES:
                train({name: values}, targets, _CLASSES, schedule, 0, [rate])

    turns = take_turns({"ours": lambda: together, "one by one": lambda: alone}, repeats, device)
    what = f"{len(features) * len(RATES)} linear heads, {_ITERATIONS} iterations of {_BATCH}"
    return compare(what, turns["ours"], "one head after the other", turns["one by one"])


def compare_probe(images: int, epochs: int, repeats: int, device: str) -> Comparison:
    """One pass and the grid, beside as many passes as epochs."""
    rng = torch.Generator().manual_seed(0)
    shown = torch.rand(images, 3, _SIDE, _SIDE, generator=rng).to(device)
    targets = torch.randint(_CLASSES, (images,), generator=rng).to(device)
    network = FrozenBackbone(create_backbone("vit_tiny_patch16_224", image_size=_SIDE), _SIDE).to(device)

    @torch.no_grad()
    def features_of(batch: Tensor) -> dict[str, Tensor]:
        return {name: each.float() for name, each in network(batch).items()}

    def ours() -> None:
        parts = [features_of(batch) for batch in shown.split(_BATCH)]
        kinds = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        chosen = {f"{pool}{layers}": select(kinds, pool, layers) for pool, layers in _KINDS}
        train(chosen, targets, _CLASSES, Schedule(epochs * max(1, images // _BATCH), _BATCH), 0)

    def plain() -> None:
        head = torch.nn.Linear(network.backbone.embed_dim, _CLASSES).to(device)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
        for _ in range(epochs):
            for batch, labels in zip(shown.split(_BATCH), targets.split(_BATCH), strict=True):
                loss = F.cross_entropy(head(features_of(batch)["token1"]), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    turns = take_turns({"ours": lambda: ours, "plain": lambda: plain}, repeats, device)
    what = f"a linear probe of ViT-Tiny at {_SIDE} px, {images:,} images, {epochs} epochs, ours with 52 heads"
    return compare(what, turns["ours"], f"{epochs} passes, one head", turns["plain"])


def shown_line(comparison: Comparison) -> str:
    """What was compared, and what each side took."""
    ours, theirs, ratio = comparison.ours.median, comparison.theirs, comparison.ratio
    assert theirs and ratio
    return (
        f"{comparison.what}: ours {ours:.2f} s, {comparison.peer} {theirs.median:.2f} s, ours takes "
        f"{1 / ratio.median:.2f} × (turns {1 / ratio.highest:.2f} to {1 / ratio.lowest:.2f})"
    )


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="turns of each side (default 3, on a GPU 5)")
    parser.add_argument("--queries", type=int, default=10_000, help="features that are asked for (default 10000)")
    parser.add_argument("--kept", type=int, default=50_000, help="features that are looked through (default 50000)")
    parser.add_argument("--images", type=int, default=256, help="images of the whole probe (default 256)")
    parser.add_argument("--epochs", type=int, default=90, help="epochs of the whole probe (default 90, as MAE's)")
    arguments = parse_arguments(parser, _DEFAULTS)
    device, repeats = arguments.device, arguments.repeats
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    found = []
    for measure in (
        lambda: compare_neighbours(arguments.queries, max(arguments.kept, _COUNT), repeats, device),
        lambda: [compare_grid(repeats, device)],
        lambda: [compare_probe(arguments.images, arguments.epochs, repeats, device)],
    ):
        for comparison in measure():
            print(shown_line(comparison), flush=True)
            found.append(comparison)
    write_figures(arguments.json, found)


if __name__ == "__main__":
    main()
