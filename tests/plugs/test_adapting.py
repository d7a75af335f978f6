"""adapt covers what people have, and the adapters that memspec proposes work when they are pasted."""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memspec import PlugError, adapt
from memspec.cli import main
from memspec.plugs.advising import advise, problem_of
from memspec.plugs.loading import checked, load_plug
from memspec.plugs.plug import Plug, Shape

SHAPE = Shape(6, 5, 16)


class HnswLike:
    """hnswlib.Index: ids are given, and come back first, as unsigned numbers."""

    def __init__(self, dim: int) -> None:
        self.rows: dict[int, Any] = {}

    def add_items(self, data: Any, ids: Any) -> None:
        self.rows.update(zip(ids.tolist(), data))

    def knn_query(self, data: Any, k: int = 1) -> tuple[Any, Any]:
        ids = np.array(list(self.rows))
        scores = data @ np.stack(list(self.rows.values())).T
        return ids[scores.argmax(1)][:, None].astype("uint64"), scores.max(1)[:, None]


class UsearchLike(HnswLike):
    """usearch.index.Index: a single row is answered in another form than several."""

    add_items = knn_query = None  # type: ignore[assignment]

    def __init__(self, ndim: int = 0) -> None:
        super().__init__(ndim)
        self.ndim = ndim

    def add(self, keys: Any, vectors: Any) -> None:
        HnswLike.add_items(self, vectors, keys)

    def search(self, vectors: Any, count: int) -> Any:
        keys = HnswLike.knn_query(self, vectors)[0]
        return SimpleNamespace(keys=keys[0] if len(keys) == 1 else keys)


class ChromaLike(HnswLike):
    """A collection of chromadb: ids are strings, everything is lists."""

    add_items = knn_query = None  # type: ignore[assignment]

    def add(self, ids: list[str], embeddings: list[list[float]]) -> None:
        HnswLike.add_items(self, np.array(embeddings, dtype="float32"), np.array([int(i) for i in ids]))

    def query(self, query_embeddings: list[list[float]], n_results: int) -> dict[str, Any]:
        found = HnswLike.knn_query(self, np.array(query_embeddings, dtype="float32"))[0]
        return {"ids": [[str(i)] for i in found[:, 0]]}

    def upsert(self) -> None: ...


def faiss_index(key_dim: int) -> Any:
    return importlib.import_module("faiss").IndexFlatIP(key_dim)


def neighbours() -> Any:
    return importlib.import_module("sklearn.neighbors").NearestNeighbors()


def estimator(name: str, **arguments: Any) -> Callable[[], Any]:
    module, _, attribute = name.rpartition(".")
    return lambda: getattr(importlib.import_module(f"sklearn.{module}"), attribute)(**arguments)


class Layer(nn.Module):
    """A batch-first layer with one width."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.d_model = d_model
        self.clear()

    def clear(self) -> None:
        self.matrix = torch.zeros(1, self.d_model, self.d_model)

    def write(self, keys: Tensor, values: Tensor) -> None:
        self.matrix = self.matrix + keys.transpose(1, 2) @ values

    def forward(self, keys: Tensor) -> Tensor:
        return torch.bmm(keys, self.matrix) * self.scale


class Sums:
    """A matrix of one type of number, which takes no other."""

    dtype, as_numpy = torch.float32, False

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.matrix: Any = torch.zeros(key_dim, value_dim, dtype=self.dtype)
        if self.as_numpy:
            self.matrix = self.matrix.numpy()

    def reset(self) -> None:
        self.matrix[:] = 0

    def update(self, keys: Any, values: Any) -> None:
        self.matrix += keys.T @ values

    def query(self, keys: Any) -> Any:
        return keys @ self.matrix


class Doubles(Sums):
    dtype = torch.float64


class Arrays(Sums):
    as_numpy = True

    def update(self, keys: Any, values: Any) -> None:
        super().update(np.asarray(keys), np.asarray(values))

    def query(self, keys: Any) -> Any:
        return np.asarray(keys) @ self.matrix


class AnswersDoubles(Sums):
    def query(self, keys: Any) -> Any:
        return super().query(keys).double()


class BatchFirst(Sums):
    def update(self, keys: Any, values: Any) -> None:
        self.matrix += (keys.transpose(1, 2) @ values)[0]

    def query(self, keys: Any) -> Any:
        return torch.bmm(keys, self.matrix[None])


class OneWidth:
    """Its ways of storing and clearing have names of their own."""

    def __init__(self, dim: int) -> None:
        self.matrix = torch.zeros(dim, dim)

    def forget_all(self) -> None:
        self.matrix.zero_()

    def store(self, keys: Tensor, values: Tensor) -> None:
        self.matrix += keys.T @ values

    def recall(self, keys: Tensor) -> Tensor:
        return keys @ self.matrix


class NeverClears(OneWidth):
    forget_all = None  # type: ignore[assignment]


class AroundAGRU(nn.Module):
    """A recurrent module by its constructor and its call alone."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.recurrent = nn.GRU(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor, h: Any = None) -> Any:
        return self.recurrent(x, h)


