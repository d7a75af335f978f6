"""What people have instead of a memory, driven as one: objects with methods, vector indexes, estimators, dict-likes, recurrent modules.

Each kind takes the object, keys and values of one call, and knows nothing of the protocol beyond that;
:func:`memspec.adapt` puts the protocol around it. Rows come in and go out as torch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from memspec.errors import PlugError

Kind = Literal["methods", "index", "estimator", "mapping", "recurrent", "sequence"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Call = str | Callable[..., Any] | None
"""The name of a method, or a function that takes the object first."""


def called(thing: Any, call: Call, *arguments: Any) -> Any:
    """What a method of ``thing`` (by name), or a function given in its place, answers.

    Raises:
        PlugError: if there is no such method.
    """
    if call is not None and not isinstance(call, str):
        return call(thing, *arguments)
    method = getattr(thing, call or "", None)
    if not callable(method):
        raise PlugError(f"memspec.adapt: {type(thing).__name__} has no method {call!r}")
    return method(*arguments)


def array(rows: Tensor) -> Any:
    """A numpy copy: the caller may change its rows afterwards, and most stores keep what they are given."""
    return rows.detach().cpu().numpy().copy()


class Index:
    """A vector index: it finds the number of the nearest stored key; the values are kept here, by that number.

    Args:
        thing: the index.
        add, find: how to store ``(numbers [N], vectors [N, Dk])`` and to find ``[Q]`` numbers for vectors (both numpy;
            a number below 0 = nothing found); None = as its library does it, see :data:`STYLES`.
    """

    def __init__(self, thing: Any, add: Call, find: Call, value_dim: int) -> None:
        self.thing = thing
        if add is None or find is None:
            add, find = style_of(thing)
        self.add, self.find = add, find
        self.values = torch.zeros(0, value_dim)

    def update(self, keys: Tensor, values: Tensor) -> None:
        import numpy as np

        first = len(self.values)
        called(self.thing, self.add, np.arange(first, first + len(keys)), array(keys))
        self.values = torch.cat((self.values, values.detach().cpu().clone()))

    def query(self, keys: Tensor) -> Tensor:
        if not len(self.values):
            return torch.zeros(len(keys), self.values.shape[1])
        found = torch.as_tensor(called(self.thing, self.find, array(keys))).reshape(len(keys)).long()
        return self.values[found.clamp(min=0)] * (found >= 0)[:, None]


def _neighbours_add(index: Any, numbers: Any, vectors: Any) -> None:
    """scikit-learn's search structures cannot grow: they are fitted anew to all keys."""
    import numpy as np

    known = getattr(index, "_fit_X", None)
    index.fit(vectors if known is None else np.concatenate((known, vectors)))


def _unpacked(answer: Any) -> Any:
    """The best number of each row of a usearch answer, whose form depends on how many rows were asked."""
    import numpy as np

    return np.asarray(answer.keys).reshape(-1).astype("int64")


STYLES: Mapping[str, tuple[tuple[str, ...], Callable[..., Any], Callable[..., Any]]] = {
    "hnswlib": (
        ("add_items", "knn_query"),
        lambda index, numbers, vectors: index.add_items(vectors, numbers),
        lambda index, vectors: index.knn_query(vectors, k=1)[0].astype("int64"),
    ),
    "usearch": (
        ("add", "search", "ndim"),
        lambda index, numbers, vectors: index.add(numbers, vectors),
        lambda index, vectors: _unpacked(index.search(vectors, 1)),
    ),
    "faiss": (
        ("add", "search", "ntotal"),
        lambda index, numbers, vectors: index.add(vectors),
        lambda index, vectors: index.search(vectors, 1)[1],
    ),
    "chromadb": (
        ("add", "query", "upsert"),
        lambda index, numbers, vectors: index.add(ids=[str(n) for n in numbers], embeddings=vectors.tolist()),
        lambda index, vectors: [
            int(row[0]) if row else -1 for row in index.query(query_embeddings=vectors.tolist(), n_results=1)["ids"]
        ],
    ),
    "sklearn.neighbors": (
        ("fit", "kneighbors"),
        _neighbours_add,
        lambda index, vectors: index.kneighbors(vectors, n_neighbors=1, return_distance=False),
    ),
}
"""How libraries store and find: the attributes they are known by, what adds, and what finds the nearest."""


def has(thing: Any, names: Iterable[str]) -> bool:
    """Whether a thing has all of these attributes."""
    return all(getattr(thing, name, None) is not None for name in names)


