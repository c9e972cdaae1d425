"""Plain pickles of numpy arrays: all protocols and spellings are read, and nothing else is asked of anybody."""

import collections
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.errors import InputError
from backbones.registry import create_backbone
from backbones.weights.checkpoints import read_checkpoint
from tests.backbones.weights.test_reading import Runs
from tests.support.checkpoint_examples import vit_mini

STATE = {
    "weight": np.arange(30, dtype=np.float32).reshape(5, 6) / 7,
    "columns": np.asfortranarray(np.arange(200.0).reshape(10, 20)),
    "big_endian": np.arange(40, dtype=">f4"),
    "half": np.linspace(-1, 1, 50, dtype=np.float16).reshape(2, 5, 5),
    "steps": np.array(12, dtype=np.int64),
    "flag": np.array([True]),
    "nothing": np.zeros((0, 3), np.float32),
}


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def zoo(state: dict[str, Any]) -> dict[str, Any]:
    """As detectron2's model zoo has it."""
    return {"model": collections.OrderedDict(state), "__author__": "Someone", "matching_heuristics": True}


@pytest.mark.parametrize("protocol", range(6))
def test_all_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    content = zoo(STATE) | {"epoch": np.float64(3.5), "kinds": {1, 2}, "pair": (1, [b"x", "é"])}
    checkpoint = read_checkpoint(written(tmp_path / "model_final.pkl", content, protocol))
    assert (checkpoint.kind, checkpoint.container) == ("pickle", "model")
    assert checkpoint.extras["__author__"] == "Someone" and checkpoint.extras["epoch"] == "3.5"
    assert list(checkpoint.state_dict) == list(STATE)
    for name, array in STATE.items():
        expected = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
        found = checkpoint.state_dict[name]
        assert found.dtype == expected.dtype and torch.equal(found, expected), name


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_the_module_names_of_numpy_1_and_2(tmp_path: Path, core: bytes) -> None:
    """In protocol 2 a name ends its line, and its length is not stated."""
    raw = pickle.dumps({"model": {"weight": STATE["weight"]}}, 2)
    path = tmp_path / "model.pkl"
    path.write_bytes(raw.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core))
    assert path.read_bytes().count(core + b".") == 1
    assert torch.equal(read_checkpoint(path).state_dict["weight"], torch.from_numpy(STATE["weight"]))


def python_2(protocol: int) -> bytes:
    """{"model": {"w": array([1., -2.], float32)}, "name": "caf\\xe9"} as Python 2.7 with numpy 1.16 writes it."""
    raw = np.array([1, -2], "<f4").tobytes()
    if protocol == 0:
        numbers = repr(raw)[1:]
        return (
            "(dp1\nS'model'\np2\n(dp3\nS'w'\np4\ncnumpy.core.multiarray\n_reconstruct\np5\n(cnumpy\nndarray\np6\n(I0\n"
            "tp7\nS'b'\np8\ntp9\nRp10\n(I1\n(I2\ntp11\ncnumpy\ndtype\np12\n(S'f4'\np13\nI0\nI1\ntp14\nRp15\n(I3\nS'<'\n"
            f"p16\nNNNI-1\nI-1\nI0\ntp17\nbI00\nS{numbers}\np18\ntp19\nbssS'name'\np20\nS'caf\\xe9'\np21\ns."
        ).encode("latin1")
    return (
        b"\x80\x02}q\x01(U\x05modelq\x02}q\x03U\x01wq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06"
        b"K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02\x85cnumpy\ndtype\nq\x08U\x02f4K\x00K\x01\x87Rq\x09(K\x03U\x01<NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + raw + b"tbsU\x04nameq\x0aU\x04caf\xe9q\x0bu."
    )