class TooWide(Sums):
    def query(self, keys: Any) -> Any:
        return torch.cat((super().query(keys), keys[:, :1]), 1)


class SaysNothing(Sums):
    def query(self, keys: Any) -> Any:
        return None


class Squeezes(Sums):
    def query(self, keys: Any) -> Any:
        return super().query(keys).squeeze(0)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def reset(self) -> None: ...
    @abc.abstractmethod
    def update(self, keys: Any, values: Any) -> None: ...
    @abc.abstractmethod
    def query(self, keys: Any) -> Any: ...


class Needy:
    def __init__(self, dim: int, path: str) -> None: ...
    def add(self, keys: Any, values: Any) -> None: ...
    def search(self, keys: Any) -> None: ...


EXACT = {
    "hnswlib": adapt(HnswLike, kind="index", arguments={"dim": "key_dim"}),
    "usearch": adapt(UsearchLike, kind="index", arguments={"ndim": "key_dim"}),
    "chromadb": adapt(lambda: ChromaLike(0), kind="index"),
    "faiss": adapt(faiss_index, kind="index"),
    "neighbours": adapt(neighbours, kind="index"),
    "own calls": adapt(
        lambda: HnswLike(0),
        kind="index",
        update=lambda index, numbers, vectors: index.add_items(vectors, numbers),
        query=lambda index, vectors: index.knn_query(vectors)[0],
    ),
    "fit": adapt(estimator("neighbors.KNeighborsRegressor", n_neighbors=1), kind="estimator"),
    "dict": adapt(dict, kind="mapping"),
}


@pytest.mark.parametrize("name", EXACT)
def test_stores_recall_every_pair_and_forget_with_reset(name: str) -> None:
    if name == "faiss":
        pytest.importorskip("faiss")
    memory = Plug(name, EXACT[name]).build(SHAPE)
    keys, values = torch.eye(6)[:4], torch.randn(4, 5)
    assert torch.equal(memory.query(keys), torch.zeros(4, 5))
    memory.update(keys[:3], values[:3])
    memory.update(keys[3:], values[3:])
    memory.update(keys[:0], values[:0])
    kept = values.clone()
    values.zero_()  # the caller's rows may change
    assert torch.allclose(memory.query(keys), kept, atol=1e-6)
    assert torch.allclose(memory.query(keys[2:3]), kept[2:3], atol=1e-6)
    assert memory.query(keys[:0]).shape == (0, 5)
    with pytest.raises(ValueError, match="key_dim is 6"):
        memory.update(keys[:, :5], kept)
    with pytest.raises(ValueError, match="4 keys and 3 values"):
        memory.update(keys, kept[:3])
    memory.reset()
    assert torch.equal(memory.query(keys), torch.zeros(4, 5))


def test_partial_fit_gets_each_batch_once() -> None:
    batches = []

    class Online:
        def partial_fit(self, x: Any, y: Any) -> None:
            batches.append((x.shape, y.shape))

        def predict(self, x: Any) -> Any:
            return np.ones(len(x))

    memory = adapt(Online, kind="estimator")(key_dim=3, value_dim=1)
    memory.update(torch.ones(2, 3), torch.ones(2, 1))
    memory.update(torch.ones(4, 3), torch.ones(4, 1))
    assert batches == [((2, 3), (2,)), ((4, 3), (4,))]
    assert torch.equal(memory.query(torch.ones(2, 3)), torch.ones(2, 1))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.GRUCell, nn.LSTMCell])