def style_of(thing: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What adds to an index and what finds in it.

    Raises:
        PlugError: if it looks like none that is known; says what to give.
    """
    for attributes, add, find in STYLES.values():
        if has(thing, attributes):
            return add, find
    raise PlugError(
        f"memspec.adapt: {type(thing).__name__} looks like no vector index that is known ({', '.join(STYLES)}).\n"
        '  Say how it stores and finds: adapt(..., kind="index",\n'
        "      update=lambda index, numbers, vectors: index.add(vectors),\n"
        "      query=lambda index, vectors: index.search(vectors, 1)[1])"
    )


class Estimator:
    """A scikit-learn estimator: ``partial_fit`` where it has one, else ``fit`` to all pairs so far; then ``predict``."""

    def __init__(self, thing: Any, fit: Call, predict: Call, value_dim: int) -> None:
        self.thing, self.predict, self.value_dim = thing, predict or "predict", value_dim
        self.fit = fit or ("partial_fit" if hasattr(thing, "partial_fit") else "fit")
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor) -> None:
        pair = keys.detach().cpu().clone(), values.detach().cpu().clone()
        self.pairs = [pair] if self.fit == "partial_fit" else [*self.pairs, pair]
        fitted = [array(torch.cat(rows)) for rows in zip(*self.pairs)]
        called(self.thing, self.fit, fitted[0], fitted[1][:, 0] if self.value_dim == 1 else fitted[1])

    def query(self, keys: Tensor) -> Tensor:
        if not self.pairs:
            return torch.zeros(len(keys), self.value_dim)
        return torch.as_tensor(called(self.thing, self.predict, array(keys))).reshape(len(keys), self.value_dim)


class Table:
    """A dict-like: keys are the bytes of a row, values rows; a key that is not there is answered with zeros."""

    def __init__(self, thing: Any, put: Call, get: Call, value_dim: int) -> None:
        self.thing, self.value_dim = thing, value_dim
        self.put, self.get = put or "__setitem__", get or "__getitem__"

    def update(self, keys: Tensor, values: Tensor) -> None:
        for key, value in zip(array(keys), array(values)):
            called(self.thing, self.put, key.tobytes(), value)

    def query(self, keys: Tensor) -> Tensor:
        answers = torch.zeros(len(keys), self.value_dim)
        for row, key in enumerate(array(keys)):
            try:
                value = called(self.thing, self.get, key.tobytes())
            except KeyError:
                continue
            if value is not None:
                answers[row] = torch.as_tensor(value)
        return answers


class Recurrence:
    """A recurrent module: a pair is the step ``[key; value]``, a question the step ``[key; 0]``, which leaves no trace.

    The answer is the first ``value_dim`` entries of the output. Understood are torch's own layers and cells, memories
    with ``initial_state`` and ``step``, and modules that are called as ``(xs [1, T, Dk + Dv], state) -> (ys, state)``.
    """

    def __init__(self, thing: Any, step: Call, _: Call, value_dim: int) -> None:
        self.thing, self.step_, self.value_dim = thing, step, value_dim
        self.state: Any = thing.initial_state(1) if hasattr(thing, "initial_state") else None

    def update(self, keys: Tensor, values: Tensor) -> None:
        for row in torch.cat((keys, values), dim=-1):
            _, self.state = self._step(row[None], self.state)

    def query(self, keys: Tensor) -> Tensor:
        blank = keys.new_zeros(1, self.value_dim)
        rows = [self._step(torch.cat((row[None], blank), dim=-1), self.state)[0] for row in keys]
        return torch.cat(rows) if rows else keys.new_zeros(0, self.value_dim)

    def _step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """``x [1, Dk + Dv]`` -> ``[1, Dv]`` and the next state."""
        thing = self.thing
        if self.step_ is not None:
            y, state = called(thing, self.step_, x, state)
        elif isinstance(thing, nn.RNNCellBase):
            state = thing(x, state)
            y = state[0] if isinstance(state, tuple) else state
        elif hasattr(thing, "initial_state"):
            y, state = thing.step(x, state)
        else:
            first = getattr(thing, "batch_first", True)
            y, state = thing(x[:, None] if first else x[None], *([] if state is None else [state]))
        y = y.reshape(1, -1)
        if y.shape[1] < self.value_dim:
            raise ValueError(
                f"{type(thing).__name__} puts out {y.shape[1]} numbers a step, fewer than a value's {self.value_dim}"
            )
        return y[:, : self.value_dim], state


class Methods:
    """An object with a method that stores pairs and one that answers keys; what lies between is for ``adapt`` to convert."""

    def __init__(self, thing: Any, update: Call, query: Call, convert: Conversion) -> None:
        self.thing, self.names, self.convert = thing, (update or "update", query or "query"), convert

    def update(self, keys: Tensor, values: Tensor) -> None:
        called(self.thing, self.names[0], self.convert.given(keys), self.convert.given(values))

    def query(self, keys: Tensor) -> Tensor:
        answer = called(self.thing, self.names[1], self.convert.given(keys))
        if isinstance(answer, (tuple, list)) and not (answer and isinstance(answer[0], (int, float))):
            rows = [part for part in answer if isinstance(part, Tensor) or hasattr(part, "__array__")]
            if not rows:
                raise TypeError(
                    f"{type(self.thing).__name__}.{self.names[1]} returned {answer!r}, with no tensor in it"
                )
            answer = rows[0]
        if not isinstance(answer, Tensor) and not self.convert.numpy:
            kind = f"{type(answer).__module__}.{type(answer).__qualname__}"
            raise TypeError(f"{type(self.thing).__name__} answered a {kind}, not a tensor: adapt(..., numpy=True)")
        return self.convert.taken(torch.as_tensor(answer), keys)


class Conversion:
    """What happens to rows on their way in and out.

    Args:
        batched: a batch dimension of one is put before the rows: ``[1, N, D]``.
        numpy: rows are numpy arrays.
        dtype: the type of number that the object wants.
    """

    def __init__(self, batched: bool, numpy: bool, dtype: torch.dtype | None) -> None:
        self.batched, self.numpy, self.dtype = batched, numpy, dtype

    def given(self, rows: Tensor) -> Any:
        if self.dtype is not None:
            rows = rows.to(self.dtype)
        if self.batched:
            rows = rows[None]
        return array(rows) if self.numpy else rows

    def taken(self, answer: Tensor, keys: Tensor) -> Tensor:
        if self.batched:
            answer = answer[0]
        return answer.to(keys) if self.numpy or self.dtype is not None else answer