@pytest.mark.parametrize("protocol", [0, 2])
def test_python_2s_pickles(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(python_2(protocol))
    assert pickle.loads(python_2(protocol), encoding="latin1")["model"]["w"].tolist() == [1, -2]  # a genuine one
    checkpoint = read_checkpoint(path)
    assert checkpoint.state_dict["w"].tolist() == [1, -2]
    assert checkpoint.extras["name"] == "café"


def test_the_content_tells_and_not_the_name(tmp_path: Path) -> None:
    path = written(tmp_path / "weights.pth", zoo(STATE))
    assert read_checkpoint(path).kind == "pickle"
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pkl", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.ones(2)}, tmp_path / "new.pkl")
    assert read_checkpoint(tmp_path / "old.pkl").kind == read_checkpoint(tmp_path / "new.pkl").kind == "torch"


def test_a_backbone_is_read_from_one(tmp_path: Path) -> None:
    model = vit_mini()
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    loaded = create_backbone("mae_vit_mini", written(tmp_path / "encoder.pkl", {"model": arrays}))
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_arrays_are_not_copied(tmp_path: Path) -> None:
    """Not even where they are converted to tensors; a hundred MB of them take little more while they are read."""
    import tracemalloc

    path = written(tmp_path / "large.pkl", {f"w{index}": np.ones(2_500_000, np.float32) for index in range(4)})
    tracemalloc.start()
    checkpoint = read_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(checkpoint.state_dict) == 4 and peak < 1.3 * 40_000_000


class Calls:
    def __init__(self, function: Any, *arguments: Any, state: object = None) -> None:
        self.call = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_one_that_would_run_code_is_refused_by_what_it_asks_for(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "bad.pkl", tmp_path / "trace"
    written(path, {"model": {"weight": STATE["weight"], "more": Runs(trace)}}, protocol)
    with pytest.raises(
        InputError, match=r"bad.pkl: refused, nothing of it was run. .* it asks for posix.mkdir"
    ) as caught:
        read_checkpoint(path)
    assert not trace.exists() and "\n" not in str(caught.value)
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it was a live one


@pytest.mark.parametrize(
    "content",
    [
        os.system,
        Calls(getattr, "text", "upper"),
        Calls(eval, "1"),
        Calls(np.load, "file.npy"),
        torch.ones(2),
        np.random.default_rng(0),
        Path("x"),
    ],
)
def test_nothing_but_numpys_arrays_is_built(tmp_path: Path, content: Any) -> None:
    path = written(tmp_path / "bad.pkl", {"model": content})
    with pytest.raises(InputError, match="refused, nothing of it was run"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (np.array(["a", None], dtype=object), "an array of 'O8', and not of numbers"),
        (np.array(["text"]), "an array of 'U4', and not of numbers"),
        (np.zeros(2, [("a", "f4")]), "an array of 'V4', and not of numbers"),
        (Calls(np.dtype, "f4", False, True, state=(3, "!", None, None, None, -1, -1, 0)), "the byte order '!'"),
    ],
)
def test_arrays_of_other_things_are_refused(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        read_checkpoint(written(tmp_path / "bad.pkl", {"model": {"w": content}}))
    assert "nothing of it was run" in str(caught.value) and "\n" not in str(caught.value)


def test_the_reader_cannot_be_changed_by_what_it_reads(tmp_path: Path) -> None:
    """BUILD on a function, and an array whose bytes are too few for its shape."""
    changing = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x0c__defaults__K\x01\x85sb."
    short = pickle.dumps({"w": np.ones((3, 4), np.float32)}, 4).replace(b"K\x03K\x04\x86", b"K\x03K\x09\x86")
    for raw, why in ((changing, "it changes what it is read by"), (short, "48 bytes for an array")):
        list(pickletools.genops(raw))
        (tmp_path / "bad.pkl").write_bytes(raw)
        with pytest.raises(InputError, match=why):
            read_checkpoint(tmp_path / "bad.pkl")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.999])
def test_truncated_ones(tmp_path: Path, protocol: int, kept: float) -> None:
    path = written(tmp_path / "model.pkl", zoo(STATE), protocol)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match=r"model.pkl: a pickle that cannot be read .* truncated, compare") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