def test_a_recurrent_module_is_written_step_by_step_and_read_without_a_trace(kind: Any) -> None:
    factory = adapt(kind, kind="recurrent", arguments={"input_size": "row", "hidden_size": "value_dim"})
    memory = Plug("recurrent", factory).build(SHAPE)
    keys, values = torch.randn(4, 6), torch.randn(4, 5)
    before = memory.query(keys)
    memory.update(keys, values)
    after = memory.query(keys)
    assert not torch.allclose(before, after)
    assert torch.equal(memory.query(keys), after)
    memory.reset()
    assert torch.equal(memory.query(keys), before)
    steps = Plug("recurrent", factory).build(SHAPE)
    for n in range(4):
        steps.update(keys[n : n + 1], values[n : n + 1])
    assert torch.allclose(steps.query(keys), after, atol=1e-6)


def test_a_module_of_one_width_is_square_and_keeps_its_parameters_and_gradients() -> None:
    factory = adapt(Layer, update="write", query="forward", reset="clear", arguments={"d_model": "dim"}, batched=True)
    plug = checked(Plug("layer", factory))
    assert plug.accepts == {"key_dim", "value_dim"}
    assert plug.widths.square
    assert plug.parameter_count == 1
    memory = plug.build(plug.shape(6, 5))
    keys = torch.eye(6, requires_grad=True)
    memory.update(keys.detach(), torch.eye(6))
    assert torch.equal(memory.query(keys).detach(), torch.eye(6))
    assert memory.query(keys).requires_grad


def test_a_checkpoint_of_one_width_is_found_to_have_it() -> None:
    """What else its width must be is found when it is loaded, as for any memory."""

    class Checkpoint(Layer):
        def __init__(self, d_model: int) -> None:
            assert d_model == 128, "trained at 128"
            super().__init__(d_model)

    arguments = {"d_model": "dim"}
    factory = adapt(Checkpoint, update="write", query="forward", reset="clear", arguments=arguments, batched=True)
    plug = checked(Plug("checkpoint", factory))
    shape = plug.shape(6, 5)
    assert (shape.key_dim, shape.value_dim) == (128, 128)


def test_wrong_uses_of_adapt_are_told() -> None:
    with pytest.raises(PlugError, match="kind is 'vector'; there are methods, index"):
        adapt(dict, kind="vector")  # type: ignore[arg-type]
    with pytest.raises(PlugError, match="name the dimensions width; there are key_dim"):
        adapt(Layer, arguments={"d_model": "width"})
    with pytest.raises(PlugError, match="looks like no vector index"):
        adapt(dict, kind="index")(key_dim=3, value_dim=3)
    arrays = adapt(Arrays)(key_dim=3, value_dim=3)
    with pytest.raises(TypeError, match=r"answered a numpy.ndarray, not a tensor: adapt\(..., numpy=True\)"):
        arrays.query(torch.eye(3))


# ---- proposals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("Arrays", "numpy=True"),
        ("Doubles", "dtype=torch.float64"),
        ("AnswersDoubles", "dtype=torch.float32"),
        ("BatchFirst", "batched=True"),
    ],
)
def test_a_memory_of_other_rows_is_refused_with_the_adapter_that_mends_it(
    name: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlugError) as refused:
        load_plug(f"{__file__}:{name}")
    head, _, paste = str(refused.value).partition("\n\n")
    assert option in paste
    assert len(head.splitlines()) <= 5
    assert len(str(refused.value).splitlines()) <= 12
    assert "Save it as adapted.py; then the memory is adapted.py:Adapted" in head
    pasted(paste, tmp_path)


def pasted(text: str, folder: Path) -> None:
    """The proposal works: saved as a file, loaded, and the memory keeps what it is given."""
    file = folder / "adapted.py"
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    file.write_text("\n".join(line[indent:] for line in lines) + "\n")
    plug = load_plug(f"{file}:Adapted")
    assert problem_of(plug) == ""
    memory = plug.build(plug.shape())
    keys = torch.eye(plug.shape().key_dim)[:3]
    values = torch.randn(3, plug.shape().value_dim)
    memory.update(keys, values)
    if "recurrent" not in text:
        assert torch.allclose(memory.query(keys), values, atol=1e-5)
    memory.reset()


@pytest.mark.parametrize(
    "name",
    ["HnswLike", "UsearchLike", "Layer", "Arrays", "Doubles", "AnswersDoubles", "BatchFirst", "OneWidth", "AroundAGRU"],
)
def test_memspec_adapt_prints_an_adapter_that_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["adapt", f"{__file__}:{name}"]) == 0
    out = capsys.readouterr()
    assert "memspec score adapted.py:Adapted" in out.err
    pasted(out.out, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn:LSTM",
        "torch.nn:GRUCell",
        "sklearn.neighbors:NearestNeighbors",
        "sklearn.neighbors:RadiusNeighborsRegressor",
        "sklearn.neighbors:KNeighborsRegressor",
        "collections:OrderedDict",
        "faiss:IndexFlatIP",
    ],
)
def test_memspec_adapt_knows_libraries(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(name.partition(":")[0])
    monkeypatch.chdir(tmp_path)
    assert main(["adapt", name]) == 0
    pasted(capsys.readouterr().out, tmp_path)


@pytest.mark.parametrize("name", ["TooWide", "SaysNothing"])
def test_answers_that_no_conversion_mends_are_refused_once(name: str) -> None:
    """At loading, in five lines and what to write; an answer that is wrong to one row alone is for the laws to tell."""
    with pytest.raises(PlugError, match="It is so at every width") as refused:
        load_plug(f"{__file__}:{name}")
    head, _, paste = str(refused.value).partition("\n\n")
    assert len(head.splitlines()) == 2
    assert f"adapt({name}, reset=" in paste
    assert len(paste.splitlines()) == 3
    load_plug(f"{__file__}:Squeezes")


def test_an_abstract_class_is_refused_by_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    said = "Abstract is abstract, it has no query, reset, update; name a class that inherits from it"
    assert main(["adapt", f"{__file__}:Abstract"]) == 2
    out = capsys.readouterr()
    assert not out.out
    assert said in out.err
    with pytest.raises(PlugError, match=said) as refused:
        load_plug(f"{__file__}:Abstract")
    assert "A factory that would work" not in str(refused.value)


def test_the_method_that_clears_is_found_and_where_there_is_none_that_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["adapt", f"{__file__}:OneWidth"]) == 0
    out = capsys.readouterr()
    assert 'reset="forget_all"' in out.out
    assert "builds it anew" not in out.err
    assert main(["adapt", f"{__file__}:NeverClears"]) == 0
    out = capsys.readouterr()
    assert "reset=" not in out.out
    assert "no method of NeverClears is seen to clear it, so reset builds it anew" in out.err


def test_what_cannot_be_guessed_is_left_to_fill_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", f"{__file__}:Needy"]) == 1
    out = capsys.readouterr()
    assert "return Needy(path=...)" in out.out
    assert "fill in path" in out.err
    assert advise(Needy).missing == ("path",)


@pytest.mark.parametrize("kind", ["estimator", "index", "mapping"])
def test_the_type_of_number_holds_for_every_kind(kind: Any) -> None:
    seen = set()

    class Store(dict):  # type: ignore[type-arg]
        """All three kinds in one: it notes the types that it is given."""

        def fit(self, keys: Any, values: Any) -> None:
            seen.update({keys.dtype, values.dtype})

        def predict(self, keys: Any) -> Any:
            seen.add(keys.dtype)
            return np.zeros((len(keys), SHAPE.value_dim))

        def __setitem__(self, key: bytes, value: Any) -> None:
            seen.update({value.dtype, np.frombuffer(key).dtype})
            assert len(np.frombuffer(key)) == SHAPE.key_dim  # eight bytes each

        def find(self, keys: Any) -> Any:
            seen.add(keys.dtype)
            return np.zeros(len(keys))

    own: dict[str, Any] = {}
    if kind == "index":
        own = {"update": lambda store, numbers, vectors: store.fit(vectors, vectors), "query": Store.find}
    memory = Plug("typed", adapt(Store, kind=kind, dtype=torch.float64, **own)).build(SHAPE)
    keys, values = torch.randn(3, SHAPE.key_dim), torch.randn(3, SHAPE.value_dim)
    memory.update(keys, values)
    assert memory.query(keys).dtype == torch.float32
    assert seen == {np.dtype("float64")}
